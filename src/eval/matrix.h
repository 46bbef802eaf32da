#pragma once
// The rows of a run: which methods of the stages are combined.

#include <string>
#include <vector>

#include "engine/stages.h"
#include "eval/options.h"
#include "eval/summary.h"

namespace kvasir::eval {

struct MatrixRow {
  StageChoice stages;  // as typed
  Loading loading = Loading::kResident;

  MethodRow name() const;
  // The stages for sessions of `length` tokens: "n/8" becomes an eighth of it, at least 1.
  StageChoice at(int64_t length) const;
};

struct RefusedRow {
  MatrixRow row;
  std::string why;  // one sentence
};

struct Matrix {
  std::vector<MatrixRow> rows;  // the first changes nothing
  std::vector<RefusedRow> refused;

  // Takes a row out of `rows`.
  void refuse(size_t row, const Error& error);
};

// Every combination of the options' methods that the tables allow on sessions of all `lengths`.
// Without any method, `each_method` stands for every method of every stage alone, with its options
// for any length. Throws kNotFound
// for an unknown method and kInvalidArgument for an option that is wrong.
Matrix make_matrix(const RunOptions& options, const std::vector<int64_t>& lengths, bool on_gpu,
                   bool each_method, const engine::StageTables& tables = engine::stage_tables());

}  // namespace kvasir::eval
