#pragma once
// Lists of token ids as text.

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvasir/request.h"

namespace kvasir::cli {

// Ids apart by white space. Throws Error{kMalformed} with the line of what is no id, and where
// there is none at all.
std::vector<TokenId> parse_ids(std::string_view text, const std::string& where);

// All ids are below `vocab_size`; otherwise throws Error{kMalformed} that says which is not.
void check_ids(std::span<const TokenId> ids, int64_t vocab_size, const std::string& where);

}  // namespace kvasir::cli
