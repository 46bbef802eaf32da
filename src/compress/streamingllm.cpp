#include "compress/streamingllm.h"

#include <algorithm>
#include <numeric>

#include "compress/options.h"

namespace kvasir::compress {
namespace {

constexpr int64_t kInit = 128, kLocal = 3968;  // SCBench's setting

class StreamingLlm final : public Compressor {
 public:
  StreamingLlm(int64_t init, int64_t local, ModelShape model, bool is_rolling)
      : Compressor(std::move(model), is_rolling), init_(init), local_(local) {}

  int64_t query_rows() const override { return 0; }

 protected:
  int64_t capacity(int, int64_t) const override { return init_ + local_; }
  void select_entries(const EvictionSite& site, int64_t count,
                      std::span<int32_t> kept) const override {
    for (int head = 0; head < site.pages.kv_heads; ++head) {
      const auto first = kept.begin() + head * count;
      std::iota(first, first + init_, 0);
      std::iota(first + init_, first + count, static_cast<int32_t>(site.entries - local_));
    }
  }

 private:
  const int64_t init_, local_;
};

}  // namespace

Result<std::shared_ptr<const Compressor>> make_streamingllm(const MethodChoice& choice,
                                                            const ModelShape& model) {
  return std::shared_ptr<const Compressor>(std::make_shared<StreamingLlm>(
      whole_option(choice, "init", kInit), whole_option(choice, "local", kLocal), model,
      is_rolling(choice)));
}

}  // namespace kvasir::compress
