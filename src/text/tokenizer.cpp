#include "text/tokenizer.h"

#include "base/file.h"
#include "text/tokenizer_impl.h"
#include "text/unicode.h"

namespace kvasir::text {

std::unique_ptr<ModelScratch> ScratchPool::take(const TokenModel& model) {
  const std::lock_guard lock(mutex_);
  if (free_.empty()) return model.make_scratch();
  std::unique_ptr<ModelScratch> scratch = std::move(free_.back());
  free_.pop_back();
  return scratch;
}

void ScratchPool::give(std::unique_ptr<ModelScratch> scratch) {
  const std::lock_guard lock(mutex_);
  free_.push_back(std::move(scratch));
}

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::load(const std::filesystem::path& tokenizer_json) {
  Result<std::string> json = read_file(tokenizer_json);
  if (!json) return json.error();
  return parse(json.value(), tokenizer_json.string());
}

Result<Tokenizer> Tokenizer::parse(std::string_view json, std::string_view origin) {
  auto impl = std::make_unique<Impl>();
  try {
    impl->parse(json, origin);
  } catch (const Error& error) {
    return error;
  }
  return Tokenizer(std::move(impl));
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  return impl_->post_processor.apply(impl_->encode(text, nullptr, options.parse_special),
                                     options.add_special_tokens);
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, ThreadPool& pool,
                                       EncodeOptions options) const {
  return impl_->post_processor.apply(impl_->encode(text, &pool, options.parse_special),
                                     options.add_special_tokens);
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  std::string out;
  Decoder::Run run(impl_->decoder, out);
  for (const TokenId id : ids) {
    if (id < 0 || id >= vocab_size()) continue;
    const auto index = static_cast<size_t>(id);
    if (impl_->decoded[index].data() == nullptr || (skip_special && impl_->special[index]))
      continue;
    run.push(impl_->decoded[index]);
  }
  run.finish();
  return out;
}

int Tokenizer::vocab_size() const { return static_cast<int>(impl_->tokens.size()); }

std::optional<TokenId> Tokenizer::token_to_id(std::string_view token) const {
  TokenId id = impl_->added_ids.find(token);
  if (id < 0) id = impl_->model->vocabulary().find(token);
  return id < 0 ? std::nullopt : std::optional(id);
}

std::string_view Tokenizer::id_to_token(TokenId id) const {
  if (id < 0 || id >= vocab_size()) return "";
  return impl_->tokens[static_cast<size_t>(id)];
}

bool Tokenizer::is_special(TokenId id) const {
  return id >= 0 && id < vocab_size() && impl_->special[static_cast<size_t>(id)];
}

struct TokenDecoder::State {
  State(const Tokenizer::Impl& tokenizer, bool skip)
      : impl(tokenizer), skip_special(skip), run(tokenizer.decoder, out) {}
  const Tokenizer::Impl& impl;
  bool skip_special;
  std::string out;
  Decoder::Run run;
};

TokenDecoder::TokenDecoder(const Tokenizer& tokenizer, bool skip_special)
    : state_(std::make_unique<State>(*tokenizer.impl_, skip_special)) {}
TokenDecoder::TokenDecoder(TokenDecoder&&) noexcept = default;
TokenDecoder& TokenDecoder::operator=(TokenDecoder&&) noexcept = default;
TokenDecoder::~TokenDecoder() = default;

std::string TokenDecoder::push(TokenId id) {
  const Tokenizer::Impl& impl = state_->impl;
  const auto index = static_cast<size_t>(id);
  if (id < 0 || index >= impl.decoded.size()) return {};
  if (impl.decoded[index].data() == nullptr) return {};
  if (state_->skip_special && impl.special[index]) return {};
  state_->run.push(impl.decoded[index]);
  return std::exchange(state_->out, {});
}

std::string TokenDecoder::finish() {
  state_->run.finish();
  return std::exchange(state_->out, {});
}

}  // namespace kvasir::text
