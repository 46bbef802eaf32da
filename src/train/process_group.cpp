#include "train/process_group.h"

#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "kvasir/error.h"
#include "train/process_group_nccl.h"

namespace kvasir::train {
namespace {

class C10dGroup final : public ProcessGroup {
 public:
  C10dGroup(c10::intrusive_ptr<c10d::Backend> backend, at::Device device)
      : backend_(std::move(backend)), device_(device) {}

  int rank() const override { return backend_->getRank(); }
  int size() const override { return backend_->getSize(); }
  void sum(at::Tensor& tensor) override {
    std::vector<at::Tensor> tensors{tensor};
    // On a GPU this makes the stream wait, not the host.
    backend_->allreduce(tensors)->wait();
  }
  void barrier() override {
    c10d::BarrierOptions options;
    if (device_.is_cuda()) options.device = device_;
    backend_->barrier(options)->wait();
  }

 private:
  c10::intrusive_ptr<c10d::Backend> backend_;
  at::Device device_;
};

c10::intrusive_ptr<c10d::Store> make_store(const ProcessGroupOptions& options) {
  const size_t colon = options.meeting.rfind(':');
  if (colon == std::string::npos)
    return c10::make_intrusive<c10d::FileStore>(options.meeting, options.size);
  c10d::TCPStoreOptions tcp;
  tcp.port = static_cast<uint16_t>(std::stoi(options.meeting.substr(colon + 1)));
  tcp.isServer = options.rank == 0;
  tcp.numWorkers = options.size;
  return c10::make_intrusive<c10d::TCPStore>(options.meeting.substr(0, colon), tcp);
}

}  // namespace

std::unique_ptr<ProcessGroup> join_process_group(const ProcessGroupOptions& options) {
  try {
    const c10::intrusive_ptr<c10d::Store> store = make_store(options);
    auto group = std::make_unique<C10dGroup>(
        options.device.is_cuda()
            ? make_nccl_backend(store, options)
            : c10::intrusive_ptr<c10d::Backend>(c10::make_intrusive<c10d::ProcessGroupGloo>(
                  store, options.rank, options.size,
                  c10d::ProcessGroupGloo::Options::create_default())),
        options.device);
    group->barrier();
    return group;
  } catch (const c10::Error& error) {
    throw Error(
        ErrorCode::kIo, error.what_without_backtrace(),
        "joining process " + std::to_string(options.rank) + " of " + std::to_string(options.size));
  }
}

}  // namespace kvasir::train
