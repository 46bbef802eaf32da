#pragma once
// The one error family of Kvasir. Thrown for a caller's mistake or a failed set-up; carried as a
// value (Result<T>) for ordinary failure and across threads.

#include <exception>
#include <string>
#include <string_view>
#include <utility>

namespace kvasir {

enum class ErrorCode {
  kInvalidArgument,    // an option or argument that can never be right
  kNotFound,           // a file, tensor, model or method that is not there
  kMalformed,          // outside bytes that break their format
  kUnsupported,        // understood, but not offered (architecture, combination)
  kResourceExhausted,  // does not fit the memory plan or the context
  kCancelled,          // stopped on request
  kIo,                 // the operating system refused a read or write
  kInternal,           // a broken invariant: a bug in Kvasir
};

// "invalid_argument", "not_found", ...: the stable name of a code, as logs and --json print it.
std::string_view error_code_name(ErrorCode code);

// `message` says what was expected, what was found and what to do; `context` says where (file,
// tensor, option). what() joins them as "context: message".
class Error : public std::exception {
 public:
  Error(ErrorCode code, std::string message, std::string context = {});

  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }
  const std::string& context() const { return context_; }
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  ErrorCode code_;
  std::string message_;
  std::string context_;
  std::string text_;
};

}  // namespace kvasir
