#pragma once
// Values of the methods' options: their checks and how they are read once they have been checked.

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kvasir/request.h"

namespace kvasir::prefill {

Result<void> check_tokens(std::string_view value);  // a whole number of at least 0
// A decimal number above 0, at most `most`.
Result<void> check_number(std::string_view value, double most);
Result<void> check_bound(std::string_view value);  // a number above 0, at most 100
Result<void> check_file(std::string_view value);   // the path of a file: not empty
Result<void> check_share(std::string_view value);     // a number above 0, at most 1
Result<void> check_distance(std::string_view value);  // a number from 0 to 1
Result<void> check_at_least_one_token(std::string_view value);
// "12-31", "5+7+15-35": layers and runs of them, ascending, joined by +.
Result<void> check_layers(std::string_view value);

double number_option(const MethodChoice& choice, std::string_view name, double otherwise);
int32_t tokens_option(const MethodChoice& choice, std::string_view name, int32_t otherwise);

struct LayerRun {
  int first = 0;
  int last = 0;
};
// Empty where the option is not given.
std::vector<LayerRun> layers_option(const MethodChoice& choice, std::string_view name);

}  // namespace kvasir::prefill
