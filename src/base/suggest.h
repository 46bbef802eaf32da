#pragma once
// "did you mean": the nearest of the known words.

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kvasir {

// Edits (insert, delete, replace, swap of neighbours) between two words.
int edit_distance(std::string_view a, std::string_view b);

// The known word nearest to `word`, or empty where none is near: at most a third of its letters
// differ, or one of the two begins with the other.
std::string nearest(std::string_view word, std::span<const std::string> known);

// "; did you mean 'middle'?", or empty.
std::string did_you_mean(std::string_view word, std::span<const std::string> known);

// Returns `value` where it is one of `known`; otherwise throws kInvalidArgument that names the
// nearest and all of them.
std::string choose(std::string_view what, std::string_view value,
                   std::span<const std::string> known);

}  // namespace kvasir
