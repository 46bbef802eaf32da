#include "engine/trace_prefill.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/memory.h"
#include "engine/cpu_model.h"
#include "engine/stages.h"

namespace kvasir::engine {
namespace {

// Hands on the plans, and measures recall: dense attention of the sampled queries beside what the
// plans gave them.
class Tracer final : public models::AttentionObserver {
 public:
  Tracer(const TraceOptions& options, int64_t tokens) : options_(options) {
    const int64_t count = std::min(options.sampled_queries, tokens);
    for (int64_t i = 0; i < count; ++i) sampled_.push_back((2 * i + 1) * tokens / (2 * count));
  }

  void on_attention(int layer, const kernels::CpuContext& context,
                    const kernels::AttentionArgs& args) override {
    for (const kernels::AttentionSpan& span : args.spans) {
      for (int head = 0; head < args.q_heads; ++head)
        options_.on_rows(layer, {.plan = span.plan,
                                 .head = head,
                                 .rows = span.rows,
                                 .query_offset = span.query_offset,
                                 .window = args.window});
      const auto first = std::ranges::lower_bound(sampled_, span.query_offset);
      const auto last = std::ranges::lower_bound(sampled_, span.query_offset + span.rows);
      const std::span<const int64_t> sampled(first, last);
      if (span.plan) {
        measure(layer, context, args, span, sampled);
        continue;
      }
      for (size_t i = 0; i < sampled.size(); ++i)
        for (int head = 0; head < args.q_heads; ++head) options_.on_recall(layer, head, 1);
    }
  }

 private:
  // Recall of the queries at the positions `sampled` of `span`.
  void measure(int layer, const kernels::CpuContext& context, const kernels::AttentionArgs& args,
               const kernels::AttentionSpan& span, std::span<const int64_t> sampled) {
    if (sampled.empty()) return;
    const size_t row_bytes = static_cast<size_t>(args.q_heads) *
                             static_cast<size_t>(args.pages.head_dim) *
                             dtype_bytes(args.pages.dtype);
    const size_t stride = static_cast<size_t>(args.q_row_stride) * dtype_bytes(args.pages.dtype);
    q_.resize(sampled.size() * row_bytes);
    out_.resize(q_.size());
    lse_.resize(sampled.size() * static_cast<size_t>(args.q_heads));
    spans_.clear();
    for (size_t i = 0; i < sampled.size(); ++i) {
      const int64_t row = span.first_row + sampled[i] - span.query_offset;
      std::memcpy(q_.data() + i * row_bytes,
                  static_cast<const std::byte*>(args.q) + static_cast<size_t>(row) * stride,
                  row_bytes);
      spans_.push_back({.first_row = static_cast<int64_t>(i),
                        .rows = 1,
                        .query_offset = sampled[i],
                        .page_table = span.page_table});
    }
    kernels::AttentionArgs dense = args;
    dense.q = q_.data();
    dense.q_row_stride = int64_t{args.q_heads} * args.pages.head_dim;
    dense.out = out_.data();
    dense.lse = lse_.data();
    dense.spans = spans_;
    dense.scored_pairs = nullptr;
    const auto count = static_cast<int64_t>(spans_.size());
    const Memory workspace(kernels::attention_workspace_bytes(
        {.dtype = args.pages.dtype,
         .q_heads = args.q_heads,
         .kv_heads = args.pages.kv_heads,
         .head_dim = args.pages.head_dim},
        count, count, span.query_offset + span.rows, context.pool.size()));
    dense.workspace = workspace.data();
    kernels::run_attention(context, dense);

    for (size_t i = 0; i < sampled.size(); ++i) {
      const int64_t row = span.first_row + sampled[i] - span.query_offset;
      for (int head = 0; head < args.q_heads; ++head) {
        const float kept = args.lse[row * args.q_heads + head];
        const float all = lse_[i * static_cast<size_t>(args.q_heads) + static_cast<size_t>(head)];
        // Rounding of the two may differ.
        options_.on_recall(layer, head, std::min(1.0, std::exp(double{kept} - double{all})));
      }
    }
  }

  const TraceOptions& options_;
  std::vector<int64_t> sampled_;  // positions, ascending
  std::vector<std::byte> q_, out_;
  std::vector<float> lse_;
  std::vector<kernels::AttentionSpan> spans_;
};

}  // namespace

void trace_prefill(const EngineOptions& engine, std::span<const TokenId> tokens,
                   const TraceOptions& options) {
  check_stages({.prefill = options.prefill}, {.chunked_prefill = true}).value();
  const auto count = static_cast<int64_t>(tokens.size());
  EngineOptions resolved = engine;
  resolved.prefill = options.prefill;
  CpuModel model(resolved, count);
  Tracer tracer(options, count);
  model.executor().observe(&tracer);

  const auto pass = model.pass(options.prefill);
  pass->begin(tokens);
  for (int64_t done = 0; done < count;) {
    if (options.cancelled && options.cancelled())
      throw Error(ErrorCode::kCancelled, "tracing was interrupted");
    const int64_t rows = std::min(model.chunk(), count - done);
    pass->run(rows, engine.deterministic);
    done += rows;
    if (options.on_progress) options.on_progress(done, count);
  }
}

}  // namespace kvasir::engine
