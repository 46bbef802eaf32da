// Shards of tokens: any bytes give an error or texts that lie inside them. The checksum is made
// right first: no mutation would get past it.

#include <cstring>
#include <vector>

#include "data/shard.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace kvasir;
  std::vector<std::byte> file(size);
  if (size > 0) std::memcpy(file.data(), bytes, size);
  if (size >= data::kShardChecksumAt + 8) {
    const uint64_t checksum = data::shard_checksum(file);
    std::memcpy(file.data() + data::kShardChecksumAt, &checksum, sizeof checksum);
  }
  const auto content = data::parse_shard(file, "fuzz");
  if (!content) return 0;
  for (const data::ShardText& text : content.value().texts) {
    fuzz::check(text.tokens.size() <= static_cast<int64_t>(size), "tokens within the file");
    std::vector<int32_t> tokens(static_cast<size_t>(text.tokens.size()));
    text.tokens.copy(0, tokens);
  }
  return 0;
}
