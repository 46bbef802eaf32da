#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/json_lines.h"
#include "cli/table.h"

namespace kvasir::cli {

int methods_command(const Options& options, Environment& environment) {
  const std::vector<MethodRow> methods = environment.methods();
  if (options.json) {
    Json list = Json::array();
    for (const MethodRow& row : methods)
      list.push_back({{"stage", row.stage},
                      {"name", row.name},
                      {"description", row.description},
                      {"capabilities", row.capabilities}});
    environment.out->write(json_line({{"methods", list}}));
    return kExitOk;
  }
  std::vector<std::vector<std::string>> rows;
  for (const MethodRow& row : methods)
    rows.push_back({row.stage, row.name,
                    row.capabilities.empty() ? row.description
                                             : fmt::format("{}; can: {}", row.description,
                                                           fmt::join(row.capabilities, ", "))});
  environment.out->write(
      format_table({{"stage", false}, {"name", false}, {"what it does", false}}, rows));
  return kExitOk;
}

}  // namespace kvasir::cli
