#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/suggest.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/json_lines.h"
#include "compress/methods.h"
#include "prefill/methods.h"
#include "report/table.h"
#include "retrieve/methods.h"

namespace kvasir::cli {
namespace {

struct Stage {
  const char* name;
  std::span<const Method> methods;
};

std::array<Stage, 3> stages() {
  return {{{"prefill", prefill::methods()},
           {"compress", compress::methods()},
           {"retrieve", retrieve::methods()}}};
}

std::vector<std::string> names_of(const MethodCapabilities& can) {
  std::vector<std::string> names;
  const auto add = [&names](bool claimed, const char* name) {
    if (claimed) names.push_back(name);
  };
  add(can.chunked_prefill, "chunked prefill");
  add(can.prefix_reuse, "prefix reuse");
  add(can.batching, "batching");
  add(can.quantised_kv, "quantised KV");
  add(can.evicted_kv, "evicted KV");
  add(can.cuda_graphs, "CUDA graphs");
  add(can.gpu, "GPU");
  add(can.several_gpus, "several GPUs");
  add(can.images, "images");
  return names;
}

Json methods_json() {
  Json list = Json::array();
  for (const Stage& stage : stages()) {
    for (const Method& method : stage.methods) {
      Json options = Json::object();
      for (const MethodOption& option : method.options)
        options[std::string(option.name)] = option.description;
      list.push_back({{"stage", stage.name},
                      {"name", method.name},
                      {"description", method.description},
                      {"capabilities", names_of(method.capabilities)},
                      {"options", std::move(options)}});
    }
  }
  return {{"methods", std::move(list)}};
}

std::string methods_text(int width) {
  report::Table table{.columns = {{"stage", false}, {"name", false}, {"what it does", false}}};
  for (const Stage& stage : stages()) {
    for (const Method& method : stage.methods) {
      std::string text(method.description);
      if (const auto names = names_of(method.capabilities); !names.empty())
        text += fmt::format("; can: {}", fmt::join(names, ", "));
      table.rows.push_back({stage.name, std::string(method.name), std::move(text)});
      for (const MethodOption& option : method.options)
        table.rows.push_back(
            {"", fmt::format("  :{}=", option.name), std::string(option.description)});
    }
  }
  return report::terminal_table(table, static_cast<size_t>(width));
}

void check_method(const Stage& stage, const MethodChoice& choice) {
  if (const Method* method = find_method(stage.methods, choice.name)) {
    check_method_options(*method, stage.name, choice.options).value();
    return;
  }
  std::vector<std::string> known;
  for (const Method& each : stage.methods) known.emplace_back(each.name);
  throw Error(ErrorCode::kNotFound,
              fmt::format("no method '{}'; there is {}{}", choice.name, fmt::join(known, ", "),
                          did_you_mean(choice.name, known)),
              fmt::format("--{}", stage.name));
}

}  // namespace

int methods_command(const Options& options, Environment& environment) {
  environment.out->write(options.json ? json_line(methods_json())
                                      : methods_text(environment.width));
  return kExitOk;
}

void check_methods(const StageChoice& choice) {
  const auto [prefill, compress, retrieve] = stages();
  check_method(prefill, choice.prefill);
  check_method(compress, choice.compress);
  check_method(retrieve, choice.retrieve);
}

}  // namespace kvasir::cli
