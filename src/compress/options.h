#pragma once
// Values of the methods' options: their checks and how they are read once they have been checked.

#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "kvasir/request.h"

namespace kvasir::compress {

Result<void> check_count(std::string_view value);     // a whole number of at least 1
Result<void> check_window(std::string_view value);    // 1 to 64: the queries that an estimate takes
Result<void> check_kernel(std::string_view value);    // odd, 1 to 63
Result<void> check_appended(std::string_view value);  // "ranked" or "kept"

int64_t whole_option(const MethodChoice& choice, std::string_view name, int64_t otherwise);
// Whether what is appended to evicted KV is ranked with it after the next prompt.
bool is_rolling(const MethodChoice& choice);

}  // namespace kvasir::compress
