// Generators of SCBench's synthetic tasks.

#include <algorithm>
#include <set>
#include <unordered_set>

#include "tasks/fitted.h"
#include "tasks/keys.h"
#include "tasks/noise.h"
#include "tasks/python_list.h"
#include "tasks/scbench.h"

namespace kvasir::tasks {
namespace {

using Used = std::unordered_set<std::string>;

// Turn t asks for a place in a part of the document of its own; the parts come in random order.
std::vector<size_t> spread_places(Random& random, size_t places, size_t turns) {
  std::vector<size_t> chosen;
  for (const uint64_t part : random.sample(turns, turns)) {
    const size_t first = part * places / turns, last = (part + 1) * places / turns;
    chosen.push_back(first + random.below(last - first));
  }
  return chosen;
}

Sample kv(const GeneratorOptions& options, Random random, int64_t entries) {
  Sample sample;
  Used used;
  std::vector<std::pair<std::string, std::string>> pairs;
  sample.context = "JSON data:\n{";
  for (int64_t i = 0; i < entries; ++i) {
    std::string key = new_key(random, options.key_space, used, random_uuid);
    std::string value = random_uuid(random);
    (sample.context += i == 0 ? "" : ", ") += '"' + key + "\": \"" + value + '"';
    pairs.emplace_back(std::move(key), std::move(value));
  }
  sample.context += "}";
  const auto turns = static_cast<size_t>(options.turns);
  const std::vector<size_t> places = spread_places(random, pairs.size(), turns);
  for (size_t i = 0; i < turns; ++i) {
    const auto& [key, value] = pairs[places[i]];
    sample.turns.push_back(
        {.question = "Key: \"" + key + "\"\nThe value of this key is:", .answers = {value}});
    sample.facts["depth." + std::to_string(i)] =
        static_cast<double>(places[i]) / static_cast<double>(pairs.size());
  }
  return sample;
}

constexpr size_t kStringLength = 26, kEnd = 4;
constexpr int kDecoys = 8;

std::string random_string(Random& random, size_t length) {
  std::string text;
  while (text.size() < length)  // 'A' to 'z' without the backslash
    if (const auto letter = static_cast<char>(65 + random.below(58)); letter != '\\')
      text += letter;
  return text;
}

Sample prefix_suffix(const GeneratorOptions& options, Random random, int64_t count) {
  Used asked;
  const auto ends = [](const std::string& text) {
    return text.substr(0, kEnd) + text.substr(kStringLength - kEnd);
  };
  std::vector<std::string> targets, all;
  while (targets.size() < static_cast<size_t>(options.turns)) {
    std::string target = random_string(random, kStringLength);
    if (key_space(ends(target)) != options.key_space || !asked.insert(ends(target)).second)
      continue;
    targets.push_back(std::move(target));
  }
  all = targets;
  const auto add = [&](const std::string& first, const std::string& last) {
    std::string text;
    do text = first + random_string(random, kStringLength - first.size() - last.size()) + last;
    while (asked.contains(ends(text)));
    all.push_back(std::move(text));
  };
  for (const std::string& target : targets)
    for (int i = 0; i < kDecoys; ++i) {
      add(target.substr(0, kEnd), "");
      add("", target.substr(kStringLength - kEnd));
    }
  while (static_cast<int64_t>(all.size()) < count) add("", "");
  random.shuffle(all);
  Sample sample;
  sample.context = "A list of strings:\n";
  for (const std::string& text : all) sample.context += text + "\n";
  for (const std::string& target : targets)
    sample.turns.push_back({.question = "Which string of the list starts with \"" +
                                        target.substr(0, kEnd) + "\" and ends with \"" +
                                        target.substr(kStringLength - kEnd) +
                                        "\"? Answer with the string alone.",
                            .answers = {target}});
  return sample;
}

Sample multihop(const GeneratorOptions& options, Random random, int64_t lines) {
  constexpr int kHops = 2;
  const int chains = std::max(2, options.turns);
  Used names, values;
  std::vector<std::vector<std::string>> statements;
  Sample sample;
  for (int chain = 0; chain < chains; ++chain) {
    std::string value;
    do value = random_digits(random, 5);
    while (!values.insert(value).second);
    std::vector<std::string> variables;
    statements.emplace_back();
    for (int hop = 0; hop <= kHops; ++hop) {
      const std::string name = new_key(random, options.key_space, names,
                                       [](Random& r) { return random_capitals(r, 5); });
      statements.back().push_back("VAR " + name + " = " +
                                  (hop == 0 ? value : "VAR " + variables.back()));
      variables.push_back(name);
    }
    if (chain >= options.turns) continue;
    sample.turns.push_back({.question = "Which variables hold the value " + value +
                                        "? List the names of all " + std::to_string(kHops + 1) +
                                        " of them.",
                            .answers = variables,
                            .golden_text = python_list(variables)});
  }
  sample.context = "Variables are assigned in the text below.\n\n" +
                   noise_with(random, static_cast<size_t>(lines), std::move(statements));
  return sample;
}

struct Aggregate {
  const char* name;
  size_t rank;  // among the different numbers
  bool from_top;
};
constexpr Aggregate kAggregates[] = {{"largest number", 0, true},
                                     {"second largest number", 1, true},
                                     {"third largest number", 2, true},
                                     {"smallest number", 0, false},
                                     {"second smallest number", 1, false},
                                     {"third smallest number", 2, false},
                                     {"median", 0, false}};

Sample math_find(const GeneratorOptions& options, Random random, int64_t count) {
  const uint64_t low = random.below(200), high = 800 + random.below(200);
  std::vector<uint64_t> numbers(static_cast<size_t>(count) | 1);  // odd: the median is one of them
  for (uint64_t& each : numbers) each = low + random.below(high - low + 1);
  Sample sample;
  sample.context = "[";
  for (const uint64_t each : numbers)
    (sample.context += sample.context.size() > 1 ? ", " : "") += std::to_string(each);
  sample.context += "]";
  std::sort(numbers.begin(), numbers.end());
  const std::set<uint64_t> set(numbers.begin(), numbers.end());
  const std::vector<uint64_t> distinct(set.begin(), set.end());
  const size_t asked = std::min<size_t>(static_cast<size_t>(options.turns), std::size(kAggregates));
  for (const uint64_t which : random.sample(std::size(kAggregates), asked)) {
    const Aggregate& aggregate = kAggregates[which];
    const size_t rank = std::min(aggregate.rank, distinct.size() - 1);
    const uint64_t answer = which == 6           ? numbers[numbers.size() / 2]
                            : aggregate.from_top ? distinct[distinct.size() - 1 - rank]
                                                 : distinct[rank];
    sample.turns.push_back({.question = std::string("The ") + aggregate.name + " of the list is:",
                            .answers = {std::to_string(answer)},
                            .is_integer = true});
  }
  return sample;
}

// Seven people swap what they hold; who holds what at the end? In the manner of BIG-Bench Hard's
// tracking of shuffled objects.
std::pair<std::string, std::string> shuffled_objects(Random& random) {
  constexpr std::string_view kPeople[] = {"Alice", "Bob",  "Claire",  "Dave",
                                          "Eve",   "Fred", "Gertrude"};
  constexpr size_t kCount = std::size(kPeople);
  std::vector<uint64_t> held = random.sample(nouns().size(), kCount);
  std::string text = "Q: At the start, ";
  for (size_t i = 0; i < kCount; ++i) {
    text += std::string(kPeople[i]) + " has the " + std::string(nouns()[held[i]]);
    text += i + 1 < kCount ? ", " : ".";
  }
  std::vector<uint64_t> options = held;
  random.shuffle(options);
  for (size_t swap = 0; swap < kCount; ++swap) {
    const std::vector<uint64_t> pair = random.sample(kCount, 2);
    std::swap(held[pair[0]], held[pair[1]]);
    text +=
        " " + std::string(kPeople[pair[0]]) + " and " + std::string(kPeople[pair[1]]) + " swap.";
  }
  const size_t asked = random.below(kCount);
  text += " At the end, " + std::string(kPeople[asked]) + " has the\nOptions:\n";
  std::string answer;
  for (size_t i = 0; i < kCount; ++i) {
    const std::string letter = {'(', static_cast<char>('A' + static_cast<char>(i)), ')'};
    text += letter + " " + std::string(nouns()[options[i]]) + "\n";
    if (options[i] == held[asked]) answer = letter;
  }
  return {text + "A:", answer};
}

Sample many_shot(const GeneratorOptions& options, Random random, int64_t shots) {
  Sample sample;
  for (int64_t i = 0; i < shots; ++i) {
    const auto [question, answer] = shuffled_objects(random);
    sample.context += question + " " + answer + "\n\n";
  }
  for (int i = 0; i < options.turns; ++i) {
    auto [question, answer] = shuffled_objects(random);
    sample.turns.push_back({.question = std::move(question), .answers = {std::move(answer)}});
  }
  return sample;
}

struct Made {
  std::string_view config;
  Sample (*build)(const GeneratorOptions&, Random, int64_t);
  int least_of_turn, least;
  int tokens_of_unit;
};
constexpr Made kMade[] = {{"scbench_kv", kv, 1, 1, 55},
                          {"scbench_prefix_suffix", prefix_suffix, 1 + 2 * kDecoys, 1, 18},
                          {"scbench_vt", multihop, 3, 6, 25},
                          {"scbench_mf", math_find, 0, 101, 4},
                          {"scbench_many_shot", many_shot, 0, 1, 160}};

}  // namespace

Result<std::unique_ptr<Generator>> make_scbench(std::string_view config, GeneratorOptions options) {
  const auto refuse = [&](ErrorCode code, std::string why) {
    return Error(code, std::move(why), std::string(config));
  };
  if (find_scbench(config) == nullptr)
    return refuse(ErrorCode::kNotFound, "no such task of SCBench");
  const auto* made = std::find_if(std::begin(kMade), std::end(kMade),
                                  [&](const Made& each) { return each.config == config; });
  if (made == std::end(kMade))
    return refuse(ErrorCode::kUnsupported, "is no synthetic task: it needs the published file " +
                                               std::string(config) + ".jsonl");
  if (!options.count)
    return refuse(ErrorCode::kInvalidArgument, "a generator needs a function that counts tokens");
  if (options.turns < 1 || options.turns > 64)
    return refuse(ErrorCode::kInvalidArgument,
                  "expected 1 to 64 turns, found " + std::to_string(options.turns));
  return make_fitted({.task = std::string(config),
                      .tag = std::string(config),
                      .least = made->least + int64_t{made->least_of_turn} * options.turns,
                      .guess = options.target_tokens * 9 / 10 / made->tokens_of_unit,
                      .build = made->build},
                     std::move(options));
}

}  // namespace kvasir::tasks
