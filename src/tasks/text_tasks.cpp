#include "tasks/text_tasks.h"

#include <algorithm>
#include <string>
#include <unordered_set>

#include "tasks/fitted.h"
#include "tasks/haystack.h"
#include "tasks/keys.h"
#include "tasks/phrasings.h"

namespace kvasir::tasks {

namespace {

using Used = std::unordered_set<std::string>;

// The entry at a depth that turn `turn` asks for: turns ask for neighbours.
size_t place_of(double depth, size_t turn, size_t entries) {
  return (static_cast<size_t>(depth * static_cast<double>(entries - 1)) + turn) % entries;
}

// The question's words: as the options say, or half of the time the usual ones and otherwise any of
// those for training.
std::string_view choose(const Phrasings& phrasings, const TrainingPhrasings& training,
                        const GeneratorOptions& options, Random& random) {
  if (options.phrasing >= 0) return phrasings[static_cast<size_t>(options.phrasing)];
  if (random.below(2) == 0) return phrasings.front();
  return training[random.below(training.size())];
}

void add_fact(Sample& sample, std::string_view name, size_t turn, double value) {
  sample.facts[std::string(name) + "." + std::to_string(turn)] = value;
}

void add_turn(Sample& sample, std::string question, std::string answer) {
  sample.turns.push_back({.question = std::move(question), .answers = {std::move(answer)}});
}

void finish(Sample& sample, const GeneratorOptions& options) {
  if (!options.question_inside) return;
  if (!sample.context.ends_with('\n')) sample.context += '\n';
  for (const Turn& turn : sample.turns) sample.context += turn.question + "\n";
}

// Statements to hide in a book: each goes behind a sentence end.
struct Hidden {
  size_t place = 0;  // a byte of the book
  std::string text;
};

std::string hide(const std::string& book, std::vector<Hidden>& hidden) {
  std::stable_sort(hidden.begin(), hidden.end(),
                   [](const Hidden& a, const Hidden& b) { return a.place < b.place; });
  std::string text;
  size_t done = 0;
  for (const Hidden& each : hidden) {
    text.append(book, done, each.place - done);
    text += each.place > 0 ? each.text : each.text.substr(1) + " ";
    done = each.place;
  }
  return text.append(book, done);
}

// Sentence ends of a book (`ends`) at uniform depths, ascending.
std::vector<size_t> places_in(Random& random, const std::string& book,
                              const std::vector<size_t>& ends, size_t count, double depth) {
  std::vector<size_t> places;
  for (size_t i = 0; i < count; ++i) {
    const double at = depth < 0 ? random.unit() : depth;
    const auto byte = static_cast<size_t>(at * static_cast<double>(book.size()));
    places.push_back(*std::prev(std::upper_bound(ends.begin(), ends.end(), byte)));
  }
  std::sort(places.begin(), places.end());
  return places;
}

double depth_in(const std::string& context, const std::string& text) {
  return static_cast<double>(context.find(text)) / static_cast<double>(context.size());
}

Sample needle(const GeneratorOptions& options, Random random, int64_t bytes) {
  Sample sample;
  const auto turns = static_cast<size_t>(options.turns);
  const auto& words = key_words(options.key_space);
  const std::vector<uint64_t> chosen = random.sample(words.size(), turns);
  std::vector<std::string> statements;
  for (const uint64_t word : chosen) {
    const std::string number = random_digits(random, 6);
    statements.push_back(" The secret number of " + words[word] + " is " + number + ".");
    add_turn(sample,
             phrase(choose(kNeedlePhrasings, kNeedleTraining, options, random), words[word]),
             number);
  }
  const std::string book = options.haystack->piece(random, static_cast<size_t>(bytes));
  std::vector<size_t> places = places_in(random, book, sentence_ends(book), turns, options.depth);
  random.shuffle(places);
  std::vector<Hidden> hidden;
  for (size_t i = 0; i < turns; ++i) hidden.push_back({places[i], statements[i]});
  sample.context = hide(book, hidden);
  for (size_t i = 0; i < turns; ++i)
    add_fact(sample, "depth", i, depth_in(sample.context, statements[i]));
  return sample;
}

// As asked for, or each of 1 to 4 as often. Training also asks for the number itself: without this
// first step small models find the way along a chain late or never.
int hops_of(const GeneratorOptions& options, Random& random) {
  if (options.hops > 0) return options.hops;
  if (options.phrasing == kTrainingPhrasings) return static_cast<int>(random.below(5));
  return 1 + static_cast<int>(random.below(4));
}

// Chains: a number, then so many variables each of which is the one before. As many chains that
// nobody asks for as there are turns, at most 4.
Sample var(const GeneratorOptions& options, Random random, int64_t bytes) {
  Sample sample;
  const int distractors = std::min(options.turns, 4);
  Used names, numbers;
  std::vector<std::vector<std::string>> chains;
  for (int chain = 0; chain < options.turns + distractors; ++chain) {
    const auto name = [&] {
      return new_key(random, options.key_space, names,
                     [](Random& r) { return random_capitals(r, 4); });
    };
    std::string number;
    do number = random_digits(random, 5);
    while (!numbers.insert(number).second);
    const int hops = hops_of(options, random);
    std::string last = name();
    std::vector<std::string> statements{" VAR " + last + " = " + number + "."};
    for (int hop = 0; hop < hops; ++hop) {
      const std::string next = name();
      statements.push_back(" VAR " + next + " = VAR " + last + ".");
      last = next;
    }
    chains.push_back(std::move(statements));
    if (chain >= options.turns) continue;
    add_fact(sample, "hops", sample.turns.size(), hops);
    add_turn(sample, phrase(choose(kVarPhrasings, kVarTraining, options, random), last), number);
  }
  const std::string book = options.haystack->piece(random, static_cast<size_t>(bytes));
  const std::vector<size_t> ends = sentence_ends(book);
  std::vector<Hidden> hidden;
  for (auto& statements : chains) {
    const std::vector<size_t> places =
        places_in(random, book, ends, statements.size(), options.depth);
    for (size_t i = 0; i < statements.size(); ++i)
      hidden.push_back({places[i], std::move(statements[i])});
  }
  sample.context = hide(book, hidden);
  return sample;
}

Sample kv(const GeneratorOptions& options, Random random, int64_t entries) {
  Sample sample;
  Used used;
  std::vector<std::pair<std::string, std::string>> pairs;
  for (int64_t i = 0; i < entries; ++i) {
    std::string key =
        new_key(random, options.key_space, used, [](Random& r) { return random_hex(r, 6); });
    std::string value = random_hex(random, 6);
    sample.context += '"' + key + "\": \"" + value + "\",\n";
    pairs.emplace_back(std::move(key), std::move(value));
  }
  const std::vector<uint64_t> asked =
      random.sample(pairs.size(), static_cast<uint64_t>(options.turns));
  for (size_t i = 0; i < asked.size(); ++i) {
    const size_t at = options.depth < 0 ? asked[i] : place_of(options.depth, i, pairs.size());
    add_fact(sample, "depth", i, static_cast<double>(at) / static_cast<double>(pairs.size()));
    add_turn(sample, phrase(choose(kKvPhrasings, kKvTraining, options, random), pairs[at].first),
             pairs[at].second);
  }
  return sample;
}

// Words keep their letter within a sample; every word stands there about four times, so that what
// is asked for has been seen.
Sample icl(const GeneratorOptions& options, Random random, int64_t lines) {
  Sample sample;
  const auto& words = key_words(options.key_space);
  const size_t distinct = std::clamp<size_t>(static_cast<size_t>(lines) / 4,
                                             static_cast<size_t>(options.turns), words.size());
  const std::vector<uint64_t> chosen = random.sample(words.size(), distinct);
  std::string letters;
  for (size_t i = 0; i < distinct; ++i)
    letters += static_cast<char>('A' + static_cast<char>(random.below(26)));
  std::vector<size_t> order;
  for (size_t i = 0; i < static_cast<size_t>(lines); ++i)
    order.push_back(i < distinct ? i : random.below(distinct));
  random.shuffle(order);
  for (const size_t word : order)
    sample.context += words[chosen[word]] + ":" + letters[word] + "\n";
  for (const uint64_t word : random.sample(distinct, static_cast<uint64_t>(options.turns)))
    add_turn(sample,
             phrase(choose(kIclPhrasings, kIclTraining, options, random), words[chosen[word]]),
             std::string(1, letters[word]));
  return sample;
}

// For each line that is asked for, one other with its beginning and one with its end, so that
// neither alone is enough.
Sample presuf(const GeneratorOptions& options, Random random, int64_t lines) {
  struct Line {
    std::string first, last, text;
    int turn = -1;
  };
  Used used;
  const auto key = [&] {
    return new_key(random, options.key_space, used, [](Random& r) { return random_hex(r, 4); });
  };
  const auto line = [&](std::string first, std::string last, int turn) {
    std::string text = first;
    for (int word = 0; word < 3; ++word) (text += ' ') += random_noun(random);
    text += " " + last;
    return Line{std::move(first), std::move(last), std::move(text), turn};
  };
  std::vector<Line> all;
  for (int turn = 0; turn < options.turns; ++turn) {
    const std::string first = key(), last = key();
    all.push_back(line(first, last, turn));
    all.push_back(line(first, key(), -1));
    all.push_back(line(key(), last, -1));
  }
  // Beginnings and ends of other lines may come again, as long as no pair that is asked for does.
  while (static_cast<int64_t>(all.size()) < lines) {
    std::string first, last;
    do {
      first = random_hex(random, 4);
      last = random_hex(random, 4);
    } while (key_space(first) != options.key_space || used.contains(first) || used.contains(last));
    all.push_back(line(std::move(first), std::move(last), -1));
  }
  random.shuffle(all);
  Sample sample;
  sample.turns.resize(static_cast<size_t>(options.turns));
  for (size_t i = 0; i < all.size(); ++i) {
    sample.context += all[i].text + "\n";
    if (all[i].turn < 0) continue;
    const auto turn = static_cast<size_t>(all[i].turn);
    sample.turns[turn].question = phrase(choose(kPresufPhrasings, kPresufTraining, options, random),
                                         all[i].first, all[i].last);
    sample.turns[turn].answers = {all[i].text};
    add_fact(sample, "depth", turn, static_cast<double>(i) / static_cast<double>(all.size()));
  }
  return sample;
}

struct TextTask {
  std::string_view name;
  Sample (*build)(const GeneratorOptions&, Random, int64_t);
  bool needs_haystack;
  int least_units;  // of each turn
  int tokens_of_unit_hundredths;
};

constexpr TextTask kTasks[] = {{"needle", needle, true, 60, 25},
                               {"kv", kv, false, 1, 2200},
                               {"var", var, true, 60, 25},
                               {"icl", icl, false, 2, 450},
                               {"presuf", presuf, false, 3, 1500}};

}  // namespace

int most_turns(KeySpace space) { return static_cast<int>(key_words(space).size()); }

Result<std::unique_ptr<Generator>> make_text_task(std::string_view name, GeneratorOptions options) {
  const auto* task = std::find_if(std::begin(kTasks), std::end(kTasks),
                                  [&](const TextTask& each) { return each.name == name; });
  if (task == std::end(kTasks))
    return Error(ErrorCode::kNotFound, "expected needle, kv, var, icl or presuf",
                 std::string(name));
  const auto refuse = [&](std::string why) {
    return Error(ErrorCode::kInvalidArgument, std::move(why), std::string(name));
  };
  if (!options.count) return refuse("a generator needs a function that counts tokens");
  const int most = most_turns(options.key_space);
  if (options.turns < 1 || options.turns > most)
    return refuse("expected 1 to " + std::to_string(most) + " turns, found " +
                  std::to_string(options.turns));
  if (options.phrasing < kTrainingPhrasings || options.phrasing >= kPhrasings)
    return refuse("expected a phrasing from 0 to 5, found " + std::to_string(options.phrasing));
  if (options.phrasing == kTrainingPhrasings && options.key_space != KeySpace::kTraining)
    return refuse("the phrasings of training go with its keys");
  if (options.phrasing > 0 && options.key_space == KeySpace::kTraining)
    return refuse("phrasings from 1 on are for evaluation only");
  if (options.hops < 0 || options.hops > 4)
    return refuse("expected 1 to 4 hops, or 0 for each as often, found " +
                  std::to_string(options.hops));
  if (options.depth > 1) return refuse("a depth lies between 0 and 1");
  if (task->needs_haystack && options.haystack == nullptr)
    return refuse("needs texts to hide statements in: name a haystack");
  const int64_t least = int64_t{task->least_units} * options.turns;
  const int64_t guess = options.target_tokens * 95 / task->tokens_of_unit_hundredths;
  return make_fitted(
      {.task = std::string(name),
       .tag = "text." + std::string(name),
       .least = least,
       .guess = guess,
       .build =
           [build = task->build](const GeneratorOptions& of, Random random, int64_t units) {
             Sample sample = build(of, random, units);
             finish(sample, of);
             return sample;
           }},
      std::move(options));
}

}  // namespace kvasir::tasks
