#include "engine/step_inputs_cuda.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "base/check.h"

namespace kvasir::engine {
namespace {

int64_t pages_of(int64_t length) {
  return (length + kernels::kPageTokens - 1) / kernels::kPageTokens;
}

int64_t table_capacity(const StepInputs::Limits& limits) {
  return limits.scratch.max_spans *
         std::min(pages_of(limits.scratch.max_length), limits.pool_blocks);
}

int64_t tables_bytes(const StepInputs::Limits& limits) {
  return table_capacity(limits) * limits.layers * static_cast<int64_t>(sizeof(uint32_t));
}

}  // namespace

StepInputs::Arrays StepInputs::lay_out(const Limits& limits, const models::Rotary& rotary,
                                       std::byte* base) {
  Arrays arrays{};
  size_t used = 0;
  const auto take = [&](auto*& pointer, int64_t count) {
    using T = std::remove_pointer_t<std::remove_reference_t<decltype(pointer)>>;
    pointer = base ? reinterpret_cast<T*>(base + used) : nullptr;
    used += (static_cast<size_t>(count) * sizeof(T) + 255) / 256 * 256;
  };
  take(arrays.tokens, limits.scratch.max_rows);
  take(arrays.positions, limits.scratch.max_rows);
  take(arrays.first_page, limits.scratch.max_rows);
  take(arrays.rope_table, limits.scratch.max_rows);
  take(arrays.logit_row, limits.scratch.max_logit_rows);
  take(arrays.logit_first_page, limits.scratch.max_logit_rows);
  take(arrays.decode, limits.scratch.max_spans);
  take(arrays.prefill, limits.scratch.max_spans);
  take(arrays.last_decode, limits.scratch.max_spans);
  take(arrays.last_prefill, limits.scratch.max_spans);
  const int64_t tables = rotary.depends_on_length() ? limits.scratch.max_spans : 1;
  take(arrays.frequencies, tables * rotary.rotary_dim() / 2);
  arrays.bytes = used;
  return arrays;
}

int64_t StepInputs::device_bytes(const Limits& limits, const models::Rotary& rotary) {
  return static_cast<int64_t>(lay_out(limits, rotary, nullptr).bytes) + tables_bytes(limits);
}

StepInputs::StepInputs(const Limits& limits, const models::Rotary& rotary)
    : limits_(limits),
      rotary_(rotary),
      table_capacity_(table_capacity(limits)),
      host_memory_(lay_out(limits, rotary, nullptr).bytes),
      device_memory_(host_memory_.bytes()),
      device_tables_(static_cast<size_t>(tables_bytes(limits))),
      host_(lay_out(limits, rotary, host_memory_.data())),
      device_(lay_out(limits, rotary, device_memory_.data())) {
  const std::vector<float> usual = rotary.inverse_frequencies(0);
  std::ranges::copy(usual, host_.frequencies);
}

void StepInputs::write(const Step& step, int64_t padded_rows, cudaStream_t stream) {
  write_rows(step);
  for (int64_t row = step_.rows; row < padded_rows; ++row) {
    host_.tokens[row] = 0;
    host_.positions[row] = 0;
    host_.first_page[row] = -1;
    host_.rope_table[row] = 0;
    host_.decode[row] = {};
  }
  if (padded_rows > 0) {
    KVASIR_CHECK(step_.every_row_has_logits() && step_.prefill.count == 0 &&
                 padded_rows <= limits_.scratch.max_rows &&
                 padded_rows <= limits_.scratch.max_spans);
    step_.rows = step_.logit_rows = step_.decode.count = static_cast<int>(padded_rows);
    step_.decode.rows = padded_rows;
    step_.decode.max_length = limits_.scratch.max_length;
  }
  KVASIR_CUDA(cudaMemcpyAsync(device_memory_.data(), host_memory_.data(), host_.bytes,
                              cudaMemcpyHostToDevice, stream));
  write_tables(step, stream);
}

void StepInputs::write_rows(const Step& step) {
  step_ = {.tokens = device_.tokens,
           .positions = device_.positions,
           .first_page = device_.first_page,
           .rope_table = rotary_.depends_on_length() ? device_.rope_table : nullptr,
           .logit_row = device_.logit_row,
           .logit_first_page = device_.logit_first_page,
           .frequencies = device_.frequencies,
           .page_tables = reinterpret_cast<const uint32_t*>(device_tables_.data()),
           .table_entries = table_capacity_,
           .decode = {.spans = device_.decode},
           .prefill = {.spans = device_.prefill},
           .last_decode = {.spans = device_.last_decode},
           .last_prefill = {.spans = device_.last_prefill},
           .deterministic = step.deterministic,
           .captured = false,
           .cancel = step.cancel};
  first_logit_row_.clear();
  first_entry_.clear();
  planned_.clear();
  last_planned_.clear();
  entries_ = 0;
  const auto add = [](kernels::CudaAttentionSpan* host, models::DeviceSpans& spans,
                      const kernels::CudaAttentionSpan& span) {
    host[spans.count++] = span;
    spans.rows += span.rows;
    spans.max_length = std::max<int64_t>(spans.max_length, span.query_offset + span.rows);
  };
  for (size_t i = 0; i < step.spans.size(); ++i) {
    const StepSpan& span = step.spans[i];
    const auto rows = static_cast<int64_t>(span.tokens.size());
    const int64_t logits = span.logit_rows();
    first_entry_.push_back(entries_);
    first_logit_row_.push_back(step_.logit_rows);
    const auto table = static_cast<int32_t>(rotary_.depends_on_length() ? i : 0);
    if (rotary_.depends_on_length()) write_frequencies(span, table);
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t at = step_.rows + row;
      host_.tokens[at] = span.tokens[static_cast<size_t>(row)];
      host_.positions[at] = static_cast<int32_t>(span.first_position + row);
      host_.first_page[at] = static_cast<int32_t>(entries_);
      host_.rope_table[at] = table;
    }
    kernels::CudaAttentionSpan work{.first_row = static_cast<int32_t>(step_.rows),
                                    .rows = static_cast<int32_t>(rows),
                                    .query_offset = static_cast<int32_t>(span.first_position),
                                    .first_page = static_cast<int32_t>(entries_)};
    // In deterministic mode a row must not notice how its span was cut: one kernel for all.
    const bool is_decode = rows == 1 && !step.deterministic;
    const auto plan = [&](std::vector<models::PlannedSpan>& list) {
      list.push_back({.planner = span.planner,
                      .prompt_length = span.prompt_length,
                      .span = work,
                      .step_span = i});
    };
    if (span.planner)
      plan(planned_);
    else
      add(is_decode ? host_.decode : host_.prefill, is_decode ? step_.decode : step_.prefill, work);
    if (logits > 0) {
      work.first_row = static_cast<int32_t>(step_.logit_rows);
      work.query_offset += static_cast<int32_t>(rows - logits);
      work.rows = static_cast<int32_t>(logits);
      const bool last = logits == 1 && !step.deterministic;
      if (span.planner)
        plan(last_planned_);
      else
        add(last ? host_.last_decode : host_.last_prefill,
            last ? step_.last_decode : step_.last_prefill, work);
    }
    for (int64_t row = rows - logits; row < rows; ++row) {
      host_.logit_row[step_.logit_rows] = static_cast<int32_t>(step_.rows + row);
      host_.logit_first_page[step_.logit_rows++] = static_cast<int32_t>(entries_);
    }
    step_.rows += rows;
    entries_ += pages_of(span.first_position + rows);
  }
  step_.planned = planned_;
  step_.last_planned = last_planned_;
}

void StepInputs::write_tables(const Step& step, cudaStream_t stream) {
  KVASIR_CHECK(entries_ <= table_capacity_);
  // Page-locked memory is slow to get: as much as is needed, and some more.
  const size_t wanted = static_cast<size_t>(entries_ * limits_.layers) * sizeof(uint32_t);
  if (host_tables_.bytes() < wanted)
    host_tables_ = cuda::PinnedMemory(std::max(2 * wanted, size_t{64} << 10));
  // On the host the layers' tables lie close together, so that only what is used is copied.
  auto* host = reinterpret_cast<uint32_t*>(host_tables_.data());
  for (size_t i = 0; i < step.spans.size(); ++i) {
    const StepSpan& span = step.spans[i];
    const auto pages = static_cast<size_t>(pages_of(span.first_position + std::ssize(span.tokens)));
    for (int64_t layer = 0; layer < limits_.layers; ++layer)
      std::memcpy(host + layer * entries_ + first_entry_[i],
                  span.page_tables[static_cast<size_t>(layer)], pages * sizeof(uint32_t));
  }
  const size_t used = static_cast<size_t>(entries_) * sizeof(uint32_t);
  const size_t pitch = static_cast<size_t>(table_capacity_) * sizeof(uint32_t);
  if (used > 0)
    KVASIR_CUDA(cudaMemcpy2DAsync(device_tables_.data(), pitch, host_tables_.data(), used, used,
                                  static_cast<size_t>(limits_.layers), cudaMemcpyHostToDevice,
                                  stream));
}

void StepInputs::write_frequencies(const StepSpan& span, int32_t table) {
  const std::vector<float> frequencies = rotary_.inverse_frequencies(span.rope_length);
  std::ranges::copy(frequencies, host_.frequencies + table * rotary_.rotary_dim() / 2);
}

}  // namespace kvasir::engine
