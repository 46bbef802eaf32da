#pragma once
// The first tokens and the last ones (StreamingLLM, arXiv 2309.17453, as a cache that is cut after
// a prompt; keys keep their positions, where the paper numbers them anew).

#include "compress/compressor.h"

namespace kvasir::compress {

Result<std::shared_ptr<const Compressor>> make_streamingllm(const MethodChoice& choice,
                                                            const ModelShape& model);

}  // namespace kvasir::compress
