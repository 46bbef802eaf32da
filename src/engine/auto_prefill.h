#pragma once
// `--prefill auto`: what was measured of this model on this device, and the method that a request
// gets for it.

#include <deque>
#include <filesystem>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "kvasir/engine.h"
#include "prefill/auto_table.h"

namespace kvasir::engine {

// How ModelInfo's device is called in the file of measurements.
std::string auto_device(const ModelInfo& info);

// Thread-safe.
class AutoPrefill {
 public:
  // Measurements are those of `folder` unless a request names a file.
  AutoPrefill(std::filesystem::path folder, std::string device)
      : folder_(std::move(folder)), device_(std::move(device)) {}

  // The method for a prompt that asks for `choice`, whose name is auto and whose options have been
  // checked. A prompt that goes on from an earlier one, which makes up at least half of it, keeps
  // that one's method, as other KV would be of no use to it. Dense where nothing is known. Errors:
  // those of the file, but for kNotFound in the model's folder.
  Result<prefill::AutoChoice> choose(const MethodChoice& choice, std::span<const TokenId> prompt);

  // Methods that may be chosen.
  Result<std::vector<MethodChoice>> methods(const MethodChoice& choice);

 private:
  // `choice` names the measurements; null: there are none of this device.
  Result<const prefill::AutoDevice*> measured(const MethodChoice& choice);

  struct Earlier {
    MethodChoice asked, method;
    std::vector<TokenId> prompt;
  };

  const std::filesystem::path folder_;
  const std::string device_;
  std::mutex mutex_;
  std::map<std::filesystem::path, prefill::AutoTable> tables_;  // as read
  std::deque<Earlier> earlier_;                                 // the last ones
};

}  // namespace kvasir::engine
