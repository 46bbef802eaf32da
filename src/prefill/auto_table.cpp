#include "prefill/auto_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/method.h"
#include "formats/config_reader.h"
#include "formats/json_text.h"

namespace kvasir::prefill {
namespace {

using formats::ConfigReader;
using nlohmann::json;

constexpr const char* kSchema = "kvasir-prefill-auto/1";
// A method is worth its name where it saves at least that share of dense prefill's time.
constexpr double kLeastGain = 0.05;
constexpr double kBeyond = 1.25;

const json& list_of(const ConfigReader& reader, const char* key) {
  if (!reader.has(key) || !reader.at(key).is_array()) reader.fail(key, "a list", "none");
  return reader.at(key);
}

AutoMeasurement read_measurement(const json& object, const std::string& origin) {
  const ConfigReader reader(object, origin);
  AutoMeasurement found{.length = reader.integer("length", 1, int64_t{1} << 40, std::nullopt),
                        .method = {reader.text("method", ""), {}},
                        .seconds = reader.number("seconds", 0, 1e9, std::nullopt),
                        .kl = reader.number("kl", 0, 1e9, std::nullopt),
                        .questions = reader.integer("questions", 0, 1 << 30, std::nullopt),
                        .same = reader.integer("same", 0, 1 << 30, std::nullopt)};
  if (found.method.name.empty()) reader.fail("method", "a method's name", "none");
  if (!reader.has("options")) return found;
  for (const auto& [key, value] : reader.at("options").items()) {
    if (!value.is_string()) reader.fail("options", "texts", value.dump());
    found.method.options[key] = value.get<std::string>();
  }
  return found;
}

AutoTable read_table(const json& object, const std::string& origin) {
  if (!object.is_object())
    throw Error(ErrorCode::kMalformed, "expected a JSON object, found another value", origin);
  const ConfigReader reader(object, origin);
  if (reader.text("schema", "") != kSchema)
    reader.fail("schema", kSchema, reader.text("schema", "none"));
  AutoTable table;
  for (const json& each : list_of(reader, "devices")) {
    const ConfigReader device(each, origin);
    AutoDevice& read = table.devices.emplace_back();
    read.device = device.text("device", "");
    for (const json& measurement : list_of(device, "measurements"))
      read.measurements.push_back(read_measurement(measurement, origin));
  }
  return table;
}

const AutoMeasurement* find(const AutoDevice& device, int64_t length, std::string_view method) {
  for (const AutoMeasurement& each : device.measurements)
    if (each.length == length && method_text(each.method) == method) return &each;
  return nullptr;
}

}  // namespace

const AutoDevice* AutoTable::find(std::string_view device) const {
  const auto found = std::ranges::find(devices, device, &AutoDevice::device);
  return found == devices.end() ? nullptr : &*found;
}

AutoDevice& AutoTable::at(std::string_view device) {
  const auto found = std::ranges::find(devices, device, &AutoDevice::device);
  if (found != devices.end()) return *found;
  return devices.emplace_back(AutoDevice{std::string(device), {}});
}

Result<AutoTable> parse_auto_table(std::string_view text, std::string_view origin) {
  return formats::read_json<AutoTable>(text, origin, "a JSON object", read_table);
}

std::string write_auto_table(const AutoTable& table) {
  json devices = json::array();
  for (const AutoDevice& device : table.devices) {
    json measurements = json::array();
    for (const AutoMeasurement& each : device.measurements)
      measurements.push_back({{"length", each.length},
                              {"method", each.method.name},
                              {"options", each.method.options},
                              {"seconds", each.seconds},
                              {"kl", each.kl},
                              {"questions", each.questions},
                              {"same", each.same}});
    devices.push_back({{"device", device.device}, {"measurements", std::move(measurements)}});
  }
  const json object = {{"schema", kSchema}, {"devices", std::move(devices)}};
  return object.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

std::string auto_device(std::string_view name, int threads, std::string_view dtype) {
  return threads > 0 ? fmt::format("{}, {} threads, {}", name, threads, dtype)
                     : fmt::format("{}, {}", name, dtype);
}

AutoChoice choose_prefill(const AutoDevice& measured, int64_t length, double bound) {
  std::set<int64_t> lengths;
  for (const AutoMeasurement& each : measured.measurements) lengths.insert(each.length);
  const auto above = lengths.lower_bound(length);
  if (above == lengths.begin() && (lengths.empty() || *above != length))
    return {{"dense", {}},
            lengths.empty() ? std::string("nothing was measured of this device")
                            : fmt::format("prompts shorter than {} tokens were not measured",
                                          *lengths.begin())};
  if (above == lengths.end() && static_cast<double>(length) > kBeyond * *lengths.rbegin())
    return {{"dense", {}},
            fmt::format("prompts longer than {} tokens were not measured", *lengths.rbegin())};
  std::vector<int64_t> sides;
  if (above != lengths.end()) sides.push_back(*above);
  if (above == lengths.end() || *above != length) sides.push_back(*std::prev(above));

  const AutoMeasurement* best = nullptr;
  double best_seconds = 0, dense_seconds = 0;
  for (const int64_t side : sides) {
    const AutoMeasurement* dense = find(measured, side, "dense");
    if (!dense) return {{"dense", {}}, fmt::format("dense was not measured at {} tokens", side)};
    dense_seconds += dense->seconds;
  }
  for (const AutoMeasurement& each : measured.measurements) {
    if (each.length != sides.front() || each.method.name == "dense") continue;
    double seconds = 0;
    const bool is_good = std::ranges::all_of(sides, [&](int64_t side) {
      const AutoMeasurement* found = find(measured, side, method_text(each.method));
      if (!found || found->kl > bound || found->same < found->questions) return false;
      seconds += found->seconds;
      return found->seconds <= (1 - kLeastGain) * find(measured, side, "dense")->seconds;
    });
    if (!is_good || (best && seconds >= best_seconds)) continue;
    best = &each;
    best_seconds = seconds;
  }
  if (!best)
    return {{"dense", {}},
            fmt::format("no other method was faster at {} tokens with the same answers and KL "
                        "within {}",
                        sides.front(), bound)};
  return {best->method,
          fmt::format("{} was {:.1f} times as fast as dense at {} tokens, KL {:.2g}",
                      method_text(best->method), dense_seconds / best_seconds,
                      fmt::join(std::set(sides.begin(), sides.end()), " and "), best->kl)};
}

}  // namespace kvasir::prefill
