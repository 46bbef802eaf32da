#include "search/trianglemix.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <nlohmann/json.hpp>
#include <numeric>

#include "engine/cpu_model.h"
#include "engine/scorer.h"
#include "prefill/triangle_layers.h"
#include "search/probes.h"
#include "tasks/registry.h"

namespace kvasir::search {
namespace {

// A prompt with its answer behind it; logits of the answer's tokens are compared.
struct Probe {
  std::vector<TokenId> text;
  int64_t answer = 0;         // tokens
  std::vector<float> logits;  // [answer, vocabulary] under dense prefill
};

std::vector<Probe> make_probes(const EngineOptions& engine, const TriangleMixSearch& options) {
  const Probes probes(engine.model, options.document);
  std::vector<std::string> names = options.tasks;
  if (names.empty()) names = {"needle", "var"};
  std::vector<Probe> made;
  for (const std::string& name : names)
    for (int document = 0; document < options.documents; ++document) {
      const tasks::Sample sample = probes.sample(name, options.length, document);
      for (const tasks::Turn& turn : sample.turns) {
        Probe probe{.text = probes.prompt(sample, turn)};
        const std::vector<TokenId> answer = probes.answer(turn);
        probe.text.insert(probe.text.end(), answer.begin(), answer.end());
        probe.answer = std::ssize(answer);
        made.push_back(std::move(probe));
      }
    }
  return made;
}

int64_t longest(const std::vector<Probe>& probes) {
  int64_t most = 0;
  for (const Probe& probe : probes) most = std::max(most, std::ssize(probe.text));
  return most;
}

class Prober {
 public:
  Prober(const EngineOptions& engine, const TriangleMixSearch& options, std::vector<Probe> probes)
      : options_(options), probes_(std::move(probes)), model_(engine, longest(probes_)) {
    const int layers = model_.shape().layers;
    rounds_ = layers + 1 + std::bit_width(static_cast<unsigned>(layers));
    for (Probe& probe : probes_) {
      const auto logits = run(probe, {"dense", {}});
      probe.logits.assign(logits.begin(), logits.end());
    }
  }

  int layers() const { return model_.shape().layers; }

  // Mean KL of the answers' tokens to dense prefill where `layers` are tri-shape.
  double divergence(const std::vector<int32_t>& layers) {
    std::string list;
    for (const int32_t layer : layers) list += (list.empty() ? "" : "+") + std::to_string(layer);
    const auto vocabulary = static_cast<size_t>(model_.executor().vocab_size());
    double sum = 0;
    int64_t tokens = 0;
    for (const Probe& probe : probes_) {
      const auto logits = run(probe, {"trianglemix", {{"layers", list}}});
      for (size_t row = 0; row < logits.size(); row += vocabulary, ++tokens)
        sum += engine::divergence(std::span(probe.logits).subspan(row, vocabulary),
                                  logits.subspan(row, vocabulary));
    }
    tokens_ = tokens;
    return sum / static_cast<double>(tokens);
  }
  int64_t tokens() const { return tokens_; }
  int64_t prompts() const { return std::ssize(probes_); }

 private:
  // Logits of what predicts the answer's tokens.
  std::span<const float> run(const Probe& probe, const MethodChoice& method) {
    options_.watch.check();
    pass_.reset();  // its KV makes room
    pass_ = model_.pass(method);
    pass_->begin(std::span(probe.text).first(probe.text.size() - 1));
    const int64_t before = std::ssize(probe.text) - 1 - probe.answer;
    for (int64_t done = 0; done < before;) {
      options_.watch.check();
      const int64_t rows = std::min(model_.chunk(), before - done);
      pass_->run(rows, false, engine::StepSpan::Logits::kNone);
      done += rows;
    }
    const auto logits = pass_->run(probe.answer, false);
    ++runs_;
    if (options_.watch.on_progress)
      options_.watch.on_progress(std::min(runs_, rounds_ * prompts()), rounds_ * prompts());
    return logits;
  }

  const TriangleMixSearch& options_;
  std::vector<Probe> probes_;
  engine::CpuModel model_;
  std::unique_ptr<engine::TextPass> pass_;
  int64_t rounds_ = 1, runs_ = 0, tokens_ = 0;
};

// The most layers, in the order of their scores, that stay within the bound.
std::vector<int32_t> choose(Prober& prober, const TriangleMixSearch& options,
                            TriangleMixResult& result) {
  std::vector<int32_t> order(result.scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(
      order, {}, [&](int32_t layer) { return result.scores[static_cast<size_t>(layer)]; });
  const auto first = [&order](int64_t count) {
    std::vector<int32_t> layers(order.begin(), order.begin() + count);
    std::ranges::sort(layers);
    return layers;
  };
  int64_t good = 0, bad = std::ssize(order) + 1;
  for (int64_t count = std::ssize(order); good + 1 < bad; count = (good + bad) / 2) {
    const double kl = prober.divergence(first(count));
    if (kl <= options.bound) {
      good = count;
      result.kl = kl;
    } else {
      bad = count;
    }
  }
  return first(good);
}

}  // namespace

TriangleMixResult search_trianglemix(const EngineOptions& engine,
                                     const TriangleMixSearch& options) {
  for (const std::string& name : options.tasks) tasks::find_task("tasks", name).value();
  EngineOptions dense = engine;
  dense.prefill = {"dense", {}};
  Prober prober(dense, options, make_probes(engine, options));
  TriangleMixResult result;
  for (int32_t layer = 0; layer < prober.layers(); ++layer)
    result.scores.push_back(prober.divergence({layer}));
  result.layers = choose(prober, options, result);
  result.prompts = prober.prompts();
  result.tokens = prober.tokens();

  const prefill::TriangleLayers shape;
  nlohmann::json probe =
      provenance(engine, Probes(engine.model, options.document).tokens(options.document));
  probe["kind"] = "ablation_kl";
  probe["scores"] = result.scores;
  probe["kl"] = result.kl;
  probe["bound"] = options.bound;
  probe["prompts"] = result.prompts;
  probe["prompt_length"] = options.length;
  probe["tasks"] =
      options.tasks.empty() ? std::vector<std::string>{"needle", "var"} : options.tasks;
  write_json(options.output, {{"schema", prefill::kTriangleSchema},
                              {"model", probe["model"]},
                              {"num_layers", prober.layers()},
                              {"layers", result.layers},
                              {"n_init", shape.init},
                              {"n_local", shape.local},
                              {"n_last", shape.last},
                              {"probe", std::move(probe)}});
  return result;
}

}  // namespace kvasir::search
