#include "kvasir/engine.h"

#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <future>
#include <mutex>

#include "base/thread_pool.h"
#include "engine/auto_prefill.h"
#include "engine/backend.h"
#include "engine/load_model.h"
#include "engine/loop.h"
#include "engine/scorer.h"
#include "engine/stages.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace kvasir {
namespace {

using Clock = std::chrono::steady_clock;

class TokenizerDetokenizer final : public engine::Detokenizer {
 public:
  explicit TokenizerDetokenizer(const text::Tokenizer& tokenizer) : decoder_(tokenizer) {}
  std::string push(TokenId token) override { return decoder_.push(token); }
  std::string finish() override { return decoder_.finish(); }

 private:
  text::TokenDecoder decoder_;
};

// For models without a tokenizer: tokens only.
class NoText final : public engine::Detokenizer {
 public:
  std::string push(TokenId) override { return {}; }
  std::string finish() override { return {}; }
};

}  // namespace

ModelInfo inspect(const EngineOptions& options) { return engine::resolve_model(options).info; }

struct Answer::Impl {
  engine::Submission submission;
  // The loop may be gone before the answer; it is asked only while the engine lives.
  std::weak_ptr<engine::Loop> loop;
};

Answer::Answer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Answer::Answer(Answer&&) noexcept = default;
Answer& Answer::operator=(Answer&& other) noexcept {
  Answer replaced(std::move(*this));  // cancelled like any answer that is destroyed
  impl_ = std::move(other.impl_);
  return *this;
}
Answer::~Answer() {
  if (impl_ && !impl_->submission.events->ended()) cancel();
}

bool Answer::next(Event& event) {
  if (impl_->submission.events->ended()) return false;
  event = impl_->submission.events->next();
  return true;
}

bool Answer::next(std::optional<Event>& event, int64_t timeout_ms) {
  event.reset();
  engine::EventStream& events = *impl_->submission.events;
  if (events.ended()) return false;
  if (events.wait_for(std::chrono::milliseconds(timeout_ms))) event = events.try_next();
  return true;
}

void Answer::cancel() {
  if (const auto loop = impl_->loop.lock()) loop->cancel(impl_->submission.id);
}

RequestId Answer::id() const { return impl_->submission.id; }

struct Engine::Impl {
  engine::ResolvedModel model;
  EngineOptions options;
  std::optional<text::Tokenizer> tokenizer;
  std::optional<Error> tokenizer_error;
  std::optional<text::ChatTemplate> chat_template;
  std::optional<Error> template_error;
  std::unique_ptr<ThreadPool> pool;
  std::unique_ptr<engine::Backend> backend;

  // The loop and what belongs to its thread; made at the first request, taken down by score().
  std::mutex mutex;
  std::unique_ptr<kv::KvManager> kv;
  std::unique_ptr<engine::Executor> executor;
  std::shared_ptr<engine::Loop> loop;

  void load_text(const std::filesystem::path& folder);
  const text::Tokenizer& need_tokenizer() const {
    if (!tokenizer) throw *tokenizer_error;
    return *tokenizer;
  }
  void start_loop();
  void stop_loop();
};

// The tokenizer and the chat template; what is not there is missed when it is asked for.
void Engine::Impl::load_text(const std::filesystem::path& folder) {
  if (auto found = text::Tokenizer::load(folder / "tokenizer.json"))
    tokenizer = std::move(found).value();
  else if (found.error().code() == ErrorCode::kNotFound)
    tokenizer_error = found.error();
  else
    throw found.error();
  if (auto found = text::ChatTemplate::load(folder))
    chat_template = std::move(found).value();
  else if (found.error().code() == ErrorCode::kNotFound)
    template_error = found.error();
  else
    throw found.error();
}

void Engine::Impl::start_loop() {
  if (loop) return;
  kv = std::make_unique<kv::KvManager>(model.geometry, model.blocks, backend->page_memory());
  executor = backend->make_executor(*kv, model.scratch);
  engine::LoopOptions settings;
  settings.model = engine::planner_shape(options, model.config);
  settings.auto_prefill =
      std::make_shared<engine::AutoPrefill>(options.model, engine::auto_device(model.info));
  settings.layer_windows = model.config.sliding_window;
  settings.chunk_tokens = model.chunk;
  settings.step_tokens = model.scratch.max_rows;
  settings.max_sequences = options.max_sequences;
  settings.deterministic = options.deterministic;
  settings.end_tokens = model.info.end_tokens;
  settings.domain = engine::model_domain(model.info.path, model.info.dtype);
  if (model.config.rope.scaling == formats::RopeScaling::kDynamic)
    settings.dynamic_rope_from = model.config.max_positions;
  if (model.config.rope.scaling == formats::RopeScaling::kLongRope)
    settings.long_rope_from = model.config.rope.original_max_positions;
  if (tokenizer)
    settings.make_detokenizer = [this] {
      return std::make_unique<TokenizerDetokenizer>(*tokenizer);
    };
  else
    settings.make_detokenizer = [] { return std::make_unique<NoText>(); };
  loop = std::make_shared<engine::Loop>(*executor, *kv, std::move(settings));
  loop->start();
}

// An answer that is just cancelling may hold the loop a little longer; a stopped loop no longer
// asks for the executor or the KV.
void Engine::Impl::stop_loop() {
  if (loop) loop->stop();
  loop.reset();
  executor.reset();
  kv.reset();
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Engine::~Engine() { impl_->stop_loop(); }

std::unique_ptr<Engine> Engine::load(const EngineOptions& options) {
  const auto start = Clock::now();
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  // Beside the weights: a large vocabulary takes as long to read.
  std::future<void> text =
      std::async(std::launch::async, [&impl = *impl, &options] { impl.load_text(options.model); });
  impl->model = engine::resolve_model(options);
  impl->pool = std::make_unique<ThreadPool>(impl->model.threads);
  impl->backend = engine::load_backend(
      *impl->pool, impl->model,
      std::make_shared<models::FileWeights>(formats::WeightFiles::open(options.model).value()),
      options.on_load_progress);
  text.get();
  impl->model.info.load_seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
}

const ModelInfo& Engine::info() const { return impl_->model.info; }

std::vector<TokenId> Engine::tokenize(std::string_view text, bool add_special,
                                      bool parse_special) const {
  // Only large texts are worth the threads; the pool belongs to the loop, so they are our own.
  const text::EncodeOptions encode{.add_special_tokens = add_special,
                                   .parse_special = parse_special};
  if (text.size() < (size_t{1} << 18) || impl_->model.threads == 1)
    return impl_->need_tokenizer().encode(text, encode);
  ThreadPool pool(impl_->model.threads);
  return impl_->need_tokenizer().encode(text, pool, encode);
}

std::string Engine::detokenize(std::span<const TokenId> tokens, bool skip_special) const {
  return impl_->need_tokenizer().decode(tokens, skip_special);
}

std::string Engine::render_chat(std::span<const ChatMessage> messages,
                                bool add_generation_prompt) const {
  if (!impl_->chat_template) throw *impl_->template_error;
  std::vector<text::ChatMessage> list;
  for (const ChatMessage& message : messages) list.push_back({message.role, message.content});
  return impl_->chat_template->render(list, add_generation_prompt).value();
}

std::vector<TokenId> Engine::tokenize_chat(std::span<const ChatMessage> messages,
                                           bool add_generation_prompt) const {
  return tokenize(render_chat(messages, add_generation_prompt), false, true);
}

Answer Engine::submit(Request request) {
  std::lock_guard lock(impl_->mutex);
  impl_->start_loop();
  auto answer = std::make_unique<Answer::Impl>();
  answer->submission = impl_->loop->submit(std::move(request)).value();
  answer->loop = impl_->loop;
  return Answer(std::move(answer));
}

Score Engine::score(std::span<const TokenId> tokens, const ScoreOptions& options) {
  std::lock_guard lock(impl_->mutex);
  if (impl_->loop && impl_->loop->unfinished() > 0)
    throw Error(
        ErrorCode::kInvalidArgument,
        "expected no running requests while a text is scored; wait for them or cancel them");
  impl_->stop_loop();

  const engine::ResolvedModel& model = impl_->model;
  if (tokens.size() < 2)
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("expected at least 2 tokens to score, found {}", tokens.size()));
  for (size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0 || tokens[i] >= model.config.vocab_size)
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("token {} of the text: expected an id below {}, found {}", i,
                              model.config.vocab_size, tokens[i]));
  const int64_t limit = std::min(model.max_length, (model.blocks - 1) * kernels::kPageTokens);
  const int64_t asked = options.context > 0 ? options.context : static_cast<int64_t>(tokens.size());
  if (asked > limit && options.context > 0)
    throw Error(ErrorCode::kResourceExhausted,
                fmt::format("expected windows of at most {} tokens, found {}", limit, asked),
                "--context");
  const int64_t window = std::max<int64_t>(2, std::min(asked, limit));

  const int64_t rows =
      engine::score_rows(options, engine::planner_shape(impl_->options, model.config),
                         model.config.vocab_size, model.chunk);
  models::ScratchOptions scratch = model.scratch;
  scratch.max_rows = scratch.max_logit_rows = rows;
  const int64_t blocks = (window + kernels::kPageTokens - 1) / kernels::kPageTokens + 1;
  kv::KvManager kv(model.geometry, options.against ? 2 * blocks : blocks,
                   impl_->backend->page_memory());
  const std::unique_ptr<engine::Executor> executor = impl_->backend->make_executor(kv, scratch);
  return engine::score_tokens(*executor, kv, tokens, model.info.begin_token, window, rows,
                              impl_->options.deterministic,
                              engine::planner_shape(impl_->options, model.config), options);
}

}  // namespace kvasir
