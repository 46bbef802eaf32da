#pragma once
// Keys and words that tasks are made of, of one key space each.

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "tasks/random.h"
#include "tasks/task.h"

namespace kvasir::tasks {

// One key in eight is for evaluation, by the hash of its bytes.
constexpr KeySpace key_space(std::string_view key) {
  return fnv1a(key) >> 61 == 0 ? KeySpace::kEvaluation : KeySpace::kTraining;
}

// English nouns and adjectives, lower-case, each once; some of either key space.
std::span<const std::string_view> nouns();
std::span<const std::string_view> adjectives();
// Nouns of a key space, in the order of nouns().
const std::vector<std::string>& key_words(KeySpace space);

std::string random_hex(Random& random, int digits);
std::string random_digits(Random& random, int digits);  // the first is not 0
std::string random_capitals(Random& random, int letters);
std::string random_uuid(Random& random);  // version 4
std::string_view random_noun(Random& random);

// Draws `make(random)` until it is of the key space and was not given before.
template <class Make>
std::string new_key(Random& random, KeySpace space, std::unordered_set<std::string>& used,
                    Make&& make) {
  for (;;) {
    std::string key = make(random);
    if (key_space(key) == space && used.insert(key).second) return key;
  }
}

}  // namespace kvasir::tasks
