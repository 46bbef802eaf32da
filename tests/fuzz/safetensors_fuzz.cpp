// Any bytes as a safetensors file; then the same bytes as a header whose length is right, so that
// mutations reach beyond the length check.

#include <cstring>
#include <string>

#include "formats/safetensors.h"
#include "fuzz.h"

namespace {

void parse(std::span<const std::byte> file) {
  std::map<std::string, std::string> metadata;
  const auto tensors = kvasir::formats::parse_safetensors(file, "fuzz", &metadata);
  if (!tensors) {
    kvasir::fuzz::check(!tensors.error().message().empty(), "an error says what is wrong");
    return;
  }
  for (const auto& tensor : tensors.value()) {
    kvasir::fuzz::check(tensor.data.empty() ||
                            (tensor.data.data() >= file.data() &&
                             tensor.data.data() + tensor.data.size() <= file.data() + file.size()),
                        "data lies inside the file");
    kvasir::fuzz::check(tensor.elements() >= 0, "a number of elements");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  parse(std::as_bytes(std::span(data, size)));
  std::string file(8, '\0');
  const uint64_t header = size;
  std::memcpy(file.data(), &header, sizeof header);
  file.append(reinterpret_cast<const char*>(data), size);
  file.append(64, '\1');
  parse(std::as_bytes(std::span(file)));
  return 0;
}
