#include "engine/cpu_model.h"

#include <fmt/format.h>

#include <algorithm>

namespace kvasir::engine {
namespace {

EngineOptions on_cpu(EngineOptions options, int64_t tokens) {
  options.device = "cpu";
  options.context = tokens;
  options.max_sequences = 1;
  return options;
}

ResolvedModel resolve(const EngineOptions& options) {
  ResolvedModel model = resolve_model(options);
  if (options.context < 1 || options.context > model.max_length)
    throw Error(ErrorCode::kResourceExhausted,
                fmt::format("expected 1 to {} tokens, found {}", model.max_length, options.context),
                model.info.path);
  return model;
}

models::ScratchOptions scratch_of(const ResolvedModel& model, int64_t chunk) {
  models::ScratchOptions scratch = model.scratch;
  // All rows have queries in the last layer; pages of logits that are not computed stay untouched.
  scratch.max_rows = scratch.max_logit_rows = chunk;
  scratch.max_spans = 1;
  return scratch;
}

}  // namespace

CpuModel::CpuModel(const EngineOptions& options, int64_t tokens, int64_t chunk)
    : options_(on_cpu(options, tokens)),
      model_(resolve(options_)),
      chunk_(std::min(chunk > 0 ? chunk : model_.chunk, tokens)),
      pool_(model_.threads),
      weights_(models::load_cpu_weights(
          {.pool = pool_}, model_.config,
          std::make_shared<models::FileWeights>(formats::WeightFiles::open(options.model).value()),
          {.dtype = model_.dtype, .isa = model_.isa, .on_progress = options.on_load_progress})),
      kv_(model_.geometry, model_.blocks, kv::host_page_memory),
      executor_(pool_, weights_, kv_.page_pool(), scratch_of(model_, chunk_)) {}

std::unique_ptr<TextPass> CpuModel::pass(const MethodChoice& prefill) {
  return std::make_unique<TextPass>(executor_, kv_, 1,
                                    prefill::make_planner(prefill, shape()).value());
}

}  // namespace kvasir::engine
