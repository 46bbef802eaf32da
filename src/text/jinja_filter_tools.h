#pragma once
// What the files of filters share.

#include <string_view>

#include "text/jinja_interpreter.h"

namespace kvasir::text::jinja {

// Filters over sequences and mappings; nullptr where there is none of that name.
Filter find_sequence_filter(std::string_view name);

}  // namespace kvasir::text::jinja
