// A tokenizer.json, and behind a NUL a text for it: encoding ends, decoding by token gives UTF-8
// and the same as decoding at once.

#include <vector>

#include "fuzz.h"
#include "kvasir/error.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

using kvasir::fuzz::check;

namespace {

constexpr size_t kMaxText = 512;

void try_out(const kvasir::text::Tokenizer& tokenizer, std::string_view text) {
  const auto ids = tokenizer.encode(text);
  for (const auto id : ids) check(id >= 0 && id < tokenizer.vocab_size(), "an id of a token");
  for (const bool skip_special : {true, false}) {
    const std::string whole = tokenizer.decode(ids, skip_special);
    check(kvasir::text::is_valid_utf8(whole), "decoded text is UTF-8");
    kvasir::text::TokenDecoder decoder(tokenizer, skip_special);
    std::string parts;
    for (const auto id : ids) {
      const std::string part = decoder.push(id);
      check(kvasir::text::is_valid_utf8(part), "a part is UTF-8");
      parts += part;
    }
    check(parts + decoder.finish() == whole, "parts make the whole");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto [json, text] = kvasir::fuzz::halves(data, size);
  const auto tokenizer = kvasir::text::Tokenizer::parse(json, "fuzz");
  if (!tokenizer) {
    check(!tokenizer.error().message().empty(), "an error says what is wrong");
    return 0;
  }
  try {
    try_out(tokenizer.value(), text.substr(0, kMaxText));
  } catch (const kvasir::Error& error) {
    check(error.code() == kvasir::ErrorCode::kResourceExhausted, "only limits fail");
  }
  return 0;
}
