// Causal attention within documents. On a GPU libtorch's: cuDNN's kernel where all documents have
// one length (which it has a plan for), flash attention over ragged documents otherwise. On the CPU
// libtorch's flash attention, document by document.

#include <ATen/TensorOperators.h>
#include <ATen/ops/_cudnn_attention_backward.h>
#include <ATen/ops/_cudnn_attention_forward.h>
#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "train/functions.h"

namespace kvasir::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

struct Heads {
  at::Tensor q, k, v;  // [rows, heads, head_dim]
};

Heads heads_of(const at::Tensor& qkv, const HeadShape& shape) {
  const at::Tensor heads = qkv.view({qkv.size(0), shape.all_heads(), shape.head_dim});
  const int64_t k_at = shape.q_heads, v_at = k_at + shape.kv_heads;
  return {heads.slice(1, 0, k_at), heads.slice(1, k_at, v_at), heads.slice(1, v_at)};
}

// What the forward leaves to the backward.
struct Attended {
  at::Tensor out;  // [rows, q_heads, head_dim]
  std::vector<at::Tensor> kept;
};

// --- CPU -----------------------------------------------------------------------------------------

// Rows [first, last) of heads, as [1, heads, rows, head_dim]; KV heads once for each query head.
at::Tensor document_of(const at::Tensor& heads, int64_t first, int64_t last, int64_t group) {
  at::Tensor part = heads.slice(0, first, last);
  if (group > 1) part = part.repeat_interleave(group, 1);
  return part.transpose(0, 1).unsqueeze(0);
}

// The mask of a window: 0 where a row sees a key. Undefined where the causal rule is all.
std::optional<at::Tensor> window_mask(const at::Tensor& q, int64_t rows, int64_t window) {
  if (window == 0 || window >= rows) return std::nullopt;
  const at::Tensor hidden = at::full({rows, rows}, -INFINITY, q.options());
  return hidden.triu(1) + hidden.tril(-window);
}

Attended attend_on_cpu(const Heads& heads, const DeviceBatch& batch, int64_t window) {
  const int64_t group = heads.q.size(1) / heads.k.size(1);
  Attended result{at::empty_like(heads.q, at::MemoryFormat::Contiguous), {}};
  for (size_t i = 0; i + 1 < batch.documents.size(); ++i) {
    const int64_t first = batch.documents[i], last = batch.documents[i + 1];
    const auto mask = window_mask(heads.q, last - first, window);
    auto [out, sums] = at::_scaled_dot_product_flash_attention_for_cpu(
        document_of(heads.q, first, last, 1), document_of(heads.k, first, last, group),
        document_of(heads.v, first, last, group), 0, !mask, mask);
    result.out.slice(0, first, last).copy_(out.squeeze(0).transpose(0, 1));
    result.kept.push_back(out);
    result.kept.push_back(sums);
  }
  return result;
}

Heads attend_back_on_cpu(const at::Tensor& d_out, const Heads& heads, const Attended& attended,
                         const DeviceBatch& batch, int64_t window) {
  const int64_t kv_heads = heads.k.size(1), group = heads.q.size(1) / kv_heads;
  const auto alike = [](const at::Tensor& x) {
    return at::empty_like(x, at::MemoryFormat::Contiguous);
  };
  const Heads result{alike(heads.q), alike(heads.k), alike(heads.v)};
  for (size_t i = 0; i + 1 < batch.documents.size(); ++i) {
    const int64_t first = batch.documents[i], last = batch.documents[i + 1];
    const auto mask = window_mask(heads.q, last - first, window);
    const auto [d_q, d_k, d_v] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
        document_of(d_out, first, last, 1), document_of(heads.q, first, last, 1),
        document_of(heads.k, first, last, group), document_of(heads.v, first, last, group),
        attended.kept[2 * i], attended.kept[2 * i + 1], 0, !mask, mask);
    const auto store = [&](const at::Tensor& target, const at::Tensor& d) {
      // [1, q_heads, rows, head_dim], summed over the query heads that share a KV head.
      const int64_t share = d.size(1) / target.size(1);
      at::Tensor part = d.squeeze(0);
      if (share > 1) part = part.view({target.size(1), share, last - first, d.size(3)}).sum(1);
      target.slice(0, first, last).copy_(part.transpose(0, 1));
    };
    store(result.q, d_q);
    store(result.k, d_k);
    store(result.v, d_v);
  }
  return result;
}

// --- GPU, documents of one length ----------------------------------------------------------------

// [rows, heads, head_dim] as [documents, heads, length, head_dim], without copying.
at::Tensor by_document(const at::Tensor& heads, int64_t length) {
  return heads.unflatten(0, {-1, length}).transpose(1, 2);
}

at::Tensor by_row(const at::Tensor& heads) {
  return heads.transpose(1, 2).contiguous().flatten(0, 1);
}

Attended attend_evenly(const Heads& heads, const DeviceBatch& batch) {
  auto [out, sums, cum_q, cum_k, max_q, max_k, seed, offset, debug] = at::_cudnn_attention_forward(
      by_document(heads.q, batch.longest), by_document(heads.k, batch.longest),
      by_document(heads.v, batch.longest), {}, {}, {}, batch.longest, batch.longest,
      /*compute_log_sumexp=*/true, 0, /*is_causal=*/true);
  return {by_row(out), {sums, seed, offset}};
}

Heads attend_back_evenly(const at::Tensor& d_out, const Heads& heads, const Attended& attended,
                         const DeviceBatch& batch) {
  const int64_t length = batch.longest;
  const auto [d_q, d_k, d_v] = at::_cudnn_attention_backward(
      by_document(d_out, length), by_document(heads.q, length), by_document(heads.k, length),
      by_document(heads.v, length), by_document(attended.out, length), attended.kept[0],
      attended.kept[1], attended.kept[2], {}, {}, {}, length, length, 0, /*is_causal=*/true);
  return {by_row(d_q), by_row(d_k), by_row(d_v)};
}

// --- GPU, any documents --------------------------------------------------------------------------

Attended attend_raggedly(const Heads& heads, const DeviceBatch& batch, int64_t window) {
  const std::optional<int64_t> left =
      window > 0 ? std::optional<int64_t>(window - 1) : std::nullopt;
  const std::optional<int64_t> right = window > 0 ? std::optional<int64_t>(0) : std::nullopt;
  auto [out, sums, state, unused, debug] = at::_flash_attention_forward(
      heads.q, heads.k, heads.v, batch.documents_on_device, batch.documents_on_device,
      batch.longest, batch.longest, 0, /*is_causal=*/true, false, {}, left, right);
  return {out, {sums, state, unused}};
}

Heads attend_back_raggedly(const at::Tensor& d_out, const Heads& heads, const Attended& attended,
                           const DeviceBatch& batch, int64_t window) {
  const std::optional<int64_t> left =
      window > 0 ? std::optional<int64_t>(window - 1) : std::nullopt;
  const std::optional<int64_t> right = window > 0 ? std::optional<int64_t>(0) : std::nullopt;
  const auto [d_q, d_k, d_v] = at::_flash_attention_backward(
      d_out, heads.q, heads.k, heads.v, attended.out, attended.kept[0], batch.documents_on_device,
      batch.documents_on_device, batch.longest, batch.longest, 0, /*is_causal=*/true,
      attended.kept[1], attended.kept[2], {}, left, right);
  return {d_q, d_k, d_v};
}

bool is_cudnn_case(const DeviceBatch& batch, const HeadShape& shape, int64_t window) {
  return batch.is_even && window == 0 && shape.head_dim % 8 == 0 && shape.head_dim <= 128;
}

struct AttentionFunction : Function<AttentionFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& qkv, const HeadShape& shape,
                            const DeviceBatch& batch, int64_t window) {
    rotate(qkv, shape, batch.cos_sin, batch.rotation);
    const Heads heads = heads_of(qkv, shape);
    const Attended attended = !qkv.is_cuda() ? attend_on_cpu(heads, batch, window)
                              : is_cudnn_case(batch, shape, window)
                                  ? attend_evenly(heads, batch)
                                  : attend_raggedly(heads, batch, window);
    variable_list kept{qkv, attended.out};
    kept.insert(kept.end(), attended.kept.begin(), attended.kept.end());
    // Not save_for_backward: qkv is an input that was changed, and the output is kept as a view.
    context->saved_data["kept"] = std::move(kept);
    context->saved_data["shape"] =
        std::vector<int64_t>{shape.q_heads, shape.kv_heads, shape.head_dim, shape.interleaved};
    context->saved_data["window"] = window;
    context->saved_data["batch"] = reinterpret_cast<int64_t>(&batch);
    return attended.out.detach().flatten(1);
  }

  static variable_list backward(AutogradContext* context, const variable_list& d) {
    const std::vector<at::Tensor> kept = context->saved_data["kept"].toTensorVector();
    const std::vector<int64_t> words = context->saved_data["shape"].toIntVector();
    const HeadShape shape{words[0], words[1], words[2], words[3] != 0};
    const int64_t window = context->saved_data["window"].toInt();
    const auto& batch = *reinterpret_cast<const DeviceBatch*>(context->saved_data["batch"].toInt());
    const Heads heads = heads_of(kept[0], shape);
    const Attended attended{kept[1], {kept.begin() + 2, kept.end()}};
    const at::Tensor d_out = d[0].contiguous().view({d[0].size(0), shape.q_heads, shape.head_dim});
    const Heads back = !d_out.is_cuda() ? attend_back_on_cpu(d_out, heads, attended, batch, window)
                       : is_cudnn_case(batch, shape, window)
                           ? attend_back_evenly(d_out, heads, attended, batch)
                           : attend_back_raggedly(d_out, heads, attended, batch, window);
    return {rotate_back(back.q, back.k, back.v, shape, batch.cos_sin, batch.rotation), {}, {}, {}};
  }
};

}  // namespace

at::Tensor attend(const at::Tensor& qkv, const HeadShape& shape, const DeviceBatch& batch,
                  int64_t window) {
  return AttentionFunction::apply(qkv, shape, batch, window);
}

}  // namespace kvasir::train
