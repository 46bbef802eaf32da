#pragma once
// Scorers of answers, 0 to 1. Texts are UTF-8; comparison is case-sensitive and untrimmed where
// nothing else is said. Sources: the scoring code of SCBench (arXiv 2412.10319) and of RULER.

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tasks/task.h"

namespace kvasir::tasks {

// kReference: to the letter as the published code scores, known mistakes included, for figures
// that are compared with published ones. kStrict: with those mistakes repaired.
enum class Scoring : uint8_t { kReference, kStrict };

struct ScoreInput {
  std::string_view prediction;
  const Turn& turn;
  Scoring scoring = Scoring::kReference;
  std::span<const Function> functions = {};  // Sample::functions
};

struct Scorer {
  std::string_view name;
  std::string_view rule;  // one sentence
  // Errors: kInvalidArgument where the turn has no reference, or what else the scorer needs.
  Result<double> (*score)(const ScoreInput&);
};

std::span<const Scorer> scorers();
// Errors: kNotFound, naming all.
Result<const Scorer*> find_scorer(std::string_view name);
// The scorer called `name` on one answer. Errors: of both above.
Result<double> score(std::string_view name, const ScoreInput& input);

// Parts that are of use by themselves.
double token_f1(std::string_view prediction, std::string_view reference);      // SQuAD's
double character_f1(std::string_view prediction, std::string_view reference);  // Chinese
double rouge_lsum(std::string_view prediction, std::string_view reference);
double code_similarity(std::string_view candidate, std::string_view reference);
// BLEU of up to four words, NLTK's smoothing method 4, on any tokens.
double smoothed_bleu(std::span<const std::string> candidate,
                     std::span<const std::string> reference);

}  // namespace kvasir::tasks
