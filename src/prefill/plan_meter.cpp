#include "prefill/plan_meter.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/paged_attention/paged_attention.h"

namespace kvasir::prefill {
namespace {

constexpr double kCounted = 5e-3;  // the released search's difference worth counting

std::vector<double> shares(const std::vector<kernels::PlanSize>& sizes) {
  std::vector<double> found;
  for (const kernels::PlanSize& size : sizes)
    found.push_back(std::min(1.0, static_cast<double>(size.computed) /
                                      static_cast<double>(std::max<int64_t>(1, size.causal))));
  return found;
}

void tell(const PlanMeter::Between& between, int64_t done, int64_t total) {
  if (between) between(static_cast<double>(done) / static_cast<double>(total));
}

}  // namespace

PlanMeter::PlanMeter(const kernels::CpuContext& context, const LayerQueries& queries,
                     const DenseResult& dense, int64_t chunk)
    : context_(context),
      queries_(queries),
      dense_(dense),
      chunk_(std::min(chunk, queries.chunk.rows)) {
  KVASIR_CHECK(chunk_ > 0, "chunks have rows");
}

LayerQueries PlanMeter::plan(const MakePlan& make, int64_t first) {
  LayerQueries part = queries_;
  const auto row_bytes =
      queries_.q_row_stride * static_cast<int64_t>(dtype_bytes(queries_.pages.dtype));
  part.chunk = {.query_offset = queries_.chunk.query_offset + first,
                .rows = std::min(chunk_, queries_.chunk.rows - first),
                .row_tile = 128};
  part.q = static_cast<const std::byte*>(queries_.q) + first * row_bytes;
  plan_.clear();
  plan_.row_tile = part.chunk.row_tile;
  workspace_.clear();
  make(part, workspace_, plan_);
  return part;
}

void PlanMeter::add_sizes(const Chunk& chunk, std::vector<kernels::PlanSize>& sizes) const {
  const kernels::AttentionPlan view = plan_.view();
  context_.pool.parallel(std::ssize(sizes), [&](int64_t head, int) {
    sizes[static_cast<size_t>(head)] += kernels::plan_size({.plan = &view,
                                                            .head = static_cast<int>(head),
                                                            .rows = chunk.rows,
                                                            .query_offset = chunk.query_offset});
  });
}

std::vector<double> PlanMeter::densities(const MakePlan& make, const Between& between) {
  std::vector<kernels::PlanSize> sizes(heads());
  for (int64_t first = 0; first < queries_.chunk.rows; first += chunk_) {
    tell(between, first, queries_.chunk.rows);
    add_sizes(plan(make, first).chunk, sizes);
  }
  return shares(sizes);
}

std::vector<HeadMeasure> PlanMeter::measure(const MakePlan& make, const std::vector<bool>& asked,
                                            const Between& between) {
  std::vector<HeadMeasure> found(heads());
  std::vector<kernels::PlanSize> sizes(heads());
  const int64_t rows = queries_.chunk.rows;
  for (int64_t first = 0; first < rows; first += chunk_) {
    tell(between, first, rows);
    const LayerQueries part = plan(make, first);
    add_sizes(part.chunk, sizes);
    attend(part);
    context_.pool.parallel(std::ssize(found), [&](int64_t head, int) {
      const auto place = static_cast<size_t>(head);
      if (asked.empty() || asked[place]) compare(first, part.chunk.rows, head, found[place]);
    });
  }
  const std::vector<double> densities = shares(sizes);
  for (size_t head = 0; head < found.size(); ++head) {
    found[head].error /= static_cast<double>(rows);
    found[head].recall /= static_cast<double>(rows);
    found[head].density = densities[head];
  }
  return found;
}

void PlanMeter::attend(const LayerQueries& part) {
  const int64_t elements = part.chunk.rows * queries_.q_heads * int64_t{queries_.pages.head_dim};
  out_.resize(static_cast<size_t>(elements) * dtype_bytes(queries_.pages.dtype));
  lse_.resize(static_cast<size_t>(part.chunk.rows * queries_.q_heads));
  const kernels::AttentionPlan view = plan_.view();
  const kernels::AttentionSpan span{.rows = part.chunk.rows,
                                    .query_offset = part.chunk.query_offset,
                                    .page_table = part.page_table,
                                    .plan = &view};
  const size_t bytes = kernels::attention_workspace_bytes({.dtype = part.pages.dtype,
                                                           .q_heads = part.q_heads,
                                                           .kv_heads = part.pages.kv_heads,
                                                           .head_dim = part.pages.head_dim},
                                                          part.chunk.rows, 1, part.chunk.length(),
                                                          context_.pool.size());
  workspace_.clear();
  kernels::run_attention(context_, {.q = part.q,
                                    .q_row_stride = part.q_row_stride,
                                    .out = out_.data(),
                                    .lse = lse_.data(),
                                    .pages = part.pages,
                                    .q_heads = part.q_heads,
                                    .scale = part.scale,
                                    .spans = {&span, 1},
                                    .workspace = workspace_.bytes(bytes)});
}

// Adds up the rows [first, first + rows) of a head.
void PlanMeter::compare(int64_t first, int64_t rows, int64_t head, HeadMeasure& sums) const {
  const int64_t size = queries_.pages.head_dim, heads = queries_.q_heads;
  const DType dtype = queries_.pages.dtype;
  const auto* dense = static_cast<const std::byte*>(dense_.out);
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t mine = row * heads + head, theirs = (first + row) * heads + head;
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < size; ++i) {
      const double wanted = read_f32(dense, dtype, theirs * size + i);
      const double found = read_f32(out_.data(), dtype, mine * size + i);
      difference += (found - wanted) * (found - wanted);
      norm += wanted * wanted;
      sums.count += std::abs(found - wanted) > kCounted;
    }
    sums.error += norm > 0 ? std::sqrt(difference / norm) : 0;
    // Rounding of the two may differ.
    sums.recall += std::min(
        1.0, std::exp(double{lse_[static_cast<size_t>(mine)]} - double{dense_.lse[theirs]}));
  }
}

}  // namespace kvasir::prefill
