#include "cuda/device.h"
#include "kernels/gpu.h"

namespace kvasir {
namespace {

using Device = testing::GpuTest;

TEST_F(Device, IsDescribed) {
  EXPECT_FALSE(device_.name.empty());
  EXPECT_GT(device_.multiprocessors, 0);
  EXPECT_GE(device_.compute_capability, cuda::kOldestCapability);
  EXPECT_GT(device_.free_bytes, 0);
  EXPECT_LE(device_.free_bytes, device_.total_bytes);
}

TEST_F(Device, RefusesAnIndexThatIsNotThere) {
  const auto found = cuda::find_device(1000);
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code(), ErrorCode::kNotFound);
  EXPECT_NE(std::string(found.error().what()).find("expected GPU 1000, found"), std::string::npos);
}

TEST_F(Device, MemoryBeyondTheDeviceIsRefused) {
  try {
    cuda::DeviceMemory memory(size_t{1} << 50);
    FAIL() << "a petabyte was granted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kResourceExhausted);
  }
  cudaGetLastError();
}

}  // namespace
}  // namespace kvasir
