#include "tasks/tiny.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "tasks/random.h"

namespace kvasir::tasks {

using namespace tiny;

namespace {

using Numbers = std::vector<uint64_t>;

struct Writer {
  TinyIds ids;
  Writer& id(uint64_t value) { return ids.push_back(static_cast<uint16_t>(value)), *this; }
  Writer& sym(uint64_t value, int digits) {
    for (int shift = 6 * (digits - 1); shift >= 0; shift -= 6) id(kSymbol + (value >> shift & 63));
    return *this;
  }
  Writer& num(uint64_t value) { return id(kSmall + value / 32).id(kSmall + value % 32); }
  Writer& all(const TinyIds& more) {
    ids.insert(ids.end(), more.begin(), more.end());
    return *this;
  }
};

Writer context() { return Writer{}.id(kBos).id(kCtx); }
Writer query(uint64_t operation) { return Writer{}.id(kQry).id(operation); }

void ask(TinySession& session, Writer query, Writer answer, std::string_view task) {
  session.turns.push_back(
      {std::move(query.id(kAns).ids), std::move(answer.id(kEot).ids), task});
}

Random stream(uint64_t seed, std::string_view task, uint64_t index) {
  return Random(seed, "tiny." + std::string(task), index);
}

// Entries of kv, in order, and its turns.
std::vector<TinyIds> kv_parts(TinySession& session, int entries, int turns, uint64_t seed,
                              uint64_t index, bool is_mqar = false) {
  Random random = stream(seed, "kv", index);
  const int digits = entries <= 2048 ? 2 : 3;
  const uint64_t bound = uint64_t{1} << (6 * digits);
  const auto count = static_cast<uint64_t>(entries);
  const Numbers keys = random.sample(bound, count), values = random.sample(bound, count);
  std::vector<TinyIds> parts;
  for (size_t i = 0; i < count; ++i)
    parts.push_back(Writer{}.sym(keys[i], digits).id(kMap).sym(values[i], digits).id(kSep).ids);
  for (const uint64_t target : random.sample(count, is_mqar ? count : static_cast<uint64_t>(turns)))
    ask(session, query(kKv).sym(keys[target], digits), Writer{}.sym(values[target], digits), "kv");
  return parts;
}

void write(TinySession& session, const std::vector<TinyIds>& parts) {
  Writer writer = context();
  for (const TinyIds& part : parts) writer.all(part);
  session.context = std::move(writer.id(kEndCtx).ids);
}

TinySession kv(const TinyOptions& options, uint64_t seed, uint64_t index, bool is_mqar) {
  TinySession session;
  write(session, kv_parts(session, options.entries, options.turns, seed, index, is_mqar));
  return session;
}

TinySession ps(const TinyOptions& options, uint64_t seed, uint64_t index) {
  constexpr int kLength = 8, kEnds = 2, kDecoys = 2;
  using String = std::array<uint8_t, kLength>;
  using Ends = std::array<uint8_t, 2 * kEnds>;
  Random random = stream(seed, "ps", index);
  const auto ends = [](const String& s) {
    return Ends{s[0], s[1], s[kLength - 2], s[kLength - 1]};
  };
  const auto symbol = [&] { return static_cast<uint8_t>(random.below(kSymbols)); };
  std::vector<String> targets(static_cast<size_t>(options.turns));
  std::set<Ends> asked;
  do {
    asked.clear();
    for (String& target : targets) {
      for (uint8_t& each : target) each = symbol();
      asked.insert(ends(target));
    }
  } while (asked.size() < targets.size());
  std::vector<String> strings = targets;
  // Random symbols in [first, last), the others kept; drawn again while its ends are asked for.
  const auto add = [&](String base, int first, int last) {
    do
      for (int i = first; i < last; ++i) base[static_cast<size_t>(i)] = symbol();
    while (asked.contains(ends(base)));
    strings.push_back(base);
  };
  for (const String& target : targets) {
    for (int i = 0; i < kDecoys; ++i) add(target, kEnds, kLength);
    for (int i = 0; i < kDecoys; ++i) add(target, 0, kLength - kEnds);
  }
  while (strings.size() < static_cast<size_t>(options.entries)) add({}, 0, kLength);
  random.shuffle(strings);
  const auto put = [](Writer& writer, const String& s, int first, int last) -> Writer& {
    for (int i = first; i < last; ++i) writer.sym(s[static_cast<size_t>(i)], 1);
    return writer;
  };
  TinySession session;
  Writer writer = context();
  for (const String& each : strings) put(writer, each, 0, kLength).id(kSep);
  session.context = std::move(writer.id(kEndCtx).ids);
  for (const String& target : targets) {
    Writer question = query(kPs), answer;
    put(question, target, 0, kEnds).id(kSep);
    put(question, target, kLength - kEnds, kLength);
    put(answer, target, 0, kLength);
    ask(session, std::move(question), std::move(answer), "ps");
  }
  return session;
}

TinySession hop(const TinyOptions& options, uint64_t seed, uint64_t index) {
  Random random = stream(seed, "hop", index);
  const auto chains = static_cast<uint64_t>(options.chains);
  const auto length = static_cast<uint64_t>(options.hops) + 1;
  const auto fillers = static_cast<uint64_t>(options.fillers);
  const Numbers names = random.sample(4096, chains * length + fillers);
  const Numbers values = random.sample(1024, chains);
  std::vector<std::vector<TinyIds>> statements(chains + fillers);
  std::vector<size_t> order;
  for (size_t chain = 0; chain < chains; ++chain)
    for (size_t j = 0; j < length; ++j) {
      Writer writer = Writer{}.id(kLet).sym(names[chain * length + j], 2).id(kMap);
      if (j == 0) writer.num(values[chain]);
      if (j > 0) writer.sym(names[chain * length + j - 1], 2);
      statements[chain].push_back(writer.id(kSep).ids);
      order.push_back(chain);
    }
  for (size_t i = 0; i < fillers; ++i) {
    uint64_t value;
    do value = random.below(1024);
    while (std::find(values.begin(), values.end(), value) != values.end());
    statements[chains + i].push_back(
        Writer{}.id(kLet).sym(names[chains * length + i], 2).id(kMap).num(value).id(kSep).ids);
    order.push_back(chains + i);
  }
  random.shuffle(order);
  std::vector<TinyIds> parts;
  std::vector<size_t> done(statements.size());
  for (const size_t chain : order) parts.push_back(statements[chain][done[chain]++]);
  TinySession session;
  write(session, parts);
  for (const uint64_t chain : random.sample(chains, static_cast<uint64_t>(options.turns))) {
    const uint64_t* first = &names[chain * length];
    if (!options.collect) {
      ask(session, query(kHopResolve).sym(first[length - 1], 2), Writer{}.num(values[chain]), "hop");
      continue;
    }
    Writer answer;
    for (size_t j = 0; j < length; ++j) {
      if (j > 0) answer.id(kSep);
      answer.sym(first[j], 2);
    }
    ask(session, query(kHopCollect).num(values[chain]), std::move(answer), "hop");
  }
  return session;
}

// Blocks of copy, in order, and its turns.
std::vector<TinyIds> copy_parts(TinySession& session, int blocks, int turns, int level,
                                uint64_t seed, uint64_t index) {
  const auto count = static_cast<uint64_t>(blocks);
  for (int attempt = 0; attempt < 1000; ++attempt, index += 1'000'003) {
    Random random = stream(seed, "copy", index);
    const Numbers names = random.sample(4096, count);
    std::vector<Numbers> bodies(count);
    std::vector<std::set<uint64_t>> symbols(count);
    for (size_t i = 0; i < count; ++i) {
      bodies[i].resize(12 + random.below(13));
      for (uint64_t& each : bodies[i]) each = random.below(kSymbols);
      symbols[i] = {bodies[i].begin(), bodies[i].end()};
    }
    std::vector<std::pair<size_t, Numbers>> targets;
    for (const uint64_t block : random.sample(count, count)) {
      if (targets.size() == static_cast<size_t>(turns)) break;
      const Numbers distinct(symbols[block].begin(), symbols[block].end());
      if (distinct.size() < 6) continue;
      Numbers picks;
      for (const uint64_t pick : random.sample(distinct.size(), 6)) picks.push_back(distinct[pick]);
      bool is_clear = true;
      for (size_t other = 0; other < count && is_clear; ++other)
        is_clear = other == block || std::count_if(picks.begin(), picks.end(), [&](uint64_t pick) {
                                       return symbols[other].contains(pick);
                                     }) <= 4;
      if (is_clear) targets.emplace_back(block, std::move(picks));
    }
    if (targets.size() < static_cast<size_t>(turns)) continue;
    std::vector<TinyIds> parts;
    for (size_t i = 0; i < count; ++i) {
      Writer body;
      for (const uint64_t each : bodies[i]) body.sym(each, 1);
      parts.push_back(Writer{}.id(kDef).sym(names[i], 2).id(kMap).all(body.ids).id(kEnd).ids);
      session.blocks.push_back(std::move(body.ids));
    }
    for (auto& [block, picks] : targets) {
      Writer question = query(kCopy);
      if (level == 0) question.sym(names[block], 2);
      for (uint64_t& pick : picks) pick = (29 * pick + 11) % 64;
      std::sort(picks.begin(), picks.end());
      if (level > 0)
        for (const uint64_t pick : picks) question.sym(pick, 1);
      ask(session, std::move(question), Writer{}.all(session.blocks[block]), "copy");
    }
    return parts;
  }
  throw Error(ErrorCode::kInvalidArgument,
              "no " + std::to_string(turns) + " of " + std::to_string(blocks) +
                  " blocks can be told apart by six symbols; ask for fewer blocks or turns",
              "tiny copy");
}

TinySession copy(const TinyOptions& options, uint64_t seed, uint64_t index) {
  TinySession session;
  write(session, copy_parts(session, options.blocks, options.turns, options.level, seed, index));
  return session;
}

TinySession qa(const TinyOptions& options, uint64_t seed, uint64_t index, bool is_choice) {
  Random random = stream(seed, "qa", index);
  const auto count = static_cast<uint64_t>(options.entries);
  const Numbers entities = random.sample(65536, count), objects = random.sample(4096, count);
  const Numbers targets = random.sample(count, static_cast<uint64_t>(options.turns));
  TinySession session;
  Writer writer = context();
  for (size_t i = 0; i < count; ++i)
    writer.sym(entities[i] >> 4, 2).id(kSmall + (entities[i] & 15)).id(kMap).sym(objects[i], 2).id(kSep);
  session.context = std::move(writer.id(kEndCtx).ids);
  for (const uint64_t target : targets) {
    Writer question = query(is_choice ? kChoice : kQa);
    question.sym(entities[target] >> 4, 2).id(kSmall + 16 + (entities[target] & 15));
    if (!is_choice) {
      ask(session, std::move(question), Writer{}.sym(objects[target], 2), "qa");
      continue;
    }
    std::vector<uint64_t> facts{target};
    while (facts.size() < 4)
      if (const uint64_t other = random.below(count);
          std::find(facts.begin(), facts.end(), other) == facts.end())
        facts.push_back(other);
    random.shuffle(facts);
    for (size_t j = 0; j < 4; ++j) question.id(kOpt).id(kSmall + j).sym(objects[facts[j]], 2);
    const auto place = std::find(facts.begin(), facts.end(), target) - facts.begin();
    ask(session, std::move(question), Writer{}.id(kSmall + static_cast<uint64_t>(place)), "choice");
  }
  return session;
}

TinySession icl(const TinyOptions& options, uint64_t seed, uint64_t index) {
  Random random = stream(seed, "icl", index);
  const Numbers part = random.sample(64, 48), labels = random.sample(32, 8);
  struct Example {
    uint64_t of_class;
    Writer symbols;
  };
  const auto example = [&] {
    Example drawn{random.below(8), {}};
    for (int i = 0; i < 4; ++i) {
      const bool is_clean = random.unit() < 0.85;
      drawn.symbols.sym(is_clean ? part[drawn.of_class * 6 + random.below(6)] : random.below(64), 1);
    }
    return drawn;
  };
  TinySession session;
  Writer writer = context();
  for (int shot = 0; shot < options.shots; ++shot) {
    const Example drawn = example();
    writer.all(drawn.symbols.ids).id(kLab).id(kSmall + labels[drawn.of_class]).id(kSep);
  }
  session.context = std::move(writer.id(kEndCtx).ids);
  for (int turn = 0; turn < options.turns; ++turn) {
    const uint64_t of_class = example().of_class;
    Writer question = query(kIcl);
    for (int i = 0; i < 4; ++i) question.sym(part[of_class * 6 + random.below(6)], 1);
    ask(session, std::move(question), Writer{}.id(kSmall + labels[of_class]), "icl");
  }
  return session;
}

TinySession find(const TinyOptions& options, uint64_t seed, uint64_t index) {
  Random random = stream(seed, "find", index);
  const auto count = static_cast<uint64_t>(options.numbers);
  const uint64_t low = random.below(205), high = 819 + random.below(205);
  const auto number = [&] { return low + random.below(high - low + 1); };
  Numbers numbers(count);
  for (uint64_t& each : numbers) each = number();
  const uint64_t mode = number();
  std::map<uint64_t, uint64_t> counts;
  for (const uint64_t each : numbers) ++counts[each];
  uint64_t most = 0;
  for (const auto& [value, times] : counts) most = std::max(most, times);
  uint64_t times = counts[mode];
  for (const uint64_t place : random.sample(count, count)) {
    if (times >= most + 2) break;
    if (numbers[place] == mode) continue;
    numbers[place] = mode;
    ++times;
  }
  Numbers sorted = numbers;
  std::sort(sorted.begin(), sorted.end());
  Numbers distinct = sorted;
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  const uint64_t second = distinct.size() > 1 ? 1 : 0;
  const uint64_t results[] = {distinct.back(),  distinct[distinct.size() - 1 - second],
                              distinct.front(), distinct[second],
                              mode,             sorted[(count - 1) / 2]};
  TinySession session;
  Writer writer = context();
  for (const uint64_t each : numbers) writer.num(each);
  session.context = std::move(writer.id(kEndCtx).ids);
  for (const uint64_t operation : random.sample(6, static_cast<uint64_t>(std::min(options.turns, 6))))
    ask(session, query(kMax + operation), Writer{}.num(results[operation]), "find");
  return session;
}

struct Documents {
  Numbers ids;
  std::vector<Numbers> topics;
  std::vector<TinyIds> parts;
};

Documents documents(Random& random, const TinyOptions& options) {
  Documents drawn;
  const auto size = static_cast<size_t>(options.document_size);
  const uint64_t planted = std::max<uint64_t>(6, size / 12);
  drawn.ids = random.sample(32, static_cast<uint64_t>(options.documents));
  for (const uint64_t id : drawn.ids) {
    const Numbers topics = random.sample(64, 3);
    Numbers body;
    const uint64_t times[] = {2 * planted, 3 * planted / 2, planted};
    for (size_t i = 0; i < 3; ++i) body.insert(body.end(), times[i], topics[i]);
    std::array<uint64_t, 64> used{};
    while (body.size() < size) {
      const uint64_t symbol = random.below(64);
      if (std::find(topics.begin(), topics.end(), symbol) != topics.end()) continue;
      if (used[symbol] >= planted / 2) continue;
      ++used[symbol];
      body.push_back(symbol);
    }
    random.shuffle(body);
    Writer writer = Writer{}.id(kDoc).id(kSmall + id).id(kSep);
    for (const uint64_t symbol : body) writer.sym(symbol, 1);
    drawn.parts.push_back(std::move(writer.ids));
    drawn.topics.push_back(topics);
  }
  return drawn;
}

void ask_sum(TinySession& session, const Documents& of, size_t document) {
  Writer answer;
  for (const uint64_t topic : of.topics[document]) answer.sym(topic, 1);
  ask(session, query(kSum).id(kSmall + of.ids[document]), std::move(answer), "sum");
}

TinySession sum(const TinyOptions& options, uint64_t seed, uint64_t index) {
  Random random = stream(seed, "sum", index);
  const Documents drawn = documents(random, options);
  TinySession session;
  write(session, drawn.parts);
  for (const uint64_t document : random.sample(drawn.ids.size(), static_cast<uint64_t>(options.turns)))
    ask_sum(session, drawn, document);
  return session;
}

TinySession mix1(const TinyOptions& options, uint64_t seed, uint64_t index) {
  Random random = stream(seed, "mix1", index);
  const Documents drawn = documents(random, options);
  const auto passes = static_cast<uint64_t>(options.passes);
  const Numbers ids = random.sample(64, passes), values = random.sample(1024, passes);
  Numbers slots;
  if (passes <= drawn.ids.size()) slots = random.sample(drawn.ids.size(), passes);
  while (slots.size() < passes) slots.push_back(random.below(drawn.ids.size()));
  std::vector<TinyIds> parts = drawn.parts;
  for (size_t i = 0; i < passes; ++i) {
    const Writer pass = Writer{}.id(kPass).sym(ids[i], 1).id(kMap).num(values[i]).id(kSep);
    parts[slots[i]].insert(parts[slots[i]].end(), pass.ids.begin(), pass.ids.end());
  }
  TinySession session;
  write(session, parts);
  const auto sums = static_cast<uint64_t>((options.turns + 1) / 2);
  const auto asked = static_cast<uint64_t>(options.turns / 2);
  const Numbers of_sum = random.sample(drawn.ids.size(), sums), of_pass = random.sample(passes, asked);
  for (size_t turn = 0; turn < static_cast<size_t>(options.turns); ++turn) {
    if (turn % 2 == 0) {
      ask_sum(session, drawn, of_sum[turn / 2]);
      continue;
    }
    const uint64_t pass = of_pass[turn / 2];
    ask(session, query(kPass).sym(ids[pass], 1), Writer{}.num(values[pass]), "pass");
  }
  return session;
}

TinySession mix2(const TinyOptions& options, uint64_t seed, uint64_t index) {
  TinySession session, of_kv;
  const std::vector<TinyIds> blocks = copy_parts(session, options.blocks, (options.turns + 1) / 2,
                                                 options.level, seed, index);
  const std::vector<TinyIds> entries =
      kv_parts(of_kv, options.entries, options.turns / 2, seed, index);
  std::vector<int> order(blocks.size(), 0);
  order.insert(order.end(), entries.size(), 1);
  stream(seed, "mix2", index).shuffle(order);
  std::vector<TinyIds> parts;
  size_t done[2] = {};
  for (const int which : order) parts.push_back((which == 0 ? blocks : entries)[done[which]++]);
  write(session, parts);
  std::vector<TinyTurn> turns;
  for (size_t turn = 0; turn < static_cast<size_t>(options.turns); ++turn)
    turns.push_back(std::move((turn % 2 == 0 ? session : of_kv).turns[turn / 2]));
  session.turns = std::move(turns);
  return session;
}

// What must hold for a task's draws to end. Empty: it does.
std::string why_not(std::string_view task, const TinyOptions& o) {
  const auto needs = [](bool holds, const char* what) { return std::string(holds ? "" : what); };
  if (o.turns < 1) return "at least one turn";
  if (task == "kv" || task == "mqar")
    return needs(o.entries >= o.turns && o.entries <= 1 << 18, "turns <= entries <= 262,144");
  if (task == "ps") return needs(o.entries >= 5 * o.turns && o.turns <= 4096, "entries >= 5 turns");
  if (task == "hop")
    return needs(o.hops >= 0 && o.fillers >= 0 && o.chains >= o.turns && o.chains <= 512 &&
                     int64_t{o.chains} * (o.hops + 1) + o.fillers <= 4096,
                 "turns <= chains <= 512 and at most 4,096 statements");
  if (task == "copy") return needs(o.blocks >= o.turns && o.blocks <= 4096, "turns <= blocks <= 4,096");
  if (task == "qa" || task == "choice")
    return needs(o.entries >= std::max(o.turns, 4) && o.entries <= 4096,
                 "turns <= entries, 4 to 4,096 entries");
  if (task == "icl") return needs(o.shots >= 1, "at least one shot");
  if (task == "find") return needs(o.numbers >= 64, "at least 64 numbers");
  if (task == "sum" || task == "mix1") {
    const int planted = std::max(6, o.document_size / 12);
    const int topics = 2 * planted + 3 * planted / 2 + planted;
    if (o.document_size < topics || o.document_size - topics > 61 * (planted / 2))
      return "documents of at least 27 tokens whose fillers fit";
    const int sums = task == "sum" ? o.turns : (o.turns + 1) / 2;
    if (o.documents < sums || o.documents > 32) return "summaries asked for <= documents <= 32";
    return needs(task == "sum" || (o.passes >= o.turns / 2 && o.passes <= 64),
                 "passes asked for <= passes <= 64");
  }
  if (task == "mix2")
    return needs(o.blocks >= (o.turns + 1) / 2 && o.blocks <= 4096 && o.entries >= o.turns / 2 &&
                     o.entries >= 1 && o.entries <= 1 << 18,
                 "at least as many blocks and entries as are asked for");
  return {};
}

}  // namespace

Result<TinySession> make_tiny(std::string_view task, const TinyOptions& options, uint64_t seed,
                              uint64_t index) {
  if (const std::string needs = why_not(task, options); !needs.empty())
    return Error(ErrorCode::kInvalidArgument, "expected " + needs, "tiny " + std::string(task));
  try {
    if (task == "kv" || task == "mqar") return kv(options, seed, index, task == "mqar");
    if (task == "ps") return ps(options, seed, index);
    if (task == "hop") return hop(options, seed, index);
    if (task == "copy") return copy(options, seed, index);
    if (task == "qa" || task == "choice") return qa(options, seed, index, task == "choice");
    if (task == "icl") return icl(options, seed, index);
    if (task == "find") return find(options, seed, index);
    if (task == "sum") return sum(options, seed, index);
    if (task == "mix1") return mix1(options, seed, index);
    if (task == "mix2") return mix2(options, seed, index);
  } catch (const Error& error) {
    return error;
  }
  return Error(ErrorCode::kNotFound,
               "expected kv, ps, hop, copy, qa, choice, icl, find, sum, mix1, mix2 or mqar",
               "tiny " + std::string(task));
}

uint64_t tiny_hash(const TinySession& session) {
  uint64_t hash = fnv1a("");
  const auto add = [&](const TinyIds& ids) {
    for (const uint16_t id : ids) {
      const char bytes[] = {static_cast<char>(id & 255), static_cast<char>(id >> 8)};
      hash = fnv1a({bytes, 2}, hash);
    }
  };
  add(session.context);
  for (const TinyTurn& turn : session.turns) {
    add(turn.query);
    add(turn.answer);
  }
  return hash;
}

}  // namespace kvasir::tasks
