#pragma once
// `kvasir search trianglemix`: the layers that can be tri-shape without answers noticing, by a
// probe that needs the forward alone (in place of the gradients of arXiv 2507.21526, section 3.2):
// each layer is made tri-shape by itself, and the KL of the answer's tokens to dense prefill is its
// score. Then the layers of the lowest scores, as many as together stay within a bound.

#include <string>
#include <vector>

#include "search/search.h"

namespace kvasir::search {

struct TriangleMixSearch {
  std::string document;            // where questions are hidden in; UTF-8
  std::vector<std::string> tasks;  // of the suite "tasks"; empty: needle and var
  int64_t length = 8192;           // of each prompt, in tokens
  int documents = 2;               // of each task, with four questions
  double bound = 0.01;             // mean KL of an answer's token, all layers together, in nats
  std::filesystem::path output;    // the file that the method reads (prefill/triangle_layers.h)
  Watch watch;
};

struct TriangleMixResult {
  std::vector<double> scores;       // [layers] mean KL with that layer alone, in nats
  std::vector<int32_t> layers;      // chosen, ascending
  double kl = 0;                    // with all of these
  int64_t prompts = 0, tokens = 0;  // probed; answer tokens compared
};

// On the CPU, whatever engine.device says. Takes one more reading of the prompts than the model has
// layers, and then about log2(layers); the layers of a set are taken in the order of their scores,
// so that its size can be halved for. Throws as Engine::load does; kNotFound for unknown tasks;
// kCancelled.
TriangleMixResult search_trianglemix(const EngineOptions& engine, const TriangleMixSearch& options);

}  // namespace kvasir::search
