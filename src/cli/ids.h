#pragma once
// Lists of token ids as text.

#include <string>
#include <string_view>
#include <vector>

#include "kvasir/request.h"

namespace kvasir::cli {

// Ids apart by white space. Throws Error{kMalformed} with the line of what is no id, and where
// there is none at all.
std::vector<TokenId> parse_ids(std::string_view text, const std::string& where);

}  // namespace kvasir::cli
