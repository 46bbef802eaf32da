#pragma once
// The forward pass of a decoder-only transformer, written once. `Ops` carries out the operations:
// CpuOps on paged KV with the engine's kernels (inference), or differentiable ATen operations
// (training). Both hold the rows of a step: all of its tokens, and those whose logits are asked
// for.
//
// clang-format off
// Ops provides, for its own Weights, Layer and array types:
//   Residual embed()                            token embeddings                   [rows, hidden]
//   Activation norm(Residual, weight)           RMS norm                           [rows, hidden]
//   Heads project_heads(Activation, layer, narrow)  queries, keys, values; with `narrow` queries
//                                               only of the rows that need logits
//   Activation attend(Heads, layer, narrow)     rotation, KV write, attention      [rows, q size]
//   Residual narrow(Residual)                   keeps the rows that need logits
//   void add_linear(Residual&, Activation, linear, norm)  residual += x W^T + b; where the family
//                                               norms its blocks' outputs (`norm` is there):
//                                               residual += RMS norm of x W^T + b
//   Activation gated(Activation, layer)         silu(gate) * up                    [rows, inner]
//   Logits head(Activation)                     next-token logits                  [rows, vocab]
//   bool stopped()                              cancelled: the rest is skipped
// clang-format on

#include <cstddef>

namespace kvasir::models {

// One layer: attention and the feed-forward, each added to the residual.
template <class Ops>
void forward_layer(Ops& ops, const typename Ops::Layer& layer, bool is_last,
                   typename Ops::Residual& residual) {
  auto heads = ops.project_heads(ops.norm(residual, layer.input_norm), layer, is_last);
  auto mixed = ops.attend(heads, layer, is_last);
  // Rows without logits end at the last layer's keys and values: nothing reads them further.
  if (is_last) residual = ops.narrow(residual);
  ops.add_linear(residual, mixed, layer.o, layer.o_norm);
  auto inner = ops.gated(ops.norm(residual, layer.post_norm), layer);
  ops.add_linear(residual, inner, layer.down, layer.down_norm);
}

template <class Ops>
typename Ops::Logits forward(Ops& ops, const typename Ops::Weights& weights) {
  auto residual = ops.embed();
  for (std::size_t index = 0; index < weights.layers.size() && !ops.stopped(); ++index) {
    ops.begin_layer(index);
    forward_layer(ops, weights.layers[index], index + 1 == weights.layers.size(), residual);
  }
  return ops.head(ops.norm(residual, weights.final_norm));
}

}  // namespace kvasir::models
