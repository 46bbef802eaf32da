// The fused kernels of training against their definitions in double.

#include <cmath>

#include "kernels/add_norm/add_norm_cuda.h"
#include "kernels/cross_entropy/cross_entropy_cuda.h"
#include "kernels/gated/gated_backward_cuda.h"
#include "kernels/gpu.h"
#include "kernels/numeric.h"
#include "kernels/rotate/rotate_cuda.h"

namespace kvasir {
namespace {

using AddNorm = testing::GpuTest;
using Rotate = testing::GpuTest;
using GatedBackward = testing::GpuTest;
using CrossEntropy = testing::GpuTest;

// Random bf16 values, as bits and as numbers.
struct Bf16 {
  std::vector<uint16_t> bits;
  std::vector<double> values;

  Bf16(size_t count, uint32_t seed, float scale = 1) {
    for (const float value : testing::normal_values(count, seed, scale)) {
      bits.push_back(f32_to_bf16(value));
      values.push_back(bf16_to_f32(bits.back()));
    }
  }
};

// bf16 rounds by 2^-9 of an element; results of a few roundings and f32 sums.
void expect_close(const std::vector<uint16_t>& found, const std::vector<double>& expected,
                  const char* what, double bound = 0x1p-7) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i)
    ASSERT_NEAR(bf16_to_f32(found[i]), expected[i], bound * (std::abs(expected[i]) + 0.05))
        << what << ", element " << i;
}

TEST_F(AddNorm, ForwardAndBackward) {
  for (const auto& [rows, size] : {std::pair<int64_t, int64_t>{37, 384},
                                   {5, 64},
                                   {1, 2048},
                                   {9, 4100},
                                   {3, 8192},
                                   {1030, 516}})
    for (const bool adds : {true, false}) {
      SCOPED_TRACE(::testing::Message() << rows << " x " << size << (adds ? " added" : ""));
      const auto count = static_cast<size_t>(rows * size);
      const Bf16 x(count, 1), y(count, 2), d_normed(count, 3), d_sum(count, 4);
      const std::vector<float> weight = testing::normal_values(size, 5);
      constexpr float kEps = 1e-5f;
      const testing::DeviceArray<uint16_t> x_on(x.bits), y_on(y.bits), sum_on(count),
          normed_on(count), d_normed_on(d_normed.bits), d_sum_on(d_sum.bits), d_x_on(count);
      const testing::DeviceArray<float> weight_on(weight), scale_on(rows);
      kernels::run_add_norm(context_, {.x = x_on.data(),
                                       .y = adds ? y_on.data() : nullptr,
                                       .weight = weight_on.data(),
                                       .sum = adds ? sum_on.data() : nullptr,
                                       .normed = normed_on.data(),
                                       .scale = scale_on.data(),
                                       .rows = rows,
                                       .size = size,
                                       .eps = kEps});
      const int64_t parts = kernels::add_norm_parts(context_, rows, size);
      const testing::DeviceArray<float> parts_on(parts * size);
      const uint16_t* sum_data = adds ? sum_on.data() : x_on.data();
      kernels::run_add_norm_backward(context_, {.d_normed = d_normed_on.data(),
                                                .d_sum = adds ? d_sum_on.data() : nullptr,
                                                .sum = sum_data,
                                                .scale = scale_on.data(),
                                                .weight = weight_on.data(),
                                                .d_x = d_x_on.data(),
                                                .weight_parts = parts_on.data(),
                                                .rows = rows,
                                                .size = size});
      std::vector<double> normed(count), d_x(count), d_weight(size, 0.0), sums(count);
      for (int64_t row = 0; row < rows; ++row) {
        double squares = 0, product = 0;
        for (int64_t i = row * size; i < (row + 1) * size; ++i) {
          sums[i] = adds ? bf16_to_f32(f32_to_bf16(static_cast<float>(x.values[i] + y.values[i])))
                         : x.values[i];
          squares += sums[i] * sums[i];
        }
        const double scale = 1 / std::sqrt(squares / static_cast<double>(size) + kEps);
        for (int64_t j = 0; j < size; ++j) {
          const int64_t i = row * size + j;
          normed[i] = sums[i] * scale * weight[j];
          d_weight[j] += d_normed.values[i] * sums[i] * scale;
          product += d_normed.values[i] * weight[j] * sums[i] * scale;
        }
        for (int64_t j = 0; j < size; ++j) {
          const int64_t i = row * size + j;
          d_x[i] = (adds ? d_sum.values[i] : 0) +
                   scale * (d_normed.values[i] * weight[j] -
                            sums[i] * scale * product / static_cast<double>(size));
        }
      }
      expect_close(normed_on.read(), normed, "normed");
      if (adds) expect_close(sum_on.read(), sums, "sum");
      expect_close(d_x_on.read(), d_x, "d_x");
      const std::vector<float> found = parts_on.read();
      for (int64_t j = 0; j < size; ++j) {
        double sum = 0;
        for (int64_t part = 0; part < parts; ++part) sum += found[part * size + j];
        ASSERT_NEAR(sum, d_weight[j], 1e-3 * std::sqrt(static_cast<double>(rows)) + 1e-3)
            << "weight " << j;
      }
    }
}

TEST_F(Rotate, ForwardAndBack) {
  struct Case {
    int q_heads, kv_heads, head_dim, rotary_dim;
    bool interleaved;
  };
  for (const Case& c :
       {Case{6, 2, 64, 64, false}, Case{4, 4, 128, 64, true}, Case{3, 1, 20, 10, false},
        Case{3, 1, 20, 10, true}, Case{2, 1, 80, 32, false}}) {
    SCOPED_TRACE(::testing::Message() << c.head_dim << ", " << c.rotary_dim << c.interleaved);
    constexpr int64_t kRows = 19, kTable = 7;
    const int heads = c.q_heads + 2 * c.kv_heads, half = c.rotary_dim / 2;
    const auto count = static_cast<size_t>(kRows * heads * c.head_dim);
    const Bf16 qkv(count, 11);
    std::vector<float> table;
    for (int64_t row = 0; row < kTable; ++row)
      for (int i = 0; i < c.rotary_dim; ++i) {
        const double angle = static_cast<double>(row) * (1 + i % half) * 0.37;
        table.push_back(static_cast<float>(i < half ? std::cos(angle) : std::sin(angle)));
      }
    std::vector<int64_t> rotation;
    for (int64_t row = 0; row < kRows; ++row) rotation.push_back(row * 3 % kTable);
    const auto turned = [&](double sign) {
      std::vector<double> out = qkv.values;
      for (int64_t row = 0; row < kRows; ++row)
        for (int head = 0; head < c.q_heads + c.kv_heads; ++head)
          for (int i = 0; i < half; ++i) {
            const int64_t base = (row * heads + head) * c.head_dim;
            const int64_t a = base + (c.interleaved ? 2 * i : i);
            const int64_t b = base + (c.interleaved ? 2 * i + 1 : half + i);
            const double cosine = table[rotation[row] * c.rotary_dim + i];
            const double sine = sign * table[rotation[row] * c.rotary_dim + half + i];
            out[a] = qkv.values[a] * cosine - qkv.values[b] * sine;
            out[b] = qkv.values[b] * cosine + qkv.values[a] * sine;
          }
      return out;
    };
    const testing::DeviceArray<uint16_t> qkv_on(qkv.bits);
    const testing::DeviceArray<float> table_on(table);
    const testing::DeviceArray<int64_t> rotation_on(rotation);
    kernels::RotateArgs args{.qkv = qkv_on.data(),
                             .cos_sin = table_on.data(),
                             .rotation = rotation_on.data(),
                             .rows = kRows,
                             .q_heads = c.q_heads,
                             .kv_heads = c.kv_heads,
                             .head_dim = c.head_dim,
                             .rotary_dim = c.rotary_dim,
                             .interleaved = c.interleaved};
    kernels::run_rotate(context_, args);
    expect_close(qkv_on.read(), turned(1), "rotated");

    // The same numbers as gradients, queries, keys and values apart.
    std::vector<uint16_t> parts[3];
    for (int64_t row = 0; row < kRows; ++row)
      for (int head = 0; head < heads; ++head) {
        const auto first = qkv.bits.begin() + (row * heads + head) * c.head_dim;
        auto& part = parts[head < c.q_heads ? 0 : head < c.q_heads + c.kv_heads ? 1 : 2];
        part.insert(part.end(), first, first + c.head_dim);
      }
    const testing::DeviceArray<uint16_t> d_q(parts[0]), d_k(parts[1]), d_v(parts[2]), back(count);
    args.qkv = back.data();
    kernels::run_rotate_back(
        context_, {.d_q = d_q.data(), .d_k = d_k.data(), .d_v = d_v.data(), .heads = args});
    expect_close(back.read(), turned(-1), "turned back");
  }
}

TEST_F(GatedBackward, AgainstTheDefinition) {
  for (const auto& [rows, size] : {std::pair<int64_t, int64_t>{33, 1024}, {1, 8}, {7, 136}}) {
    const auto count = static_cast<size_t>(rows * size);
    const Bf16 gate_up(2 * count, 21, 2), d_y(count, 22);
    const testing::DeviceArray<uint16_t> gate_up_on(gate_up.bits), d_y_on(d_y.bits), out(2 * count);
    kernels::run_gated_backward(context_, {.d_y = d_y_on.data(),
                                           .gate_up = gate_up_on.data(),
                                           .d_gate_up = out.data(),
                                           .rows = rows,
                                           .size = size});
    std::vector<double> expected(2 * count);
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t i = 0; i < size; ++i) {
        const double gate = gate_up.values[row * 2 * size + i];
        const double up = gate_up.values[row * 2 * size + size + i];
        const double d = d_y.values[row * size + i], sigmoid = 1 / (1 + std::exp(-gate));
        expected[row * 2 * size + i] = d * up * sigmoid * (1 + gate * (1 - sigmoid));
        expected[row * 2 * size + size + i] = d * gate * sigmoid;
      }
    expect_close(out.read(), expected, "d_gate_up");
  }
}

TEST_F(CrossEntropy, LossAndGradient) {
  for (const int64_t vocab : {8192, 64, 32008}) {
    SCOPED_TRACE(vocab);
    constexpr int64_t kRows = 13;
    const Bf16 logits(static_cast<size_t>(kRows * vocab), 31, 3);
    std::vector<int64_t> targets;
    std::vector<float> weights;
    for (int64_t row = 0; row < kRows; ++row) {
      targets.push_back(row * 977 % vocab);
      weights.push_back(row % 4 == 1 ? 0.0f : 0.5f * static_cast<float>(row % 3 + 1));
    }
    const testing::DeviceArray<uint16_t> logits_on(logits.bits);
    const testing::DeviceArray<int64_t> targets_on(targets);
    const testing::DeviceArray<float> weights_on(weights), losses_on(kRows);
    kernels::run_cross_entropy(context_, {.logits = logits_on.data(),
                                          .targets = targets_on.data(),
                                          .weights = weights_on.data(),
                                          .losses = losses_on.data(),
                                          .rows = kRows,
                                          .vocab = vocab,
                                          .wants_gradient = true});
    const std::vector<float> losses = losses_on.read();
    const std::vector<uint16_t> found = logits_on.read();
    for (int64_t row = 0; row < kRows; ++row) {
      const double* x = logits.values.data() + row * vocab;
      double sum = 0;
      for (int64_t i = 0; i < vocab; ++i) sum += std::exp(x[i]);
      EXPECT_NEAR(losses[row], weights[row] * (std::log(sum) - x[targets[row]]), 1e-3);
      for (int64_t i = 0; i < vocab; ++i) {
        const double gradient = weights[row] * (std::exp(x[i]) / sum - (i == targets[row] ? 1 : 0));
        ASSERT_NEAR(bf16_to_f32(found[row * vocab + i]), gradient,
                    0x1p-7 * std::abs(gradient) + 1e-6)
            << "row " << row << ", element " << i;
      }
    }
  }
}

}  // namespace
}  // namespace kvasir
