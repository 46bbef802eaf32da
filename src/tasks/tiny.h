#pragma once
// The tiny task family: SCBench's mechanism at the level of tokens, in a vocabulary of 128 ids, for
// models that are trained in minutes. The order of random draws is part of the definition;
// tests/tasks/tiny_test.cpp holds hashes of whole instances.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tasks/task.h"

namespace kvasir::tasks {

using TinyIds = std::vector<uint16_t>;

namespace tiny {
enum : uint16_t { kPad, kBos, kEot, kCtx, kEndCtx, kQry, kAns, kSep, kMap, kLet, kDef, kEnd, kDoc, kOpt, kLab };
enum : uint16_t { kKv = 16, kPs, kHopCollect, kHopResolve, kCopy, kQa, kChoice, kIcl, kMax, kMax2, kMin, kMin2, kMode, kMed, kSum, kPass };
inline constexpr uint16_t kSymbol = 32, kSymbols = 64, kSmall = 96, kSmalls = 32, kVocabulary = 128;
}  // namespace tiny

struct TinyTurn {
  TinyIds query;   // QRY ... ANS
  TinyIds answer;  // ends with EOT
  std::string_view task;
};

struct TinySession {
  TinyIds context;  // BOS CTX ... ENDC
  std::vector<TinyTurn> turns;
  std::vector<TinyIds> blocks;  // bodies of copy and mix2, for the scorer
};

struct TinyOptions {
  int entries = 64;        // N of kv, ps, qa, choice, mix2
  int turns = 5;           // T
  int chains = 8;          // C of hop
  int hops = 2;            // h of hop
  int fillers = 40;        // F of hop
  bool collect = false;    // hop: all names of a chain, not its value
  int blocks = 32;         // M of copy, mix2
  int level = 1;           // of copy: 1 asks by synonyms, 0 by name
  int shots = 150;         // of icl
  int numbers = 256;       // n of find
  int documents = 8;       // D of sum, mix1
  int document_size = 96;  // Ld
  int passes = 5;          // P of mix1
};

inline constexpr std::string_view kTinyTasks[] = {"kv",  "ps",   "hop", "copy", "qa",   "choice",
                                                  "icl", "find", "sum", "mix1", "mix2", "mqar"};

// Session `index` of a task. `mqar`, for training, is kv with every key asked for once, in random
// order. Errors: kNotFound (no such task), kInvalidArgument (sizes that cannot be drawn).
Result<TinySession> make_tiny(std::string_view task, const TinyOptions& options, uint64_t seed,
                              uint64_t index);

// FNV-1a over the little-endian ids of the context, then of each turn's query and answer.
uint64_t tiny_hash(const TinySession& session);

// "w001 w003 ...": ids as words for a text tokenizer, and back. Errors: kMalformed.
std::string tiny_words(const TinyIds& ids);
Result<TinyIds> tiny_ids(std::string_view words);

// Share of the answer (without EOT) that `predicted` gets, 0 to 1, by the rule of the turn's task:
// copy: similarity of at least 0.8 and the most similar of the context's blocks; sum: F-measure of
// the longest common subsequence; all others: equality. What follows EOT does not count.
double tiny_score(const TinySession& session, size_t turn, const TinyIds& predicted);

// A session as text, by tiny_words.
Sample tiny_sample(const TinySession& session, std::string_view task, uint64_t index);
// Samples of a task as text. Sizes are those of `options`, not fitted to a length.
Result<std::unique_ptr<Generator>> make_tiny_generator(std::string_view task, TinyOptions options);
// Sizes so that a session of `task` has about `tokens` ids, never more.
TinyOptions tiny_options(std::string_view task, int tokens, int turns);

}  // namespace kvasir::tasks
