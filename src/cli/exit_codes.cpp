#include "cli/exit_codes.h"

namespace kvasir::cli {

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return kExitUsage;
    case ErrorCode::kNotFound:
      return kExitNotFound;
    case ErrorCode::kMalformed:
      return kExitMalformed;
    case ErrorCode::kUnsupported:
      return kExitUnsupported;
    case ErrorCode::kResourceExhausted:
      return kExitResources;
    case ErrorCode::kCancelled:
      return kExitInterrupted;
    case ErrorCode::kIo:
      return kExitIo;
    case ErrorCode::kInternal:
      return kExitInternal;
  }
  return kExitInternal;
}

std::string exit_code_help() {
  return "Exit codes: 0 done, 1 internal error, 2 wrong use, 3 not found, 4 malformed\n"
         "  input, 5 not supported, 6 out of memory or context, 7 read or write failed,\n"
         "  130 interrupted (128 + the signal's number)\n";
}

}  // namespace kvasir::cli
