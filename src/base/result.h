#pragma once
// Result<T>: a value or an Error, for failures that are part of normal operation.

#include <optional>
#include <utility>
#include <variant>

#include "kvasir/error.h"

namespace kvasir {

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  // The value; throws the carried Error where there is none.
  T& value() & {
    if (!ok()) throw error();
    return std::get<0>(state_);
  }
  const T& value() const& {
    if (!ok()) throw error();
    return std::get<0>(state_);
  }
  T&& value() && {
    if (!ok()) throw error();
    return std::get<0>(std::move(state_));
  }

  // Precondition: !ok().
  const Error& error() const { return std::get<1>(state_); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}

  bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  void value() const {
    if (error_) throw *error_;
  }
  const Error& error() const { return *error_; }

 private:
  std::optional<Error> error_;
};

}  // namespace kvasir
