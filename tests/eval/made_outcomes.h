#pragma once
// Outcomes as a run would leave them, made of a seed: what reports and comparisons are tested with.

#include <algorithm>
#include <string>
#include <vector>

#include "eval/outcome.h"
#include "tasks/random.h"

namespace kvasir::eval {

struct Made {
  std::string suite = "tiny";
  std::vector<std::string> tasks{"kv"};
  std::vector<int64_t> lengths{1024};
  std::vector<double> depths{-1};
  int rows = 1;  // of dense, then others that are worse and cheaper one by one
  int64_t sessions = 20, turns = 1;
  double accuracy = 0.95;  // of the first row
  double slower = 1;       // factor of all times
  int64_t failing = 0;     // every so manieth question has an error; 0: none
};

inline std::vector<Outcome> made_outcomes(const Made& made, uint64_t seed) {
  std::vector<Outcome> all;
  tasks::Random random(seed, "made outcomes", 0);
  const auto share = [&] { return static_cast<double>(random.below(1000000)) / 1e6; };
  for (const int64_t length : made.lengths)
    for (const std::string& task : made.tasks)
      for (const double depth : made.depths)
        for (int64_t session = 0; session < made.sessions; ++session)
          for (int64_t turn = 0; turn < made.turns; ++turn)
            for (int row = 0; row < made.rows; ++row) {
              Outcome one{.suite = made.suite, .task = task, .length = length};
              one.session = session;
              one.turn = turn;
              one.depth = depth;
              if (row > 0) one.prefill = "a_shape:local=" + std::to_string(4096 >> row);
              const double computed = 1.0 / (1 + row);
              const double right = std::max(
                  0.02, made.accuracy - 0.08 * row - 0.02 * static_cast<double>(row * turn));
              one.reference = std::to_string(session * 100 + turn);
              one.score = one.published = share() < right ? 1 : 0;
              one.answer = one.score > 0 ? one.reference : "another";
              if (made.failing > 0 && std::ssize(all) % made.failing == 0) {
                one.error = "out of memory";
                one.answer.clear();
                one.score = one.published = 0;
              }
              one.prompt_tokens = length;
              one.cached_tokens = turn == 0 ? 0 : length - 20;
              one.completion_tokens = 5;
              one.computed_fraction = computed;
              const double noise = made.slower * (0.95 + 0.1 * share());
              one.ttft_seconds =
                  noise * static_cast<double>(length) * 1e-5 * (turn == 0 ? computed : 0.01);
              one.decode_seconds = noise * 0.05;
              one.kv_bytes = length * 1024;
              all.push_back(std::move(one));
            }
  return all;
}

}  // namespace kvasir::eval
