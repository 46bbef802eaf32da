// Which rows a run has.

#include "eval/matrix.h"

#include <gtest/gtest.h>

namespace kvasir::eval {
namespace {

Result<void> is_number(std::string_view value) {
  for (const char letter : value)
    if (letter < '0' || letter > '9')
      return Error(ErrorCode::kInvalidArgument, "expected a number", std::string(value));
  return {};
}
constexpr MethodOption kOptions[] = {{"keep", "tokens", is_number}};
constexpr MethodCapabilities kCan{
    .chunked_prefill = true, .prefix_reuse = true, .batching = true, .gpu = true};
constexpr MethodCapabilities kReadsAnything{.chunked_prefill = true,
                                            .prefix_reuse = true,
                                            .batching = true,
                                            .quantised_kv = true,
                                            .gpu = true};
constexpr MethodCapabilities kAlone{.chunked_prefill = true, .prefix_reuse = true, .gpu = true};
constexpr Method kPrefill[] = {{"dense", "", kReadsAnything, {}},
                               {"sparse", "", kCan, kOptions, "keep=n/4"}};
constexpr Method kCompress[] = {{"plain", "", kCan, {}}, {"half", "", kCan, kOptions}};
constexpr Method kRetrieve[] = {
    {"dense", "", kReadsAnything, {}}, {"index", "", kCan, {}}, {"alone", "", kAlone, {}}};
constexpr engine::StageTables kTables{
    .prefill = kPrefill, .compress = kCompress, .retrieve = kRetrieve};

std::vector<std::string> names(const Matrix& matrix) {
  std::vector<std::string> all;
  for (const MatrixRow& row : matrix.rows) all.push_back(row_name(row.name()));
  return all;
}
using Names = std::vector<std::string>;

Matrix made(const RunOptions& options, bool each_method = false) {
  return make_matrix(options, {1024, 4096}, false, each_method, kTables);
}

TEST(Matrix, CombinesWhatGoesTogetherAndSaysWhatDoesNot) {
  const Matrix matrix = made({.prefill = {{"sparse", {}}},
                              .compress = {{"half", {{"keep", "n/8"}}}},
                              .retrieve = {{"index", {}}}});
  EXPECT_EQ(names(matrix), (Names{"dense", "index", "half:keep=n/8", "sparse", "sparse + index"}));
  ASSERT_EQ(matrix.refused.size(), 3u);
  EXPECT_EQ(matrix.refused[0].why,
            "--retrieve: index reads plain KV only, not that of --compress half");
  EXPECT_EQ(row_name(matrix.refused[1].row.name()), "sparse + half:keep=n/8");
}

TEST(Matrix, DenseIsTheFirstRowOnce) {
  EXPECT_EQ(names(made({})), Names{"dense"});
  EXPECT_EQ(names(made({.prefill = {{"dense", {}}, {"sparse", {}}, {"sparse", {}}}})),
            (Names{"dense", "sparse"}));
  EXPECT_EQ(names(made({.loading = {Loading::kRecompute, Loading::kResident}})),
            (Names{"dense", "recompute"}));
}

TEST(Matrix, EachMethodAloneWhereNoneIsAskedFor) {
  const Matrix matrix = made({}, true);
  EXPECT_EQ(names(matrix), (Names{"dense", "sparse:keep=n/4", "half", "index"}));
  ASSERT_EQ(matrix.refused.size(), 1u);
  EXPECT_EQ(matrix.refused[0].why,
            "--retrieve: alone does not work with several sequences at once");
  EXPECT_EQ(names(made({.retrieve = {{"index", {}}}}, true)), (Names{"dense", "index"}));
}

TEST(Matrix, ValuesMayFollowTheLength) {
  const Matrix matrix = made({.prefill = {{"sparse", {{"keep", "n/8"}}}}});
  ASSERT_EQ(matrix.rows.size(), 2u);
  EXPECT_EQ(matrix.rows[1].name().prefill, "sparse:keep=n/8");
  EXPECT_EQ(matrix.rows[1].at(1024).prefill.options.at("keep"), "128");
  EXPECT_EQ(matrix.rows[1].at(4).prefill.options.at("keep"), "1");
}

TEST(Matrix, WhatCanNeverBeIsThrown) {
  const auto refusal = [](const RunOptions& options) -> std::string {
    try {
      made(options);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(refusal({.compress = {{"hlaf", {}}}}),
            "--compress: no method \"hlaf\"; there is plain, half");
  EXPECT_NE(refusal({.prefill = {{"sparse", {{"keep", "n/x"}}}}}), "");
  EXPECT_NE(refusal({.prefill = {{"sparse", {{"kept", "1"}}}}}), "");
}

}  // namespace
}  // namespace kvasir::eval
