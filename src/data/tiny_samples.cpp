#include "data/tiny_samples.h"

#include <algorithm>
#include <optional>

#include "data/random.h"
#include "tasks/tiny.h"

namespace kvasir::data {
namespace {

using tasks::TinyOptions;

// Sizes of sessions of at most so many ids, of which turns take about `for_turns`. The sizes of
// entries and turns are those of tasks/tiny.cpp. Nothing where there is no room.
struct Sizes {
  int64_t room, for_turns, most_turns;
  Random& random;

  // Turns of `turn` ids each, of which each also needs `held` ids of the context.
  int64_t turns(int64_t turn, int64_t held) const {
    return std::min({std::max<int64_t>(1, for_turns / turn), most_turns, room / (turn + held)});
  }
  int64_t below(int64_t bound) const { return random.below(bound); }
};

std::optional<TinyOptions> pairs(const Sizes& s, int64_t entry, int64_t turn, int64_t least,
                                 int64_t entries_of_turn) {
  TinyOptions options;
  const int64_t turns =
      std::min(s.turns(turn, entry * entries_of_turn), (s.room - least * entry) / turn);
  if (turns < 1) return {};
  options.turns = static_cast<int>(turns);
  options.entries = static_cast<int>(std::min<int64_t>((s.room - turns * turn) / entry, 2048));
  return options;
}

// A chain's value is asked for, now and then its names; every chain, or half of them.
std::optional<TinyOptions> hop(const Sizes& s) {
  constexpr int64_t kStatement = 7, kMostHops = 4;
  TinyOptions options;
  options.collect = s.below(4) == 0;
  int64_t hops = s.below(kMostHops + 1);
  const auto turn = [&] { return options.collect ? 5 + 3 * (hops + 1) : 8; };
  while (hops > 0 && turn() + kStatement * (hops + 1) > s.room) --hops;
  const int64_t chain = kStatement * (hops + 1);
  const int64_t turns = std::min<int64_t>(s.turns(turn(), chain), 256);
  if (turns < 1) return {};
  const int64_t left = s.room - turns * (turn() + chain);
  const int64_t others = std::min(s.below(turns + 1), left / chain);
  options.hops = static_cast<int>(hops);
  options.turns = static_cast<int>(turns);
  options.chains = static_cast<int>(turns + others);
  options.fillers = static_cast<int>(std::min<int64_t>((left - others * chain) / kStatement, 2048));
  return options;
}

// Blocks have 17 to 29 ids, and only some can be told from all others by six symbols.
constexpr int64_t kBlock = 29, kMostBlocks = 32;

std::optional<TinyOptions> copy(const Sizes& s) {
  TinyOptions options;
  options.level = s.below(4) == 0 ? 0 : 1;
  const int64_t turn = options.level == 0 ? 30 : 34;
  const int64_t turns = s.turns(turn, 2 * kBlock);
  if (turns < 1) return {};
  options.turns = static_cast<int>(turns);
  options.blocks = static_cast<int>(std::min((s.room - turns * turn) / kBlock, kMostBlocks));
  return options;
}

std::optional<TinyOptions> icl(const Sizes& s) {
  constexpr int64_t kTurn = 9, kShot = 7, kLeastShots = 4;
  TinyOptions options;
  const int64_t turns = s.turns(kTurn, kLeastShots * kShot);
  if (turns < 1) return {};
  options.turns = static_cast<int>(turns);
  options.shots = static_cast<int>((s.room - turns * kTurn) / kShot);
  return options;
}

std::optional<TinyOptions> find(const Sizes& s) {
  constexpr int64_t kTurn = 6, kNumber = 2, kOperations = 6, kLeastNumbers = 64;
  TinyOptions options;
  const int64_t turns = std::min({kOperations, std::max<int64_t>(1, s.for_turns / kTurn),
                                  (s.room - kLeastNumbers * kNumber) / kTurn});
  if (turns < 1) return {};
  options.turns = static_cast<int>(turns);
  options.numbers = static_cast<int>((s.room - turns * kTurn) / kNumber);
  return options;
}

// Documents of one size, each asked for once at most; of mix1, one of two turns asks for a
// passkey.
std::optional<TinyOptions> documents(const Sizes& s, bool has_passes) {
  constexpr int64_t kTurn = 8, kHead = 3, kLeast = 27, kMost = 96, kPass = 6;
  TinyOptions options;
  const int64_t size =
      kLeast + s.below(std::max<int64_t>(1, std::min(kMost, s.room / 2) - kLeast + 1));
  const int64_t document = size + kHead, pass = has_passes ? kPass : 0;
  const int64_t turns = std::min<int64_t>(s.turns(kTurn, document + pass), 32);
  if (turns < 1) return {};
  options.turns = static_cast<int>(turns);
  options.passes = static_cast<int>(has_passes ? turns : 0);
  options.document_size = static_cast<int>(size);
  options.documents =
      static_cast<int>(std::min<int64_t>((s.room - turns * (kTurn + pass)) / document, 32));
  return options;
}

// Turns of copy and kv by turns.
std::optional<TinyOptions> blocks_and_entries(const Sizes& s) {
  constexpr int64_t kEntry = 6, kCopyTurn = 34, kKvTurn = 8;
  TinyOptions options;
  const int64_t pairs =
      std::min({std::max<int64_t>(1, s.for_turns / (kCopyTurn + kKvTurn)), s.most_turns / 2,
                s.room / (kCopyTurn + kKvTurn + 2 * kBlock + kEntry)});
  if (pairs < 1) return {};
  options.turns = static_cast<int>(2 * pairs);
  const int64_t context = s.room - pairs * (kCopyTurn + kKvTurn);
  options.blocks = static_cast<int>(std::min(std::max(pairs, context / 2 / kBlock), kMostBlocks));
  options.entries = static_cast<int>((context - options.blocks * kBlock) / kEntry);
  return options;
}

std::optional<TinyOptions> sizes(std::string_view task, const Sizes& s) {
  if (task == "kv") return pairs(s, 6, 8, 1, 1);
  if (task == "mqar") {
    TinyOptions options;
    options.entries = static_cast<int>(std::min<int64_t>(s.room / 14, 2048));
    options.turns = options.entries;
    return options.entries < 1 ? std::nullopt : std::optional(options);
  }
  if (task == "ps") return pairs(s, 9, 17, 5, 5);
  if (task == "hop") return hop(s);
  if (task == "copy") return copy(s);
  if (task == "qa") return pairs(s, 7, 9, 4, 1);
  if (task == "choice") return pairs(s, 7, 24, 4, 1);
  if (task == "icl") return icl(s);
  if (task == "find") return find(s);
  if (task == "sum" || task == "mix1") return documents(s, task == "mix1");
  if (task == "mix2") return blocks_and_entries(s);
  throw Error(ErrorCode::kNotFound, "expected a task of the tiny family",
              "tiny " + std::string(task));
}

}  // namespace

TinySamples::TinySamples(const DataRecipe& data)
    : question_fraction_(data.question_fraction),
      most_turns_(data.most_turns),
      context_weight_(static_cast<float>(data.context_weight)),
      answer_weight_(static_cast<float>(data.answer_weight)) {}

Sample TinySamples::make(const SampleRequest& request) const {
  constexpr int64_t kFrame = 2;  // CTX, ENDC; BOS stands before the sample
  constexpr uint64_t kTraining = uint64_t{1} << 63;
  Random random({request.seed});
  const Sizes room{.room = request.most_tokens - kFrame,
                   .for_turns = static_cast<int64_t>(question_fraction_ *
                                                     static_cast<double>(request.most_tokens)),
                   .most_turns = most_turns_,
                   .random = random};
  const std::optional<TinyOptions> options = sizes(request.task, room);
  if (!options) return {};
  const uint64_t seed = request.is_held_out ? request.seed & ~kTraining : request.seed | kTraining;
  const tasks::TinySession session = tasks::make_tiny(request.task, *options, seed, 0).value();
  Sample sample;
  const auto add = [&](const tasks::TinyIds& ids, float weight) {
    sample.tokens.insert(sample.tokens.end(), ids.begin(), ids.end());
    sample.weights.resize(sample.tokens.size(), weight);
  };
  sample.tokens.reserve(static_cast<size_t>(request.most_tokens));
  sample.tokens.assign(session.context.begin() + 1, session.context.end());
  sample.weights.resize(sample.tokens.size(), context_weight_);
  for (const tasks::TinyTurn& turn : session.turns) {
    add(turn.query, 0);
    add(turn.answer, answer_weight_);
    if (request.task == "hop") sample.hops.push_back(options->hops);
  }
  return sample;
}

}  // namespace kvasir::data
