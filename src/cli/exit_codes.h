#pragma once
// What the program returns to the shell. Stable: scripts depend on it (docs/command-line.md).

#include <string>

#include "kvasir/error.h"

namespace kvasir::cli {

inline constexpr int kExitOk = 0;
inline constexpr int kExitInternal = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitNotFound = 3;
inline constexpr int kExitMalformed = 4;
inline constexpr int kExitUnsupported = 5;
inline constexpr int kExitResources = 6;
inline constexpr int kExitIo = 7;
inline constexpr int kExitInterrupted = 130;

int exit_code(ErrorCode code);

// The paragraph that --help shows and docs/command-line.md repeats.
std::string exit_code_help();

}  // namespace kvasir::cli
