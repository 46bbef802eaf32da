#include "search/auto.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/file.h"
#include "base/method.h"
#include "engine/auto_prefill.h"
#include "engine/stages.h"
#include "search/probes.h"
#include "tasks/registry.h"

namespace kvasir::search {
namespace {

constexpr int kListed = 100;    // likeliest tokens that are compared
constexpr int64_t kRoom = 256;  // questions and answers behind a document

// An answer, token by token.
struct Answered {
  std::vector<TokenId> tokens;
  std::vector<std::vector<TokenLogprob>> listed;  // [tokens]
  double ttft_seconds = 0;
};

Answered wait_for(Answer answer) {
  Answered answered;
  Event event;
  while (answer.next(event)) {
    if (event.kind == Event::Kind::kToken) {
      answered.tokens.push_back(event.token);
      answered.listed.push_back(event.top_logprobs);
    }
    if (event.kind != Event::Kind::kFinished) continue;
    if (event.error) throw *event.error;
    answered.ttft_seconds = event.timing.ttft_seconds;
  }
  return answered;
}

class Measurer {
 public:
  Measurer(const EngineOptions& engine, const AutoSearch& options)
      : options_(options), probes_(engine.model, options.document) {
    EngineOptions settings = engine;
    settings.prefill = {"dense", {}};
    const ModelInfo info = inspect(settings);
    lengths_ = lengths(info.plan.context);
    methods_ = options.methods.empty() ? default_auto_methods(info) : options.methods;
    std::erase_if(methods_, [](const MethodChoice& each) { return each.name == "dense"; });
    methods_.insert(methods_.begin(), MethodChoice{"dense", {}});
    if (std::ranges::find(methods_, "auto", &MethodChoice::name) != methods_.end())
      throw Error(ErrorCode::kUnsupported, "expected methods that auto may choose, found auto",
                  "--prefill");
    for (const MethodChoice& method : methods_)
      engine::check_stages({.prefill = method},
                           {.chunked_prefill = true, .gpu = info.device != "cpu"})
          .value();
    names_ = options.tasks.empty() ? std::vector<std::string>{"needle", "var"} : options.tasks;
    for (const std::string& name : names_) tasks::find_task("tasks", name).value();
    // Chunks are those that prompts are cut into where auto has the choice.
    settings.prefill = planned_method(settings);
    settings.context = std::ranges::max(lengths_) + kRoom;
    settings.context = std::min(settings.context, info.max_positions);
    engine_ = Engine::load(settings);
    warm_up();
  }

  prefill::AutoDevice run() {
    prefill::AutoDevice device{engine::auto_device(engine_->info()), {}};
    const int64_t all = std::ssize(lengths_) * std::ssize(names_) * options_.documents;
    // Long prompts take most of the time: steps are tokens.
    int64_t total = 0, done = 0;
    for (const int64_t length : lengths_) total += length * all / std::ssize(lengths_);
    total *= std::ssize(methods_);
    for (const int64_t length : lengths_) {
      std::vector<prefill::AutoMeasurement> found;
      for (const MethodChoice& method : methods_)
        found.push_back({.length = length, .method = method, .seconds = HUGE_VAL});
      std::vector<int64_t> compared(methods_.size());
      for (const std::string& name : names_)
        for (int document = 0; document < options_.documents; ++document)
          measure(name, length, document, found, compared, [&] {
            options_.watch.check();
            done += length;
            if (options_.watch.on_progress) options_.watch.on_progress(done, total);
          });
      for (size_t method = 0; method < methods_.size(); ++method)
        found[method].kl /= static_cast<double>(std::max<int64_t>(1, compared[method]));
      device.measurements.insert(device.measurements.end(), found.begin(), found.end());
    }
    return device;
  }

 private:
  std::vector<int64_t> lengths(int64_t most) const {
    std::vector<int64_t> lengths = options_.lengths;
    if (lengths.empty()) {
      for (int64_t length = 4096; length + kRoom < most; length *= 2) lengths.push_back(length);
      lengths.push_back(most - kRoom);
    }
    std::ranges::sort(lengths);
    lengths.erase(std::ranges::unique(lengths).begin(), lengths.end());
    if (lengths.front() < 256 || lengths.back() + kRoom > most)
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("expected 256 to {} tokens, found {}", most - kRoom,
                              lengths.front() < 256 ? lengths.front() : lengths.back()),
                  "--lengths");
    return lengths;
  }

  // Memory is touched for the first time, and clocks rise, before anything is timed.
  void warm_up() const {
    const tasks::Sample sample = probes_.sample(names_.front(), lengths_.front(), -1);
    wait_for(
        engine_->submit({.prompt = probes_.prompt(sample, sample.turns.front()), .max_tokens = 1}));
  }

  MethodChoice planned_method(const EngineOptions& settings) const {
    EngineOptions each = settings;
    MethodChoice planned = methods_.front();
    int64_t chunk = 0;
    for (const MethodChoice& method : methods_) {
      each.prefill = method;
      const int64_t found = inspect(each).chunk;
      if (found > chunk) planned = method;
      chunk = std::max(chunk, found);
    }
    return planned;
  }

  template <class Step>
  void measure(const std::string& name, int64_t length, int document,
               std::vector<prefill::AutoMeasurement>& found, std::vector<int64_t>& compared,
               Step step) {
    const tasks::Task& task = *tasks::find_task("tasks", name).value();
    const tasks::Sample sample = probes_.sample(name, length, document);
    std::vector<Answered> dense;
    for (size_t method = 0; method < methods_.size(); ++method) {
      prefill::AutoMeasurement& sum = found[method];
      for (size_t turn = 0; turn < sample.turns.size(); ++turn) {
        Request request{.prompt = probes_.prompt(sample, sample.turns[turn]),
                        .max_tokens = tasks::new_tokens_of(task, sample, sample.turns[turn]),
                        .top_logprobs = kListed,
                        .stages = {.prefill = methods_[method]}};
        const Answered answered = wait_for(engine_->submit(std::move(request)));
        // Later questions find the document's KV.
        if (turn == 0) sum.seconds = std::min(sum.seconds, answered.ttft_seconds);
        if (method == 0) dense.push_back(answered);
        ++sum.questions;
        sum.same += answered.tokens == dense[turn].tokens;
        compare(dense[turn], answered, sum.kl, compared[method]);
      }
      step();
    }
  }

  // Tokens up to the first that differs, its distribution included: what came before is the same.
  static void compare(const Answered& dense, const Answered& other, double& kl, int64_t& tokens) {
    const size_t most = std::min(dense.tokens.size(), other.tokens.size());
    for (size_t i = 0; i < most; ++i) {
      kl += listed_divergence(dense.listed[i], other.listed[i]);
      ++tokens;
      if (dense.tokens[i] != other.tokens[i]) return;
    }
  }

  const AutoSearch& options_;
  const Probes probes_;
  std::vector<int64_t> lengths_;
  std::vector<MethodChoice> methods_;  // dense first
  std::vector<std::string> names_;     // of tasks
  std::unique_ptr<Engine> engine_;
};

prefill::AutoTable read_table(const std::filesystem::path& path) {
  const auto text = read_file(path);
  if (text) return prefill::parse_auto_table(text.value(), path.string()).value();
  if (text.error().code() != ErrorCode::kNotFound) throw text.error();
  return {};
}

}  // namespace

std::vector<MethodChoice> default_auto_methods(const ModelInfo& info) {
  const std::string all = fmt::format("0-{}", info.layers - 1);
  std::vector<MethodChoice> methods{{"tri_shape", {}},
                                    {"trianglemix", {}},
                                    {"trianglemix", {{"layers", all}}},
                                    {"minference", {}},
                                    {"xattention", {}}};
  const bool on_gpu = info.device != "cpu";
  std::erase_if(methods, [&](const MethodChoice& method) {
    return !engine::check_stages({.prefill = method}, {.gpu = on_gpu}).ok();
  });
  return methods;
}

prefill::AutoDevice search_auto(const EngineOptions& engine, const AutoSearch& options) {
  prefill::AutoTable table = read_table(options.output);  // before hours of work
  const prefill::AutoDevice device = Measurer(engine, options).run();
  table.at(device.device) = device;
  write_file(options.output, write_auto_table(table)).value();
  return device;
}

double listed_divergence(const std::vector<TokenLogprob>& p, const std::vector<TokenLogprob>& q) {
  if (p.empty() || q.empty()) return 0;
  const double least = std::ranges::min(q, {}, &TokenLogprob::logprob).logprob;
  double sum = 0, p_rest = 1, q_rest = 1;
  for (const TokenLogprob& each : p) {
    const auto found = std::ranges::find(q, each.token, &TokenLogprob::token);
    const double log_q = found == q.end() ? least : double{found->logprob};
    sum += std::exp(double{each.logprob}) * (each.logprob - log_q);
    p_rest -= std::exp(double{each.logprob});
    q_rest -= std::exp(log_q);
  }
  if (p_rest > 1e-6 && q_rest > 1e-6) sum += p_rest * std::log(p_rest / q_rest);
  return std::max(0.0, sum);
}

}  // namespace kvasir::search
