// Tiny sessions as text, their scores, and sizes for a length.

#include <algorithm>

#include "tasks/score.h"
#include "tasks/score_text.h"
#include "tasks/tiny.h"

namespace kvasir::tasks {
namespace {

TinyIds until_end(const TinyIds& ids) {
  return {ids.begin(), std::find(ids.begin(), ids.end(), uint16_t{tiny::kEot})};
}

class TinyGenerator final : public Generator {
 public:
  TinyGenerator(std::string_view task, TinyOptions options) : task_(task), options_(options) {}
  Result<Sample> sample(uint64_t seed, uint64_t index) const override {
    auto session = make_tiny(task_, options_, seed, index);
    if (!session) return session.error();
    return tiny_sample(session.value(), task_, index);
  }

 private:
  std::string task_;
  TinyOptions options_;
};

}  // namespace

std::string tiny_words(const TinyIds& ids) {
  std::string words;
  for (const uint16_t id : ids) {
    if (!words.empty()) words += ' ';
    const std::string digits = std::to_string(id);
    words += "w" + std::string(3 - std::min<size_t>(digits.size(), 3), '0') + digits;
  }
  return words;
}

Result<TinyIds> tiny_ids(std::string_view words) {
  TinyIds ids;
  for (const std::string& word : split_words(words)) {
    const bool is_one = word.size() == 4 && word[0] == 'w' && is_digit(word[1]) &&
                        is_digit(word[2]) && is_digit(word[3]);
    const int id = is_one ? std::stoi(word.substr(1)) : tiny::kVocabulary;
    if (id >= tiny::kVocabulary)
      return Error(ErrorCode::kMalformed, "expected w000 to w127, found " + word, "tiny words");
    ids.push_back(static_cast<uint16_t>(id));
  }
  return ids;
}

double tiny_score(const TinySession& session, size_t turn, const TinyIds& predicted) {
  const TinyTurn& asked = session.turns.at(turn);
  const Sample text = tiny_sample(session, asked.task, 0);
  const std::string_view scorer = asked.task == "copy"  ? "repoqa"
                                  : asked.task == "sum" ? "lcs"
                                                        : "exact";
  return score(scorer, {.prediction = tiny_words(until_end(predicted)),
                        .turn = text.turns[turn],
                        .functions = text.functions})
      .value();
}

Sample tiny_sample(const TinySession& session, std::string_view task, uint64_t index) {
  Sample sample;
  sample.id = std::to_string(index);
  sample.task = task;
  sample.context = tiny_words(session.context);
  for (const TinyIds& block : session.blocks) {
    const std::string words = tiny_words(block);
    sample.functions.push_back({words, words});
  }
  for (const TinyTurn& turn : session.turns) {
    const std::string answer = tiny_words(until_end(turn.answer));
    sample.turns.push_back({.question = tiny_words(turn.query),
                            .answers = {answer},
                            .task = std::string(turn.task),
                            .name = turn.task == "copy" ? answer : std::string()});
  }
  return sample;
}

Result<std::unique_ptr<Generator>> make_tiny_generator(std::string_view task, TinyOptions options) {
  if (const auto first = make_tiny(task, options, 0, 0); !first) return first.error();
  return std::unique_ptr<Generator>(std::make_unique<TinyGenerator>(task, options));
}

TinyOptions tiny_options(std::string_view task, int tokens, int turns) {
  TinyOptions options;
  options.turns = turns;
  const bool is_mix = task == "mix2";
  const int room = tokens - 3 -
                   turns * (task == "choice" ? 24
                            : task == "hop"  ? 12
                            : task == "ps"   ? 17
                                             : 10) -
                   (task == "copy" || is_mix ? 27 * turns : 0);
  const auto units = [&](int size, int most) { return std::clamp(room / size, 1, most); };
  options.entries = task == "ps"     ? units(9, 1 << 20)
                    : task == "mqar" ? std::clamp((tokens - 3) / 16, 1, 2048)
                    : task == "kv"   ? units(room > 6 * 2048 ? 8 : 6, 1 << 18)
                    : is_mix         ? units(12, 2048)
                                     : units(7, 4096);
  options.chains = std::max(turns, std::min(units(70, 128), turns * 2));
  options.fillers = std::clamp(room / 7 - options.chains * (options.hops + 1), 0,
                               4096 - options.chains * (options.hops + 1));
  options.blocks = is_mix ? units(58, 32) : units(29, 32);
  options.shots = units(7, 1 << 20);
  options.numbers = units(2, 1 << 20);
  const int passes = task == "mix1" ? 6 * options.passes : 0;
  options.documents = std::clamp((room - passes) / 99, std::min(turns, 32), 32);
  options.document_size = std::max(27, (room - passes) / options.documents - 3);
  return options;
}

}  // namespace kvasir::tasks
