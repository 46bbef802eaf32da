#pragma once
// The method `minference`: head configuration and options to a planner.

#include <memory>
#include <string_view>

#include "prefill/planner.h"

namespace kvasir::prefill::minference {

Result<void> check_ratio(std::string_view value);  // a number above 0, at most 1000
Result<void> check_index(std::string_view value);  // "relative" or "reference"

// The heads' patterns come from the file that the option `config` names; without it from the
// model's folder (sparse_attention_config.json, or what config.json embeds); without that every
// head is (vertical_and_slash, 1000, 6096), as in the released code. Errors: kNotFound, kMalformed
// for the file, kInvalidArgument where it is for a model of another shape.
Result<std::shared_ptr<const Planner>> make_minference(const MethodChoice& choice,
                                                       const ModelShape& model);

}  // namespace kvasir::prefill::minference
