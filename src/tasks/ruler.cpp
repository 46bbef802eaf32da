#include "tasks/ruler.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "tasks/fitted.h"
#include "tasks/haystack.h"
#include "tasks/keys.h"
#include "tasks/noise.h"
#include "tasks/python_list.h"

namespace kvasir::tasks {
namespace {

using Used = std::unordered_set<std::string>;
using Texts = std::vector<std::string>;

enum class Kind : uint8_t { kWord, kNumber, kUuid };
enum class Hay : uint8_t { kNoise, kBook, kNeedles };

struct Niah {
  std::string_view name;
  Hay hay;
  Kind key, value;
  int keys, values, queries;
};
constexpr Niah kNiah[] = {{"niah_single_1", Hay::kNoise, Kind::kWord, Kind::kNumber, 1, 1, 1},
                          {"niah_single_2", Hay::kBook, Kind::kWord, Kind::kNumber, 1, 1, 1},
                          {"niah_single_3", Hay::kBook, Kind::kWord, Kind::kUuid, 1, 1, 1},
                          {"niah_multikey_1", Hay::kBook, Kind::kWord, Kind::kNumber, 4, 1, 1},
                          {"niah_multikey_2", Hay::kNeedles, Kind::kWord, Kind::kNumber, 1, 1, 1},
                          {"niah_multikey_3", Hay::kNeedles, Kind::kUuid, Kind::kUuid, 1, 1, 1},
                          {"niah_multivalue", Hay::kBook, Kind::kWord, Kind::kNumber, 1, 4, 1},
                          {"niah_multiquery", Hay::kBook, Kind::kWord, Kind::kNumber, 4, 1, 4}};

constexpr RulerTask kTasks[] = {
    {"niah_single_1", "ruler_all", 128, false, false},
    {"niah_single_2", "ruler_all", 128, true, false},
    {"niah_single_3", "ruler_all", 128, true, false},
    {"niah_multikey_1", "ruler_all", 128, true, false},
    {"niah_multikey_2", "ruler_all", 128, false, false},
    {"niah_multikey_3", "ruler_all", 128, false, false},
    {"niah_multivalue", "ruler_all", 128, true, false},
    {"niah_multiquery", "ruler_all", 128, true, false},
    {"vt", "ruler_all", 30, false, false},
    {"cwe", "ruler_all", 120, false, false},
    {"fwe", "ruler_all", 50, false, false},
    {"qa_1", "ruler_part", 32, false, true},
    {"qa_2", "ruler_part", 32, false, true},
};

std::string draw(Random& random, Kind kind) {
  if (kind == Kind::kNumber) return random_digits(random, 7);
  if (kind == Kind::kUuid) return random_uuid(random);
  return std::string(adjectives()[random.below(adjectives().size())]) + "-" +
         std::string(random_noun(random));
}

std::string listed(const Texts& items) {
  std::string text;
  for (size_t i = 0; i < items.size(); ++i)
    text += (i == 0 ? "" : i + 1 == items.size() ? ", and " : ", ") + items[i];
  return text;
}

Turn all_of(std::string question, Texts answers, std::string prefix) {
  Turn turn{.question = std::move(question), .answers = std::move(answers)};
  turn.golden_text = listed(turn.answers);
  turn.answer_prefix = std::move(prefix);
  return turn;
}

std::string statement(const std::string& key, const std::string& value, Kind kind) {
  const char* type = kind == Kind::kUuid ? "uuid" : "number";
  return std::string("One of the special ") + type + "s for " + key + " is: " + value + ".";
}

Sample niah(const Niah& task, const GeneratorOptions& options, Random random, int64_t units) {
  const std::string type = task.value == Kind::kUuid ? "uuid" : "number";
  Used used;
  const auto key = [&] {
    return new_key(random, options.key_space, used, [&](Random& r) { return draw(r, task.key); });
  };
  Texts keys, statements;
  std::vector<Texts> values;
  for (int i = 0; i < task.keys; ++i) {
    keys.push_back(key());
    values.emplace_back();
    for (int j = 0; j < task.values; ++j) {
      values.back().push_back(draw(random, task.value));
      statements.push_back(statement(keys.back(), values.back().back(), task.value));
    }
  }
  Texts asked, answers;
  for (const uint64_t which : random.sample(keys.size(), static_cast<uint64_t>(task.queries))) {
    asked.push_back(keys[which]);
    answers.insert(answers.end(), values[which].begin(), values[which].end());
  }
  random.shuffle(statements);
  Sample sample;
  const auto count = static_cast<size_t>(units);
  std::string text;
  if (task.hay == Hay::kBook) {
    const std::string book = options.haystack->piece(random, count);
    const std::vector<size_t> ends = sentence_ends(book);
    std::vector<size_t> places;
    for (size_t i = 0; i < statements.size(); ++i)
      places.push_back(ends[random.below(ends.size())]);
    std::sort(places.begin(), places.end());
    size_t done = 0;
    for (size_t i = 0; i < statements.size(); ++i) {
      text += book.substr(done, places[i] - done) + " " + statements[i];
      if (places[i] == 0) text += ' ';
      done = places[i];
    }
    text += book.substr(done);
  } else {
    Texts lines(count, std::string(kNoiseLine));
    if (task.hay == Hay::kNeedles)
      for (std::string& line : lines) {
        const std::string other = key();  // first, for compilers differ in the order of arguments
        line = statement(other, draw(random, task.value), task.value);
      }
    text = lines_with(random, lines, statements);
  }
  const bool is_one = answers.size() == 1;
  sample.context = "Special " + type + "s are hidden in the text below. Remember them.\n" + text;
  sample.turns.push_back(
      all_of("What " + std::string(is_one ? "is the special " : "are all the special ") + type +
                 (is_one ? "" : "s") + " for " + listed(asked) + " mentioned in the text?",
             answers,
             "The special " + type + (is_one ? "" : "s") + " for " + listed(asked) +
                 (is_one ? " is" : " are")));
  return sample;
}

std::vector<Texts> chain(Random& random, KeySpace space, int letters, int hops, Used& used,
                         Texts& names, std::string& value) {
  value = std::to_string(10000 + random.below(89999));
  std::vector<Texts> chains(1);
  for (int hop = 0; hop <= hops; ++hop) {
    const std::string name =
        new_key(random, space, used, [&](Random& r) { return random_capitals(r, letters); });
    chains[0].push_back("VAR " + name + " = " + (hop == 0 ? value : "VAR " + names.back()));
    names.push_back(name);
  }
  return chains;
}

Sample variables(const GeneratorOptions& options, Random random, int64_t lines) {
  constexpr int kHops = 4;
  Used used;
  Sample sample;
  const auto part = [&](int letters, size_t noise, Texts& names) {
    std::string value;
    auto chains = chain(random, options.key_space, letters, kHops, used, names, value);
    sample.context += "Remember the chains of assignments that are hidden in the text below.\n\n" +
                      noise_with(random, noise, std::move(chains));
    return "Find all " + std::to_string(kHops + 1) + " variables that have the value " + value +
           " in the text above.";
  };
  const auto prefix = [&](const std::string& question) {
    return "By the assignments in the text, these variables have the value" +
           question.substr(question.find("value") + 5, 6) + ":";
  };
  Texts example, names;
  const std::string first = part(3, 16, example);  // an example of about 500 tokens
  sample.context += "\n" + first + "\n" + prefix(first) + " " + listed(example) + "\n\n";
  const std::string question = part(5, static_cast<size_t>(lines), names);
  sample.turns.push_back(all_of(question, names, prefix(question)));
  return sample;
}

// "1. word 2. word ...": common words often, others seldom.
std::string numbered_list(Random& random, const Texts& words, size_t common, int often,
                          int seldom) {
  Texts all;
  for (size_t i = 0; i < words.size(); ++i)
    all.insert(all.end(), static_cast<size_t>(i < common ? often : seldom), words[i]);
  random.shuffle(all);
  std::string text;
  for (size_t i = 0; i < all.size(); ++i)
    (text += i == 0 ? "" : " ") += std::to_string(i + 1) + ". " + all[i];
  return text;
}

Sample common_words(const GeneratorOptions& options, Random random, int64_t words) {
  constexpr size_t kCommon = 10;
  const bool is_short = options.target_tokens < 4096;
  const auto draw_words = [&](size_t count) {  // pairs, so that there are enough
    Texts drawn;
    for (const uint64_t pair : random.sample(nouns().size() * (adjectives().size() + 1), count)) {
      const uint64_t adjective = pair / nouns().size();
      drawn.push_back((adjective == 0 ? "" : std::string(adjectives()[adjective - 1]) + "-") +
                      std::string(nouns()[pair % nouns().size()]));
    }
    return drawn;
  };
  const std::string question = "What are the 10 most common words in the list above?";
  const std::string prefix = "The 10 most common words are:";
  Sample sample;
  const Texts example = draw_words(is_short ? 20 : 40),
              task = draw_words(static_cast<size_t>(words));
  const std::string intro = "Words of the numbered list below appear more than once.\n";
  sample.context = intro +
                   (is_short ? numbered_list(random, example, kCommon, 3, 1)
                             : numbered_list(random, example, kCommon, 10, 3)) +
                   "\n" + question + "\n" + prefix + " " +
                   listed({example.begin(), example.begin() + kCommon}) + "\n\n" + intro +
                   (is_short ? numbered_list(random, task, kCommon, 6, 1)
                             : numbered_list(random, task, kCommon, 30, 3));
  sample.turns.push_back(all_of(question, {task.begin(), task.begin() + kCommon}, prefix));
  return sample;
}

Sample frequent_words(const GeneratorOptions& options, Random random, int64_t total) {
  constexpr double kZeta2 = 1.6449340668482264;  // of alpha = 2
  Used used;
  Texts vocabulary;
  const auto size = std::max<size_t>(8, static_cast<size_t>(options.target_tokens / 50));
  while (vocabulary.size() < size) {
    std::string word = random_capitals(random, 6);
    for (char& letter : word) letter = static_cast<char>(letter + 32);
    if (used.insert(word).second) vocabulary.push_back(std::move(word));
  }
  Texts all;
  for (size_t rank = 1; rank <= size; ++rank) {
    const auto times = static_cast<size_t>(static_cast<double>(total) /
                                           (static_cast<double>(rank * rank) * kZeta2));
    all.insert(all.end(), times, rank == 1 ? "..." : vocabulary[rank - 1]);
  }
  random.shuffle(all);
  Sample sample;
  sample.context = "Count how often each coded word appears below. The dots are noise.\n";
  for (size_t i = 0; i < all.size(); ++i) (sample.context += i == 0 ? "" : " ") += all[i];
  sample.turns.push_back(all_of("Apart from the dots, which three words appear most often?",
                                {vocabulary.begin() + 1, vocabulary.begin() + 4},
                                "The three words that appear most often are:"));
  return sample;
}

Sample qa(const QaSet& set, Random random, uint64_t index, int64_t documents) {
  const QaSet::Question& question = set.questions[index % set.questions.size()];
  std::vector<uint64_t> chosen(question.gold.begin(), question.gold.end());
  const auto count = std::min<size_t>(static_cast<size_t>(documents), set.documents.size());
  for (const uint64_t other : random.sample(set.documents.size(), count)) {
    if (chosen.size() >= std::max(count, question.gold.size())) break;
    if (std::find(chosen.begin(), chosen.end(), other) == chosen.end()) chosen.push_back(other);
  }
  random.shuffle(chosen);
  Sample sample;
  sample.context = "Answer the question by the documents below. Give the answer alone.\n";
  for (size_t i = 0; i < chosen.size(); ++i)
    sample.context +=
        "\nDocument " + std::to_string(i + 1) + ":\n" + set.documents[chosen[i]] + "\n";
  Turn turn{.question = "Question: " + question.text, .answers = question.answers};
  turn.answer_prefix = "Answer:";
  sample.turns.push_back(std::move(turn));
  return sample;
}

class QaGenerator final : public Generator {
 public:
  QaGenerator(std::string_view task, GeneratorOptions options, const QaSet& set)
      : task_(task), options_(std::move(options)), set_(set) {}
  Result<Sample> sample(uint64_t seed, uint64_t index) const override {
    const auto build = [&, index](const GeneratorOptions&, Random random, int64_t documents) {
      return qa(set_, random, index, documents);
    };
    return make_fitted({.task = task_,
                        .tag = "ruler." + task_,
                        .least = 1,
                        .guess = std::min<int64_t>(options_.target_tokens / 160,
                                                   static_cast<int64_t>(set_.documents.size())),
                        .build = build,
                        .most = static_cast<int64_t>(set_.documents.size())},
                       options_)
        ->sample(seed, index);
  }

 private:
  std::string task_;
  GeneratorOptions options_;
  const QaSet& set_;
};

constexpr std::string_view kCities[] = {
    "Amsterdam",  "Athens",   "Auckland", "Bangkok",  "Barcelona", "Beirut",    "Belgrade",
    "Berlin",     "Bogota",   "Boston",   "Brussels", "Budapest",  "Cairo",     "Chicago",
    "Copenhagen", "Dakar",    "Delhi",    "Dublin",   "Edinburgh", "Geneva",    "Hamburg",
    "Hanoi",      "Havana",   "Helsinki", "Istanbul", "Jakarta",   "Kyoto",     "Lagos",
    "Lima",       "Lisbon",   "London",   "Madrid",   "Manila",    "Melbourne", "Mexico City",
    "Milan",      "Montreal", "Moscow",   "Mumbai",   "Nairobi",   "Oslo",      "Paris",
    "Prague",     "Quito",    "Rome",     "Santiago", "Seoul",     "Stockholm", "Sydney",
    "Tokyo",      "Toronto",  "Vienna",   "Warsaw",   "Zurich"};

Sample grid_needle(const GeneratorOptions& options, Random random, int64_t bytes) {
  const std::string city(kCities[random.below(std::size(kCities))]);
  const std::string number = random_digits(random, 7);
  const std::string needle = " The special number of " + city + " is " + number + ".";
  std::string book = options.haystack->piece(random, static_cast<size_t>(bytes));
  size_t place = book.size();
  if (options.depth < 1) {
    const std::vector<size_t> ends = sentence_ends(book);
    const auto at = static_cast<size_t>(options.depth * static_cast<double>(book.size()));
    place = *std::prev(std::upper_bound(ends.begin(), ends.end(), at));
  }
  Sample sample;
  sample.context = book.insert(place, needle);
  sample.facts["depth.0"] = options.depth;
  sample.turns.push_back(
      {.question = "What is the special number of " + city + "?", .answers = {number}});
  return sample;
}

struct Made {
  std::string_view name;
  Sample (*build)(const GeneratorOptions&, Random, int64_t);
  int least, tokens_of_unit;
};
constexpr Made kMade[] = {
    {"vt", variables, 6, 25}, {"cwe", common_words, 12, 30}, {"fwe", frequent_words, 64, 3}};

}  // namespace

std::span<const RulerTask> ruler_tasks() { return kTasks; }

Result<std::unique_ptr<Generator>> make_ruler(std::string_view name, GeneratorOptions options,
                                              const QaSet* set) {
  const auto refuse = [&](ErrorCode code, std::string why) {
    return Error(code, std::move(why), std::string(name));
  };
  const auto* task = std::find_if(std::begin(kTasks), std::end(kTasks),
                                  [&](const RulerTask& each) { return each.name == name; });
  if (task == std::end(kTasks)) return refuse(ErrorCode::kNotFound, "no such task of RULER");
  if (!options.count)
    return refuse(ErrorCode::kInvalidArgument, "a generator needs a function that counts tokens");
  if (task->needs_haystack && options.haystack == nullptr)
    return refuse(ErrorCode::kInvalidArgument,
                  "needs texts to hide statements in: name a haystack");
  if (task->needs_file && (set == nullptr || set->questions.empty()))
    return refuse(ErrorCode::kInvalidArgument,
                  name == "qa_1" ? "needs the file of SQuAD v2's questions (dev-v2.0.json)"
                                 : "needs the file of HotpotQA's questions "
                                   "(hotpot_dev_distractor_v1.json)");
  options.turns = 1;
  if (task->needs_file)
    return std::unique_ptr<Generator>(
        std::make_unique<QaGenerator>(name, std::move(options), *set));
  FittedTask fitted{.task = std::string(name), .tag = "ruler." + std::string(name)};
  const auto* niah_task = std::find_if(std::begin(kNiah), std::end(kNiah),
                                       [&](const Niah& each) { return each.name == name; });
  if (niah_task != std::end(kNiah)) {
    fitted.least = niah_task->hay == Hay::kBook ? 100 : 2;
    fitted.guess =
        niah_task->hay == Hay::kBook ? options.target_tokens * 3 : options.target_tokens / 40;
    fitted.build = [niah_task](const GeneratorOptions& of, Random random, int64_t units) {
      return niah(*niah_task, of, random, units);
    };
    return make_fitted(std::move(fitted), std::move(options));
  }
  const auto* made = std::find_if(std::begin(kMade), std::end(kMade),
                                  [&](const Made& each) { return each.name == name; });
  fitted.least = made->least;
  fitted.guess = options.target_tokens / made->tokens_of_unit;
  fitted.build = made->build;
  if (name == "cwe") fitted.most = static_cast<int64_t>(nouns().size() * adjectives().size());
  return make_fitted(std::move(fitted), std::move(options));
}

Result<std::unique_ptr<Generator>> make_needle_grid(GeneratorOptions options) {
  constexpr int64_t kBuffer = 200;
  if (!options.count || options.haystack == nullptr || options.depth < 0 || options.depth > 1)
    return Error(ErrorCode::kInvalidArgument,
                 "needs a function that counts tokens, a haystack and a depth from 0 to 1",
                 "needle");
  options.turns = 1;
  options.target_tokens -= kBuffer;
  const int64_t guess = options.target_tokens * 4;
  return make_fitted({.task = "needle_grid",
                      .tag = "needle_grid",
                      .least = 100,
                      .guess = guess,
                      .build = grid_needle},
                     std::move(options));
}

std::vector<int64_t> even_grid(int64_t first, int64_t last, int count) {
  std::vector<int64_t> grid;
  for (int i = 0; i < count; ++i)
    grid.push_back(count == 1 ? first
                              : std::llrint(static_cast<double>(first) +
                                            static_cast<double>(last - first) * i / (count - 1)));
  return grid;
}

}  // namespace kvasir::tasks
