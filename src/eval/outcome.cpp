#include "eval/outcome.h"

namespace kvasir::eval {

const char* mode_name(Mode mode) {
  return mode == Mode::kMultiTurn ? "multi-turn" : "multi-request";
}

}  // namespace kvasir::eval
