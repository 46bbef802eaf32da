#include "eval/run_folder.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "eval/outcome_file.h"

namespace kvasir::eval {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kMachine = "machine";  // what a run may go on with on another one

Error io_error(const std::filesystem::path& path) {
  return {ErrorCode::kIo, fmt::format("cannot write: {}", std::strerror(errno)), path.string()};
}

std::filesystem::path fresh_path(const std::string& suite) {
  const std::time_t now = std::time(nullptr);
  const std::string name = fmt::format("{}-{:%Y%m%d-%H%M%S}", suite, fmt::localtime(now));
  std::filesystem::path path = std::filesystem::path("bench-results") / name;
  for (int i = 2; std::filesystem::exists(path); ++i)
    path = std::filesystem::path("bench-results") / fmt::format("{}-{}", name, i);
  return path;
}

Result<void> check_same(const std::filesystem::path& file, const Json& asked) {
  const auto text = read_file(file);
  if (!text) return text.error();
  const Json earlier = Json::parse(text.value(), nullptr, false);
  if (!earlier.is_object())
    return Error(ErrorCode::kMalformed, "expected a JSON object", file.string());
  for (const auto& [key, value] : asked.items())
    if (key != kMachine && (!earlier.contains(key) || earlier[key] != value))
      return Error(
          ErrorCode::kInvalidArgument,
          fmt::format("the run was started with {} {}, found {}; give it another --out", key,
                      earlier.contains(key) ? earlier[key].dump() : "unset", value.dump()),
          file.string());
  return {};
}

}  // namespace

RunFolder::RunFolder(RunFolder&& other) noexcept
    : path_(std::move(other.path_)),
      outcomes_(std::move(other.outcomes_)),
      notice_(std::move(other.notice_)),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

RunFolder::~RunFolder() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<RunFolder> RunFolder::open(std::filesystem::path path, const std::string& suite,
                                  const std::string& configuration, bool resume) {
  RunFolder folder;
  folder.path_ = path.empty() ? fresh_path(suite) : std::move(path);
  const std::filesystem::path outcomes = folder.path_ / kOutcomesFile,
                              asked = folder.path_ / "run.json";
  std::error_code failed;
  std::filesystem::create_directories(folder.path_, failed);
  if (failed) return Error(ErrorCode::kIo, failed.message(), folder.path_.string());
  if (std::filesystem::exists(outcomes)) {
    if (!resume)
      return Error(ErrorCode::kInvalidArgument,
                   "holds the outcomes of an earlier run; --resume goes on with it, another --out "
                   "starts anew",
                   outcomes.string());
    if (auto same = check_same(asked, Json::parse(configuration)); !same) return same.error();
    auto earlier = read_outcomes(outcomes);
    if (!earlier) return earlier.error();
    std::filesystem::resize_file(outcomes, static_cast<uintmax_t>(earlier.value().whole_bytes));
    folder.outcomes_ = std::move(earlier.value().outcomes);
    folder.notice_ = std::move(earlier.value().notice);
  } else if (auto written = write_file(asked, configuration + "\n"); !written) {
    return written.error();
  }
  folder.descriptor_ =
      ::open(outcomes.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR | 0044);
  if (folder.descriptor_ < 0) return io_error(outcomes);
  return folder;
}

void RunFolder::append(Outcome outcome) {
  const std::string line = to_json_line(outcome) + "\n";
  std::string_view rest = line;
  while (!rest.empty()) {
    const ssize_t written = ::write(descriptor_, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw io_error(path_ / kOutcomesFile);
    rest.remove_prefix(static_cast<size_t>(written));
  }
  outcomes_.push_back(std::move(outcome));
}

}  // namespace kvasir::eval
