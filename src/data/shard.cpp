#include "data/shard.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>

#include "base/check.h"

namespace kvasir::data {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr char kMagic[8] = {'K', 'V', 'S', 'H', 'A', 'R', 'D', '\n'};
constexpr uint32_t kVersion = 1;
constexpr size_t kAlignment = 64, kSourceBytes = 64;
// Beyond any sensible file, and far from where sums of sizes overflow.
constexpr uint64_t kMostTexts = uint64_t{1} << 32, kMostTokens = uint64_t{1} << 48;

struct Header {
  char magic[8];
  uint32_t version, token_bytes;
  uint64_t texts, tokens, name_bytes;
  uint64_t checksum;
  uint64_t reserved[2];
};
static_assert(sizeof(Header) == 64 && offsetof(Header, checksum) == kShardChecksumAt);

uint64_t padded(uint64_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }

// Where the tokens begin.
uint64_t tokens_at(const Header& header) {
  return padded(sizeof(Header) + kSourceBytes + header.texts * (8 + 4) + header.name_bytes);
}

// A checksum of bytes that come in pieces: four lanes, so that it runs at the speed of memory.
class Checksum {
 public:
  void add(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      if (filled_ == 0 && bytes.size() >= kBlock) {
        block(bytes.data());
        bytes = bytes.subspan(kBlock);
        continue;
      }
      const size_t part = std::min(bytes.size(), kBlock - filled_);
      std::memcpy(open_ + filled_, bytes.data(), part);
      bytes = bytes.subspan(part);
      filled_ += part;
      if (filled_ < kBlock) return;
      block(open_);
      filled_ = 0;
    }
  }

  uint64_t value() {
    std::memset(open_ + filled_, 0, kBlock - filled_);
    block(open_);
    uint64_t sum = blocks_ * kBlock + filled_;
    for (const uint64_t lane : lanes_) sum = std::rotl(sum ^ lane, 29) * kMultiplier;
    return sum ^ sum >> 32;
  }

 private:
  static constexpr size_t kBlock = 32;
  static constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15ull;

  void block(const std::byte* bytes) {
    for (size_t i = 0; i < 4; ++i) {
      uint64_t word;
      std::memcpy(&word, bytes + 8 * i, 8);
      lanes_[i] = std::rotl(lanes_[i] ^ word, 31) * kMultiplier;
    }
    ++blocks_;
  }

  uint64_t lanes_[4] = {1, 2, 3, 4};
  uint64_t blocks_ = 0;
  std::byte open_[kBlock];
  size_t filled_ = 0;
};

template <class T>
T read_at(std::span<const std::byte> file, uint64_t at) {
  T value;
  std::memcpy(&value, file.data() + at, sizeof value);
  return value;
}

// Everything in front of the tokens but for the checksum.
std::string head_bytes(const Header& header, std::string_view source,
                       std::span<const TextToWrite> texts) {
  std::string head(reinterpret_cast<const char*>(&header), sizeof header);
  head += source;
  const auto put = [&head](auto value) {
    head.append(reinterpret_cast<const char*>(&value), sizeof value);
  };
  uint64_t end = 0;
  for (const TextToWrite& text : texts) put(end += text.tokens.size());
  for (const TextToWrite& text : texts) put(static_cast<uint32_t>(text.name.size()));
  for (const TextToWrite& text : texts) head += text.name;
  head.resize(tokens_at(header), '\0');
  return head;
}

// The tokens in the file's form.
template <class Stored>
void for_each_piece(std::span<const TextToWrite> texts, auto&& take) {
  std::vector<Stored> stored;
  for (const TextToWrite& text : texts) {
    stored.assign(text.tokens.begin(), text.tokens.end());
    take(std::as_bytes(std::span(stored)));
  }
}

void for_each_piece(std::span<const TextToWrite> texts, uint32_t token_bytes, auto&& take) {
  if (token_bytes == 2) return for_each_piece<uint16_t>(texts, take);
  for_each_piece<uint32_t>(texts, take);
}

Result<Header> parse_header(std::span<const std::byte> file, std::string_view origin) {
  const auto malformed = [&](std::string expected, std::string found) {
    return Error(ErrorCode::kMalformed, "expected " + expected + ", found " + found,
                 std::string(origin));
  };
  if (file.size() < sizeof(Header) + kSourceBytes ||
      std::memcmp(file.data(), kMagic, sizeof kMagic) != 0)
    return malformed("a shard of tokens", "other bytes");
  const auto header = read_at<Header>(file, 0);
  if (header.version != kVersion)
    return malformed(fmt::format("version {}", kVersion), fmt::format("{}", header.version));
  if (header.token_bytes != 2 && header.token_bytes != 4)
    return malformed("tokens of 2 or 4 bytes", fmt::format("{}", header.token_bytes));
  if (header.texts > kMostTexts || header.tokens > kMostTokens || header.name_bytes > file.size())
    return malformed("sizes within the file", "larger ones");
  const uint64_t expected = tokens_at(header) + header.tokens * header.token_bytes;
  if (file.size() != expected)
    return malformed(fmt::format("{} bytes", expected), fmt::format("{}", file.size()));
  return header;
}

}  // namespace

void TokenView::copy(int64_t first, std::span<int32_t> out) const {
  KVASIR_CHECK(first >= 0 && first + static_cast<int64_t>(out.size()) <= size_);
  const std::byte* from = data_ + first * token_bytes_;
  if (token_bytes_ == 4) {
    if (!out.empty()) std::memcpy(out.data(), from, out.size_bytes());
    return;
  }
  for (size_t i = 0; i < out.size(); ++i) {
    uint16_t token;
    std::memcpy(&token, from + 2 * i, 2);
    out[i] = token;
  }
}

uint64_t shard_checksum(std::span<const std::byte> file) {
  Checksum checksum;
  checksum.add(file.subspan(std::min(file.size(), sizeof(Header))));
  return checksum.value();
}

Result<ShardContent> parse_shard(std::span<const std::byte> file, std::string_view origin) {
  const auto parsed = parse_header(file, origin);
  if (!parsed) return parsed.error();
  const Header& header = parsed.value();
  const auto malformed = [&](const char* message) {
    return Error(ErrorCode::kMalformed, message, std::string(origin));
  };
  if (shard_checksum(file) != header.checksum)
    return malformed("expected bytes of the checksum in front, found others: the file is damaged");

  ShardContent content;
  content.source.assign(reinterpret_cast<const char*>(file.data()) + sizeof(Header), kSourceBytes);
  const uint64_t ends_at = sizeof(Header) + kSourceBytes;
  const uint64_t sizes_at = ends_at + 8 * header.texts;
  uint64_t name_at = sizes_at + 4 * header.texts;
  const uint64_t names_end = name_at + header.name_bytes;
  const std::byte* tokens = file.data() + tokens_at(header);
  uint64_t begin = 0;
  for (uint64_t i = 0; i < header.texts; ++i) {
    const auto end = read_at<uint64_t>(file, ends_at + 8 * i);
    const auto name_size = read_at<uint32_t>(file, sizes_at + 4 * i);
    if (end < begin || end > header.tokens) return malformed("expected texts one after another");
    if (name_size > names_end - name_at) return malformed("expected names within their place");
    content.texts.push_back(
        {std::string(reinterpret_cast<const char*>(file.data()) + name_at, name_size),
         TokenView(tokens + begin * header.token_bytes, static_cast<int>(header.token_bytes),
                   static_cast<int64_t>(end - begin))});
    name_at += name_size;
    begin = end;
  }
  if (begin != header.tokens || name_at != names_end)
    return malformed("expected texts and names that fill their place");
  return content;
}

Result<Shard> Shard::open(const std::filesystem::path& path) {
  auto file = MappedFile::open(path);
  if (!file) return file.error();
  auto content = parse_shard(file.value().bytes(), path.string());
  if (!content) return content.error();
  return Shard(std::move(file).value(), std::move(content).value());
}

Result<void> write_shard(const std::filesystem::path& path, std::string_view source,
                         std::span<const TextToWrite> texts, int64_t vocab_size) {
  KVASIR_CHECK(source.size() == kSourceBytes);
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.token_bytes = vocab_size <= 65536 ? 2 : 4;
  header.texts = texts.size();
  for (const TextToWrite& text : texts) {
    header.tokens += text.tokens.size();
    header.name_bytes += text.name.size();
  }
  std::string head = head_bytes(header, source, texts);
  Checksum checksum;
  checksum.add(std::as_bytes(std::span(head)).subspan(sizeof header));
  for_each_piece(texts, header.token_bytes,
                 [&](std::span<const std::byte> bytes) { checksum.add(bytes); });
  header.checksum = checksum.value();
  std::memcpy(head.data(), &header, sizeof header);

  auto file = AtomicFile::create(path);
  if (!file) return file.error();
  Result<void> written = file.value().write(head);
  for_each_piece(texts, header.token_bytes, [&](std::span<const std::byte> bytes) {
    if (written) written = file.value().write(bytes);
  });
  if (!written) return written;
  return file.value().commit();
}

}  // namespace kvasir::data
