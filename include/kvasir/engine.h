#pragma once
// The public API: load a model folder once, submit requests from any thread, read their events.
//
//   auto engine = kvasir::Engine::load({.model = "models/bootstrap-16m"});
//   kvasir::Request request{.prompt = engine->tokenize("Hello")};
//   auto answer = engine->submit(request);
//   for (kvasir::Event event; answer.next(event);) std::cout << event.text;

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvasir/error.h"
#include "kvasir/request.h"

namespace kvasir {

struct EngineOptions {
  std::filesystem::path model;  // a Hugging Face model folder
  // auto | cpu | cuda | cuda:N. auto = the first GPU where there is one that will do.
  std::string device = "auto";
  std::string dtype = "auto";  // auto | f32 | bf16 | f16: of weights, activations and KV
  int threads = 0;             // 0 = every CPU that the process may use
  // Tokens of KV to plan for; 0 = the model's maximum on the CPU, all that gpu_memory holds on a
  // GPU.
  int64_t context = 0;
  // Prefill tokens of one sequence in one step; 0 = 1024 on the CPU, 8192 on a GPU, and 8192 and
  // 32,768 where `prefill` plans from queries (each chunk costs an estimate).
  int64_t chunk = 0;
  MethodChoice prefill{"dense", {}};  // what requests will ask for; checked before anything loads
  double gpu_memory = 0.9;     // share of the GPU's memory to plan with, more than 0, at most 1
  int64_t max_sequences = 64;  // samples running at once
  bool deterministic = false;  // bit-equal results whatever the batch and the chunking
  // Called while weights load: bytes done, bytes in all. May be null.
  std::function<void(int64_t, int64_t)> on_load_progress;
};

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

// What is where, and how much memory it takes, in bytes: of the GPU where the model runs on one.
struct MemoryPlan {
  int64_t context = 0;  // tokens of KV that one sequence can have
  int64_t weights = 0;
  int64_t kv = 0;       // context * KV bytes per token, in whole blocks
  int64_t scratch = 0;  // activations, logits, workspaces
  int64_t fixed = 0;    // program and libraries, CUDA graphs (an allowance)
  int64_t total() const { return weights + kv + scratch + fixed; }
  int64_t available = 0;  // what the machine has free, or gpu_memory of the GPU
};

struct ModelInfo {
  std::string path, architecture, model_type, dtype;
  std::string device;       // "cpu", "cuda:0"
  std::string device_name;  // the processor's
  std::string device_note;  // why the GPU that is there is not used; empty where nothing is amiss
  int64_t parameters = 0;
  int64_t layers = 0, hidden_size = 0, intermediate_size = 0, q_heads = 0, kv_heads = 0,
          head_dim = 0;
  int64_t vocab_size = 0, max_positions = 0;
  bool tied_embeddings = false;
  std::string rope;  // "none", "llama3 (factor 8)", ...
  int64_t kv_bytes_per_token = 0;
  int threads = 0;
  int64_t chunk = 0;                                         // prefill tokens in one step
  std::string isa;                                           // "avx512_bf16"
  std::vector<std::pair<std::string, std::string>> kernels;  // op -> implementation
  MemoryPlan plan;
  double load_seconds = 0;
  std::vector<TokenId> end_tokens;
  std::optional<TokenId> begin_token;  // config.json's bos_token_id
  // The generation defaults of the model folder (greedy where it says nothing).
  SamplingOptions sampling;
};

// Reads configuration and weight headers only and says what load() would do. Throws as load() does.
ModelInfo inspect(const EngineOptions& options);

// The answer to one submitted request. Destroying it cancels the request.
class Answer {
 public:
  Answer(Answer&&) noexcept;
  Answer& operator=(Answer&&) noexcept;
  ~Answer();

  // Waits for the next event; false when the last one has been taken.
  bool next(Event& event);
  // The same, waiting at most `timeout_ms`; `event` stays empty on a time-out.
  bool next(std::optional<Event>& event, int64_t timeout_ms);
  void cancel();  // any thread
  RequestId id() const;

 private:
  friend class Engine;
  struct Impl;
  explicit Answer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Statistics of `score`.
struct Score {
  int64_t tokens = 0;            // scored: all but the first
  int64_t characters = 0;        // Unicode code points of the scored text; 0 where ids were given
  double nll_sum = 0;            // natural logarithm
  std::optional<double> kl_sum;  // KL(base || against) summed over the scored tokens
  double standard_error = 0;     // of the mean NLL per token
  double kl_standard_error = 0;
};

class Engine {
 public:
  // Throws Error: kNotFound, kMalformed, kUnsupported, kResourceExhausted (with the plan).
  static std::unique_ptr<Engine> load(const EngineOptions& options);
  ~Engine();

  const ModelInfo& info() const;

  // Text and ids. Thread-safe. tokenize(add_special = true) adds what the tokenizer's
  // post-processor adds; parse_special recognises special tokens written in the text. Throws
  // kNotFound where the folder has no tokenizer.
  std::vector<TokenId> tokenize(std::string_view text, bool add_special = true,
                                bool parse_special = true) const;
  std::string detokenize(std::span<const TokenId> tokens, bool skip_special = true) const;
  // The model's chat template over the messages. Throws where there is none or it fails.
  std::string render_chat(std::span<const ChatMessage> messages, bool add_generation_prompt) const;
  // The ids of a conversation: render_chat, then tokenize with special tokens recognised in what
  // the template wrote and, as in transformers, in the messages too.
  std::vector<TokenId> tokenize_chat(std::span<const ChatMessage> messages,
                                     bool add_generation_prompt) const;

  // Throws Error for a request that can never run: empty or too long prompt, ids out of range,
  // options out of range, unknown methods, refused combinations.
  Answer submit(Request request);

  // Next-token scores of `tokens` in windows of at most `context` tokens (0 = as many as the engine
  // was planned for; windows do not overlap). Where the text starts with the model's begin token,
  // so does every window. With `against`, the same text is scored under both stage choices.
  // `on_logits` gets every row of the base logits [vocab] in order, the begin tokens of later
  // windows left out. Runs on the calling thread; throws kInvalidArgument while requests are
  // running.
  struct ScoreOptions {
    int64_t context = 0;
    StageChoice stages;
    std::optional<StageChoice> against;
    std::function<void(std::span<const float> logits)> on_logits;
    std::function<void(int64_t done, int64_t total)> on_progress;
    std::function<bool()> cancelled;
  };
  Score score(std::span<const TokenId> tokens, const ScoreOptions& options);

 private:
  struct Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvasir
