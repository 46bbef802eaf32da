#pragma once
// A document of one line again and again, with statements between.

#include <string>
#include <vector>

#include "tasks/random.h"

namespace kvasir::tasks {

inline constexpr std::string_view kNoiseLine =
    "The field is wide. The river is cold. The bell is old. On we walk. Then home we turn.";

// `lines` of noise with the statements of each chain at random places, in their order.
std::string noise_with(Random& random, size_t lines, std::vector<std::vector<std::string>> chains);
// Any lines with single statements at random places.
std::string lines_with(Random& random, const std::vector<std::string>& lines,
                       const std::vector<std::string>& statements);

}  // namespace kvasir::tasks
