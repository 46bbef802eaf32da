#include "search/xattention.h"

#include <nlohmann/json.hpp>

#include "engine/cpu_model.h"
#include "prefill/xattention/thresholds_file.h"
#include "search/layer_queries.h"

namespace kvasir::search {
namespace {

using prefill::xattention::ThresholdChoice;

class Search final : public models::AttentionObserver {
 public:
  Search(const XAttentionSearch& options, int layers) : options_(options), layers_(layers) {}

  void on_attention(int layer, const kernels::CpuContext& context,
                    const kernels::AttentionArgs& args) override {
    const auto between = [&](double share) {
      options_.watch.check();
      if (options_.watch.on_progress)
        options_.watch.on_progress(layer * kSteps + static_cast<int64_t>(share * kSteps),
                                   layers_ * kSteps);
    };
    between(0);
    std::vector<ThresholdChoice> choices(static_cast<size_t>(args.q_heads));
    // Layers with a window stay dense in this method.
    if (args.window == 0)
      choices = search_thresholds(context, options_.heads, whole_layer(layer, args),
                                  {args.out, args.lse}, between);
    between(1);
    ThresholdSummary summary{.layer = layer};
    nlohmann::json thresholds = nlohmann::json::array();
    for (const ThresholdChoice& choice : choices) {
      const auto heads = static_cast<double>(choices.size());
      thresholds.push_back(choice.threshold);
      summary.threshold += choice.threshold / heads;
      summary.density += choice.measure.density / heads;
      summary.recall += choice.measure.recall / heads;
      summary.error += choice.measure.error / heads;
    }
    found.push_back(std::move(thresholds));
    summaries.push_back(summary);
  }

  nlohmann::json found = nlohmann::json::array();
  std::vector<ThresholdSummary> summaries;

 private:
  static constexpr int64_t kSteps = 1000;  // of a layer's progress
  const XAttentionSearch& options_;
  const int64_t layers_;
};

}  // namespace

std::vector<ThresholdSummary> search_xattention(const EngineOptions& engine,
                                                std::span<const TokenId> text,
                                                const XAttentionSearch& options) {
  EngineOptions dense = engine;
  dense.prefill = {"dense", {}};
  const auto length = static_cast<int64_t>(text.size());
  engine::CpuModel model(dense, length, length);
  Search search(options, model.shape().layers);
  model.executor().observe(&search);
  const auto pass = model.pass(dense.prefill);
  pass->begin(text);
  pass->run(length, false);
  nlohmann::json origin = provenance(engine, text);
  origin["recall"] = options.heads.recall;
  origin["chunk"] = options.heads.chunk;
  write_json(options.output, {{"schema", prefill::xattention::kThresholdsSchema},
                              {"stride", options.heads.stride},
                              {"thresholds", std::move(search.found)},
                              {"search", std::move(origin)}});
  return std::move(search.summaries);
}

}  // namespace kvasir::search
