#pragma once
// SCBench's published files: one JSON object a line, one session each. The same form holds what
// the generators make.

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tasks/task.h"

namespace kvasir::tasks {

// Reads all sessions. `task` is the config ("scbench_kv"). Sample::id is the stored id, or the line
// where there is none. Unknown fields are ignored. Errors: kMalformed, with file, line and field.
Result<std::vector<Sample>> parse_sessions(std::string_view jsonl, std::string_view origin,
                                           std::string_view task);
// The same from <folder>/data/<task>.jsonl or <folder>/<task>.jsonl. Errors: kNotFound, with both
// places; kIo; kMalformed; kUnsupported where only a parquet file is there.
Result<std::vector<Sample>> load_sessions(const std::filesystem::path& folder,
                                          std::string_view task);
// One line, without its end. What parse_sessions() reads from it is the same sample.
std::string session_line(const Sample& sample);

}  // namespace kvasir::tasks
