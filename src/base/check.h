#pragma once
// KVASIR_CHECK: an invariant whose violation would corrupt data; throws Error{kInternal}.
// KVASIR_DCHECK: the same, in debug and sanitiser builds only.

#include <string>

#include "kvasir/error.h"

namespace kvasir::detail {

[[noreturn]] inline void check_failed(const char* expression, const char* file, int line,
                                      const std::string& message = {}) {
  throw Error(ErrorCode::kInternal,
              std::string("check failed: ") + expression + (message.empty() ? "" : " (") + message +
                  (message.empty() ? "" : ")"),
              std::string(file) + ":" + std::to_string(line));
}

}  // namespace kvasir::detail

#define KVASIR_CHECK(condition, ...)                                                             \
  do {                                                                                           \
    if (!(condition)) [[unlikely]]                                                               \
      ::kvasir::detail::check_failed(#condition, __FILE__, __LINE__ __VA_OPT__(, ) __VA_ARGS__); \
  } while (false)

#ifdef NDEBUG
#define KVASIR_DCHECK(condition, ...) \
  do {                                \
  } while (false)
#else
#define KVASIR_DCHECK(condition, ...) KVASIR_CHECK(condition __VA_OPT__(, ) __VA_ARGS__)
#endif
