#pragma once
// The three stages' methods together: which combinations run, and how KV of different methods is
// kept apart.

#include <span>
#include <string_view>

#include "base/method.h"
#include "base/result.h"
#include "kv/types.h"
#include "kvasir/request.h"

namespace kvasir::engine {

// What a run asks of its methods.
struct StageNeeds {
  bool chunked_prefill = false;
  bool prefix_reuse = false;
  bool batching = false;
  bool deterministic = false;
  bool gpu = false;
};

// The methods of each stage.
struct StageTables {
  std::span<const Method> prefill, compress, retrieve;
};
StageTables stage_tables();  // those of this build

// Errors: kNotFound for an unknown method, with the known ones; kInvalidArgument for an option;
// kUnsupported, in one sentence, for a method that does not claim what is needed or a combination
// that no test runs.
Result<void> check_stages(const StageChoice& stages, const StageNeeds& needs,
                          const StageTables& tables = stage_tables());

// Stands for the model in prefix hashes: two engines never exchange pages, so the folder and the
// number format say enough.
kv::Domain model_domain(std::string_view folder, std::string_view dtype);

// The prefix-cache domain of KV that these stages write: `model` mixed with the methods and options
// that change its bytes. Retrieval reads KV and leaves it as it is.
kv::Domain stage_domain(kv::Domain model, const StageChoice& stages);

// The domain in which dense KV is shared: that of `stages`, or of no compression where entries are
// dropped only after the prompt.
kv::Domain prefix_domain(kv::Domain model, const StageChoice& stages);

// The prefix-cache domain of KV whose rotation depends on the length of its sequence: `domain`
// mixed with what stands for that length.
kv::Domain rope_domain(kv::Domain domain, int64_t length);

// The prefix-cache domain of a group of requests: `domain` where it is 0.
kv::Domain group_domain(kv::Domain domain, uint64_t group);

}  // namespace kvasir::engine
