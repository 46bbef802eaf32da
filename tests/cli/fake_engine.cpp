#include "cli/fake_engine.h"

#include <algorithm>
#include <chrono>
#include <iostream>
#include <ostream>
#include <sstream>
#include <thread>

#include "bench/bench.h"
#include "engine/trace_prefill.h"
#include "search/auto.h"
#include "search/minference.h"
#include "search/trianglemix.h"
#include "search/xattention.h"
#include "train/run.h"

namespace kvasir {

namespace fake {
namespace {

constexpr TokenId kBegin = 256, kUser = 257, kAnswer = 258, kVocabulary = 259;
const std::pair<TokenId, std::string> kSpecials[] = {
    {kBegin, "<|begin|>"}, {kUser, "<|user|>"}, {kAnswer, "<|answer|>"}};

ErrorCode code_of(const std::string& name) {
  for (const ErrorCode code :
       {ErrorCode::kInvalidArgument, ErrorCode::kNotFound, ErrorCode::kMalformed,
        ErrorCode::kUnsupported, ErrorCode::kResourceExhausted, ErrorCode::kCancelled,
        ErrorCode::kIo, ErrorCode::kInternal})
    if (error_code_name(code) == name) return code;
  return ErrorCode::kInternal;
}

Error error_named(const std::string& name) {
  return Error(code_of(name), "expected luck, found " + name, "fake");
}

void wait_ms(int64_t ms) {
  if (ms > 0) std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

}  // namespace

FakeRules FakeRules::of(const std::string& name) {
  FakeRules rules;
  std::stringstream parts(name);
  for (std::string part; std::getline(parts, part, ',');) {
    const size_t equals = part.find('=');
    const std::string key = part.substr(0, equals);
    const std::string value = equals == std::string::npos ? "1" : part.substr(equals + 1);
    if (key == "context") rules.context = std::stoll(value);
    if (key == "slow_ms") rules.slow_ms = std::stoll(value);
    if (key == "prefill_slow_ms") rules.prefill_slow_ms = std::stoll(value);
    if (key == "load_error") rules.load_error = value;
    if (key == "submit_error") rules.submit_error = value;
    if (key == "answer_error") rules.answer_error = value;
    if (key == "bad_question") rules.bad_question = value;
    if (key == "no_template") rules.no_template = true;
    if (key == "endless") rules.endless = true;
    if (key == "fallback") rules.fallback = true;
    if (key == "announce") rules.announce = true;
  }
  return rules;
}

FakeLog& log() {
  static FakeLog instance;
  return instance;
}

void reset_log() {
  FakeLog& l = log();
  for (std::atomic<int64_t>* counter :
       {&l.loads, &l.submits, &l.cancels, &l.finished, &l.running, &l.most_running})
    *counter = 0;
  l.on_submit = {};
  l.on_token = {};
}

}  // namespace fake

using fake::FakeRules;
using fake::log;

const char* finish_reason_name(FinishReason reason) {
  constexpr const char* kNames[] = {"stop", "length", "cancelled", "error"};
  return kNames[static_cast<int>(reason)];
}

ModelInfo inspect(const EngineOptions& options) {
  const FakeRules rules = FakeRules::of(options.model.string());
  if (options.model.string().rfind("fake", 0) != 0)
    throw Error(ErrorCode::kNotFound, "expected a model folder with config.json, found none",
                options.model.string());
  if (!rules.load_error.empty()) throw fake::error_named(rules.load_error);
  ModelInfo info;
  info.path = options.model.string();
  info.architecture = "FakeForCausalLM";
  info.model_type = "fake";
  info.dtype = options.dtype == "auto" ? "bf16" : options.dtype;
  info.device = "cpu";
  info.parameters = 15728640;
  info.layers = 8;
  info.hidden_size = 384;
  info.intermediate_size = 1024;
  info.q_heads = 6;
  info.kv_heads = 2;
  info.head_dim = 64;
  info.vocab_size = fake::kVocabulary;
  info.max_positions = rules.context;
  info.tied_embeddings = true;
  info.rope = "none";
  info.kv_bytes_per_token = 4096;
  info.threads = options.threads > 0 ? options.threads : 2;
  info.isa = "avx512_bf16";
  info.kernels = {{"gemm", "avx512_bf16"}, {"attention", "avx512_bf16"}};
  const int64_t context = options.context > 0 ? options.context : rules.context;
  info.plan = {.context = std::min(context, rules.context),
               .weights = 31457280,
               .kv = context * 4096,
               .scratch = 8 << 20,
               .fixed = 4 << 20,
               .available = int64_t{4} << 30};
  info.load_seconds = 0.25;
  info.sampling.top_p = 0.9;
  return info;
}

struct Answer::Impl {
  Request request;
  FakeRules rules;
  RequestId id = 0;
  int64_t cached = 0;
  std::string question;
  std::vector<std::string> answers;  // of the samples
  int64_t step = 0;                  // -1..: prefill events, then tokens sample by sample
  int64_t prompt_done = 0;
  int sample = 0;
  int64_t at = 0;  // in the sample's answer
  bool cancelled = false, ended = false;

  Event finish(FinishReason reason) {
    Event event;
    event.kind = Event::Kind::kFinished;
    event.sample = sample;
    event.finish_reason = reason;
    event.usage = {static_cast<int64_t>(request.prompt.size()), cached, at};
    event.timing = {.prefill_seconds = 0.5,
                    .ttft_seconds = 0.625,
                    .decode_seconds = 0.1,
                    .decode_tokens_per_second = at > 1 ? 400.0 : 0.0};
    event.attention = {.prefill = "dense",
                       .compress = "plain",
                       .retrieve = "dense",
                       .computed_fraction = 1,
                       .decode_fraction = 1};
    if (rules.fallback)
      event.attention.fallback_reason = "dense instead of sparse: the prompt is short";
    if (reason == FinishReason::kError)
      event.error = fake::error_named(rules.answer_error.empty() ? "internal" : rules.answer_error);
    if (reason == FinishReason::kCancelled)
      event.error = Error(ErrorCode::kCancelled, "stopped on request");
    at = 0;
    ++sample;
    if (sample == static_cast<int>(answers.size())) {
      ended = true;
      --log().running;
      ++log().finished;
    }
    return event;
  }

  Event produce() {
    const auto total = static_cast<int64_t>(request.prompt.size());
    if (cancelled) return finish(FinishReason::kCancelled);
    if (prompt_done < total) {
      fake::wait_ms(rules.prefill_slow_ms);
      prompt_done = std::min(total, std::max(prompt_done, cached) + 64);
      Event event;
      event.prompt_done = prompt_done;
      event.prompt_total = total;
      return event;
    }
    const std::string& answer = answers[static_cast<size_t>(sample)];
    const bool fails =
        !rules.answer_error.empty() &&
        (rules.bad_question.empty() || question.find(rules.bad_question) != std::string::npos);
    if (fails && at == 3) return finish(FinishReason::kError);
    if (at == request.max_tokens) return finish(FinishReason::kLength);
    if (at == static_cast<int64_t>(answer.size()) && !rules.endless)
      return finish(FinishReason::kStop);
    if (log().on_token) log().on_token(at);
    if (rules.announce && at == 0) std::cerr << "answering\n";
    fake::wait_ms(rules.slow_ms);
    Event event;
    event.kind = Event::Kind::kToken;
    event.sample = sample;
    const char letter = answer[static_cast<size_t>(at) % answer.size()];
    event.token = static_cast<unsigned char>(letter);
    // Characters of several bytes come with their last byte, as the API promises.
    pending += letter;
    const bool continues =
        static_cast<size_t>(at + 1) < answer.size() &&
        (static_cast<unsigned char>(answer[static_cast<size_t>(at) + 1]) & 0xc0) == 0x80;
    if (!continues) event.text = std::exchange(pending, "");
    if (request.top_logprobs) {
      event.logprob = TokenLogprob{event.token, -0.5f};
      for (int i = 0; i < *request.top_logprobs; ++i)
        event.top_logprobs.push_back({event.token + i, -0.5f - static_cast<float>(i)});
    }
    ++at;
    return event;
  }
  std::string pending;
};

Answer::Answer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Answer::Answer(Answer&&) noexcept = default;
Answer& Answer::operator=(Answer&&) noexcept = default;
Answer::~Answer() {
  if (!impl_ || impl_->ended) return;
  ++log().cancels;
  --log().running;
}

bool Answer::next(Event& event) {
  if (impl_->ended) return false;
  event = impl_->produce();
  return true;
}

bool Answer::next(std::optional<Event>& event, int64_t) {
  event.reset();
  if (impl_->ended) return false;
  event = impl_->produce();
  return true;
}

void Answer::cancel() {
  if (impl_->ended || impl_->cancelled) return;
  impl_->cancelled = true;
  ++log().cancels;
}

RequestId Answer::id() const { return impl_->id; }

struct Engine::Impl {
  EngineOptions options;
  FakeRules rules;
  ModelInfo info;
  std::vector<std::vector<TokenId>> prompts;  // seen so far
};

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

std::unique_ptr<Engine> Engine::load(const EngineOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  impl->rules = FakeRules::of(options.model.string());
  impl->info = inspect(options);
  ++log().loads;
  if (options.on_load_progress)
    for (int64_t done = 0; done <= 4; ++done) options.on_load_progress(done << 20, 4 << 20);
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
}

const ModelInfo& Engine::info() const { return impl_->info; }

std::vector<TokenId> Engine::tokenize(std::string_view text, bool add_special, bool) const {
  std::vector<TokenId> tokens;
  if (add_special) tokens.push_back(fake::kBegin);
  while (!text.empty()) {
    bool special = false;
    for (const auto& [id, name] : fake::kSpecials) {
      if (!text.starts_with(name)) continue;
      tokens.push_back(id);
      text.remove_prefix(name.size());
      special = true;
      break;
    }
    if (special) continue;
    tokens.push_back(static_cast<unsigned char>(text.front()));
    text.remove_prefix(1);
  }
  return tokens;
}

std::string Engine::detokenize(std::span<const TokenId> tokens, bool skip_special) const {
  std::string text;
  for (const TokenId token : tokens) {
    if (token < 256) text += static_cast<char>(token);
    for (const auto& [id, name] : fake::kSpecials)
      if (token == id && !skip_special) text += name;
  }
  // As a real tokenizer: a character cut at the edges becomes a replacement character.
  const auto is_part = [](char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; };
  size_t cut = 0;
  while (cut < text.size() && is_part(text[cut])) ++cut;
  if (cut > 0) text.replace(0, cut, "\xEF\xBF\xBD");
  size_t lead = text.size();
  while (lead > 0 && is_part(text[lead - 1])) --lead;
  if (lead > 0 && static_cast<unsigned char>(text[lead - 1]) >= 0xc0) {
    const auto byte = static_cast<unsigned char>(text[lead - 1]);
    const size_t length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    if (lead - 1 + length > text.size()) text.replace(lead - 1, std::string::npos, "\xEF\xBF\xBD");
  }
  return text;
}

std::string Engine::render_chat(std::span<const ChatMessage> messages,
                                bool add_generation_prompt) const {
  if (impl_->rules.no_template)
    throw Error(ErrorCode::kNotFound, "the model has no chat template", "tokenizer_config.json");
  std::string text = "<|begin|>";
  for (const ChatMessage& message : messages)
    text += (message.role == "user"        ? "<|user|>"
             : message.role == "assistant" ? "<|answer|>"
                                           : "") +
            message.content + (message.role == "system" ? "\n" : "");
  return add_generation_prompt ? text + "<|answer|>" : text;
}

std::vector<TokenId> Engine::tokenize_chat(std::span<const ChatMessage> messages,
                                           bool add_generation_prompt) const {
  return tokenize(render_chat(messages, add_generation_prompt), false);
}

Answer Engine::submit(Request request) {
  const FakeRules& rules = impl_->rules;
  if (!rules.submit_error.empty()) throw fake::error_named(rules.submit_error);
  const auto size = static_cast<int64_t>(request.prompt.size());
  if (size == 0) throw Error(ErrorCode::kInvalidArgument, "expected a prompt, found none");
  if (size + request.max_tokens > rules.context)
    throw Error(ErrorCode::kResourceExhausted, "the prompt does not fit");
  ++log().submits;
  if (log().on_submit) log().on_submit(request);
  const int64_t running = ++log().running;
  log().most_running = std::max(log().most_running.load(), running);

  auto impl = std::make_unique<Answer::Impl>();
  impl->rules = rules;
  impl->id = static_cast<RequestId>(log().submits);
  for (const auto& seen : impl_->prompts) {
    const auto end =
        std::mismatch(request.prompt.begin(), request.prompt.end(), seen.begin(), seen.end()).first;
    impl->cached = std::max<int64_t>(impl->cached, end - request.prompt.begin());
  }
  impl->cached = std::min(impl->cached, size - 1);
  impl_->prompts.push_back(request.prompt);

  // The question: between the last <|user|> and the last <|answer|>, or the last line of the text.
  const auto& prompt = request.prompt;
  const auto user = std::find(prompt.rbegin(), prompt.rend(), fake::kUser).base();
  auto begin = user;
  if (user == prompt.begin())
    begin = std::find(prompt.rbegin(), prompt.rend(), TokenId{'\n'}).base();
  std::string question = detokenize({begin, prompt.end()}, true);
  std::string text = std::to_string(size) + " tokens about " + question;
  if (question.find("/loud") != std::string::npos)
    for (char& letter : text) letter = static_cast<char>(std::toupper(letter));
  for (int sample = 0; sample < request.samples; ++sample)
    impl->answers.push_back(request.samples > 1 ? text + " (sample " + std::to_string(sample) + ")"
                                                : text);
  impl->question = std::move(question);
  impl->request = std::move(request);
  return Answer(std::move(impl));
}

Score Engine::score(std::span<const TokenId> tokens, const ScoreOptions& options) {
  Score score;
  std::vector<float> row(fake::kVocabulary, 0.5f);
  const auto total = static_cast<int64_t>(tokens.size());
  for (int64_t i = 0; i < total; ++i) {
    if (log().on_token) log().on_token(i);
    fake::wait_ms(impl_->rules.slow_ms);
    if (options.cancelled && options.cancelled())
      throw Error(ErrorCode::kCancelled, "stopped on request", "score");
    row[0] = static_cast<float>(i);
    if (options.on_logits) options.on_logits(row);
    if (options.on_progress) options.on_progress(i + 1, total);
  }
  score.tokens = total - 1;
  score.nll_sum = 2.0 * static_cast<double>(total - 1);
  score.standard_error = 0.05;
  if (options.against) {
    score.kl_sum = 0.01 * static_cast<double>(total - 1);
    score.kl_standard_error = 0.001;
  }
  return score;
}

namespace engine {

void trace_prefill(const EngineOptions&, std::span<const TokenId>, const TraceOptions&) {
  throw Error(ErrorCode::kUnsupported, "rules have no attention to trace", "fake");
}

}  // namespace engine

std::vector<search::LayerSummary> search::search_minference(const EngineOptions&,
                                                            std::span<const TokenId>,
                                                            const MInferenceSearch&) {
  throw Error(ErrorCode::kUnsupported, "rules have no attention to search", "fake");
}

std::vector<search::ThresholdSummary> search::search_xattention(const EngineOptions&,
                                                                std::span<const TokenId>,
                                                                const XAttentionSearch&) {
  throw Error(ErrorCode::kUnsupported, "rules have no attention to search", "fake");
}

search::TriangleMixResult search::search_trianglemix(const EngineOptions&,
                                                     const TriangleMixSearch&) {
  return {.scores = {0.5, 0}, .layers = {1}, .kl = 0, .prompts = 8, .tokens = 48};
}

prefill::AutoDevice search::search_auto(const EngineOptions& engine, const AutoSearch& options) {
  if (options.methods.empty())
    throw Error(ErrorCode::kUnsupported, "rules have no attention to measure", "fake");
  prefill::AutoDevice device{"rules", {}};
  for (const MethodChoice& method : options.methods)
    device.measurements.push_back(
        {.length = 4096, .method = method, .seconds = 1, .questions = 4, .same = 4});
  log().loads += engine.model.empty() ? 0 : 1;
  return device;
}

std::filesystem::path train::run_recipe(const RunOptions& options) {
  options.say("training " + options.recipe.string());
  return options.output / "checkpoint-000000001";
}

namespace bench {

int run_bench(const BenchOptions& options, std::ostream& out, std::ostream& progress) {
  progress << "measuring\n";
  out << options.what << " lengths " << options.lengths.size() << " repetitions "
      << options.repetitions << (options.json ? " json" : "") << "\n";
  return 0;
}

}  // namespace bench
}  // namespace kvasir
