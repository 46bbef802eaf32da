#include "engine/auto_prefill.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "base/method.h"
#include "prefill/options.h"

namespace kvasir::engine {
namespace {

constexpr size_t kRemembered = 16;

std::filesystem::path file_of(const MethodChoice& choice, const std::filesystem::path& folder) {
  const auto named = choice.options.find("file");
  return named == choice.options.end() ? folder / prefill::kAutoFile
                                       : std::filesystem::path(named->second);
}

}  // namespace

std::string auto_device(const ModelInfo& info) {
  const bool on_cpu = info.device == "cpu";
  return prefill::auto_device(info.device_name, on_cpu ? info.threads : 0, info.dtype);
}

Result<const prefill::AutoDevice*> AutoPrefill::measured(const MethodChoice& choice) {
  const std::filesystem::path path = file_of(choice, folder_);
  auto known = tables_.find(path);
  if (known == tables_.end()) {
    const auto text = read_file(path);
    prefill::AutoTable table;
    if (text) {
      auto parsed = prefill::parse_auto_table(text.value(), path.string());
      if (!parsed) return parsed.error();
      table = std::move(parsed).value();
    } else if (text.error().code() != ErrorCode::kNotFound || choice.options.contains("file")) {
      return text.error();
    }
    known = tables_.emplace(path, std::move(table)).first;
  }
  return known->second.find(device_);
}

Result<prefill::AutoChoice> AutoPrefill::choose(const MethodChoice& choice,
                                                std::span<const TokenId> prompt) {
  std::lock_guard lock(mutex_);
  const auto device = measured(choice);
  if (!device) return device.error();
  if (!device.value())
    return prefill::AutoChoice{
        {"dense", {}},
        fmt::format("{} has no measurements of {}; kvasir search auto makes them",
                    file_of(choice, folder_).string(), device_)};
  prefill::AutoChoice made =
      prefill::choose_prefill(*device.value(), std::ssize(prompt),
                              prefill::number_option(choice, "bound", prefill::kAutoBound));
  for (const Earlier& each : earlier_) {
    const bool goes_on = method_text(each.asked) == method_text(choice) &&
                         each.prompt.size() <= prompt.size() &&
                         2 * each.prompt.size() >= prompt.size() &&
                         std::ranges::equal(each.prompt, prompt.first(each.prompt.size()));
    if (!goes_on || method_text(each.method) == method_text(made.method)) continue;
    made = {each.method,
            method_text(each.method) + " read the beginning of this prompt in an earlier request"};
    break;
  }
  earlier_.push_front({choice, made.method, {prompt.begin(), prompt.end()}});
  if (earlier_.size() > kRemembered) earlier_.pop_back();
  return made;
}

Result<std::vector<MethodChoice>> AutoPrefill::methods(const MethodChoice& choice) {
  std::lock_guard lock(mutex_);
  const auto device = measured(choice);
  if (!device) return device.error();
  std::vector<MethodChoice> methods;
  if (device.value())
    for (const prefill::AutoMeasurement& each : device.value()->measurements)
      methods.push_back(each.method);
  return methods;
}

}  // namespace kvasir::engine
