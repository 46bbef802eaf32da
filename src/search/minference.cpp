#include "search/minference.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/file.h"
#include "engine/cpu_model.h"
#include "formats/head_config.h"
#include "formats/json_text.h"
#include "search/layer_queries.h"

namespace kvasir::search {
namespace {

using nlohmann::json;
using prefill::minference::HeadChoice;
using prefill::minference::TriedPattern;

json pattern_json(const formats::HeadPattern& pattern) {
  const formats::HeadConfig one{{{{0, pattern}}}};
  return json::parse(write_head_config(one)).at(0).at("0");
}

json tried_json(const TriedPattern& tried) {
  return {{"pattern", pattern_json(tried.pattern)},
          {"output", tried.error},
          {"recall", tried.recall},
          {"count5e-3", tried.count},
          {"density", tried.density}};
}

json search_json(const EngineOptions& engine, std::span<const TokenId> text,
                 const prefill::minference::HeadSearchOptions& options) {
  json search = provenance(engine, text);
  search["objective"] = objective_name(options.objective);
  search["density"] = options.density;
  search["recall"] = options.recall;
  search["chunk"] = options.chunk;
  for (const formats::HeadPattern& candidate : options.candidates)
    search["candidates"].push_back(pattern_json(candidate));
  return search;
}

// The first entry in which two searches differ; the commit may.
std::string difference(const json& wanted, const json& found) {
  for (const auto& [key, value] : wanted.items()) {
    const json other = found.contains(key) ? found.at(key) : json();
    if (key != "commit" && value != other)
      return fmt::format("{} {}, found {} {}", key, value.dump(), key, other.dump());
  }
  return {};
}

class Search final : public models::AttentionObserver {
 public:
  Search(const MInferenceSearch& options, json search, int layers)
      : options_(options), search_(std::move(search)), results_(static_cast<size_t>(layers)) {}

  void read_finished() {
    std::filesystem::create_directories(options_.output);
    for (size_t layer = 0; layer < results_.size(); ++layer) {
      const std::filesystem::path path = layer_path(layer);
      const auto content = read_file(path);
      if (!content) continue;
      results_[layer] = formats::read_json<json>(content.value(), path.string(), "a layer's result",
                                                 [](json value, const std::string&) {
                                                   value.at("heads").at(0).at("best");
                                                   return value;
                                                 })
                            .value();
      if (const std::string other = difference(search_, results_[layer].at("search"));
          !other.empty())
        throw Error(ErrorCode::kInvalidArgument,
                    fmt::format("expected results of the same search, with {}; name another "
                                "--output or remove these",
                                other),
                    path.string());
    }
  }

  bool is_done() const {
    return std::ranges::none_of(results_, [](const json& each) { return each.is_null(); });
  }

  void on_attention(int layer, const kernels::CpuContext& context,
                    const kernels::AttentionArgs& args) override {
    const auto place = static_cast<size_t>(layer);
    tell(place, 1);
    if (!results_[place].is_null() || args.window > 0) return skip(place, args);
    const std::vector<HeadChoice> choices = search_heads(
        context, options_.heads, whole_layer(layer, args), {args.out, args.lse}, [&](double share) {
          options_.watch.check();
          tell(place, 1 + static_cast<int64_t>(share * (kSteps - 1)));
        });
    json heads = json::array();
    for (const HeadChoice& choice : choices) {
      json tried = json::array();
      for (const TriedPattern& each : choice.tried) tried.push_back(tried_json(each));
      heads.push_back({{"best", tried_json(choice.best)}, {"tried", std::move(tried)}});
    }
    finish(place, std::move(heads));
  }

  // The configuration and what it came from.
  std::vector<LayerSummary> write() const {
    formats::HeadConfig config;
    json layers = json::array();
    std::vector<LayerSummary> summaries;
    for (size_t layer = 0; layer < results_.size(); ++layer) {
      json heads = json::object();
      const json& found = results_[layer].at("heads");
      for (size_t head = 0; head < found.size(); ++head)
        heads[std::to_string(head)] = found[head].at("best").at("pattern");
      layers.push_back(std::move(heads));
      summaries.push_back(summary(static_cast<int>(layer), found));
    }
    const formats::HeadCounts counts{
        .layers = static_cast<int32_t>(results_.size()),
        .q_heads = static_cast<int32_t>(results_.front().at("heads").size())};
    config = formats::parse_head_config(layers.dump(), "the search", counts).value();
    write_file(options_.output / "sparse_attention_config.json", write_head_config(config)).value();
    json sidecar = {{"search", search_}, {"layers", json::array()}};
    for (const json& result : results_) sidecar["layers"].push_back(result.at("heads"));
    write_json(options_.output / "sparse_attention_config.provenance.json", sidecar);
    return summaries;
  }

 private:
  static constexpr int64_t kSteps = 1000;  // of a layer's progress

  std::filesystem::path layer_path(size_t layer) const {
    return options_.output / fmt::format("layer-{:03}.json", layer);
  }

  void tell(size_t layer, int64_t steps) const {
    if (options_.watch.on_progress)
      options_.watch.on_progress(static_cast<int64_t>(layer) * kSteps + steps,
                                 std::ssize(results_) * kSteps);
  }

  // Layers with a window stay dense in this method: nothing is there to be found.
  void skip(size_t layer, const kernels::AttentionArgs& args) {
    options_.watch.check();
    if (!results_[layer].is_null()) return;
    json heads = json::array();
    TriedPattern dense;
    dense.recall = dense.density = 1;
    for (int head = 0; head < args.q_heads; ++head)
      heads.push_back({{"best", tried_json(dense)}, {"tried", json::array()}});
    finish(layer, std::move(heads));
  }

  void finish(size_t layer, json heads) {
    results_[layer] = {{"search", search_}, {"layer", layer}, {"heads", std::move(heads)}};
    write_json(layer_path(layer), results_[layer]);
    tell(layer, kSteps);
  }

  static LayerSummary summary(int layer, const json& heads) {
    LayerSummary summary{.layer = layer};
    for (const json& head : heads) {
      const json& best = head.at("best");
      const std::string& name = best.at("pattern").at(0).get_ref<const std::string&>();
      (name == "vertical_and_slash" ? summary.vertical_slash
       : name == "stream_llm"       ? summary.a_shape
                                    : summary.block_sparse) += 1;
      const auto count = static_cast<double>(heads.size());
      summary.density += best.at("density").get<double>() / count;
      summary.recall += best.at("recall").get<double>() / count;
      summary.error += best.at("output").get<double>() / count;
    }
    return summary;
  }

  const MInferenceSearch& options_;
  const json search_;
  std::vector<json> results_;  // [layers]; null: not there yet
};

}  // namespace

std::vector<LayerSummary> search_minference(const EngineOptions& engine,
                                            std::span<const TokenId> text,
                                            const MInferenceSearch& options) {
  EngineOptions dense = engine;
  dense.prefill = {"dense", {}};
  const auto length = static_cast<int64_t>(text.size());
  // Nothing is loaded before it is known whether the folder will do.
  EngineOptions planned = dense;
  planned.device = "cpu";
  planned.context = length;
  planned.max_sequences = 1;
  const ModelInfo info = inspect(planned);
  Search search(options, search_json(engine, text, options.heads), static_cast<int>(info.layers));
  search.read_finished();
  if (!search.is_done()) {
    engine::CpuModel model(dense, length, length);
    model.executor().observe(&search);
    const auto pass = model.pass(dense.prefill);
    pass->begin(text);
    pass->run(length, false);
  }
  return search.write();
}

}  // namespace kvasir::search
