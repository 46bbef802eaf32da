#pragma once
// `kvasir search minference`: a head configuration for a model, found on a text.

#include "prefill/minference/head_search.h"
#include "search/search.h"

namespace kvasir::search {

struct MInferenceSearch {
  prefill::minference::HeadSearchOptions heads;
  // A folder, made where it is not there. In the end it holds
  //   sparse_attention_config.json             the configuration, as published ones are
  //   sparse_attention_config.provenance.json  what it was found from, and what was measured
  //   layer-NNN.json                           one for each layer, as soon as it is done
  // A search of the same options goes on behind the layers that are there; one of others is
  // refused.
  std::filesystem::path output;
  Watch watch;
};

// What a layer came to.
struct LayerSummary {
  int layer = 0;
  int vertical_slash = 0, a_shape = 0, block_sparse = 0;  // heads
  double density = 0, recall = 0, error = 0;              // means over heads
};

// Reads `text` (at least one token) layer by layer on the CPU, whatever engine.device says. Throws
// as Engine::load does; kInvalidArgument where the folder holds another search; kCancelled.
std::vector<LayerSummary> search_minference(const EngineOptions& engine,
                                            std::span<const TokenId> text,
                                            const MInferenceSearch& options);

}  // namespace kvasir::search
