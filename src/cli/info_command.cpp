#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/json_lines.h"
#include "report/table.h"

namespace kvasir::cli {
namespace {

Json info_json(const ModelInfo& info, int64_t context, int64_t sequences) {
  Json kernels = Json::object();
  for (const auto& [op, name] : info.kernels) kernels[op] = name;
  return {{"path", info.path},
          {"architecture", info.architecture},
          {"model_type", info.model_type},
          {"parameters", info.parameters},
          {"layers", info.layers},
          {"hidden_size", info.hidden_size},
          {"intermediate_size", info.intermediate_size},
          {"q_heads", info.q_heads},
          {"kv_heads", info.kv_heads},
          {"head_dim", info.head_dim},
          {"vocab_size", info.vocab_size},
          {"max_positions", info.max_positions},
          {"tied_embeddings", info.tied_embeddings},
          {"rope", info.rope},
          {"end_tokens", info.end_tokens},
          {"sampling", sampling_json(info.sampling)},
          {"dtype", info.dtype},
          {"device", info.device},
          {"device_name", info.device_name},
          {"device_note", info.device_note},
          {"chunk", info.chunk},
          {"threads", info.threads},
          {"isa", info.isa},
          {"kernels", kernels},
          {"kv_bytes_per_token", info.kv_bytes_per_token},
          {"context", context},
          {"sequences", sequences},
          {"plan", plan_json(info.plan)}};
}

std::string info_text(const ModelInfo& info, int64_t context, int64_t sequences) {
  std::vector<std::pair<std::string, std::string>> model{
      {"path", info.path},
      {"architecture", fmt::format("{} ({})", info.architecture, info.model_type)},
      {"parameters", fmt::format("{} ({:.1f} M)", with_thousands(info.parameters),
                                 static_cast<double>(info.parameters) / 1e6)},
      {"layers", std::to_string(info.layers)},
      {"hidden size", with_thousands(info.hidden_size)},
      {"feed-forward size", with_thousands(info.intermediate_size)},
      {"heads",
       fmt::format("{} query, {} KV, head_dim {}", info.q_heads, info.kv_heads, info.head_dim)},
      {"vocabulary", fmt::format("{}, embeddings {}", with_thousands(info.vocab_size),
                                 info.tied_embeddings ? "tied" : "not tied")},
      {"positions",
       fmt::format("{}, rotary scaling {}", with_thousands(info.max_positions), info.rope)}};
  std::vector<std::pair<std::string, std::string>> machine{
      {"device", device_text(info)},
      {"number format", info.dtype},
      {"threads", std::to_string(info.threads)},
      {"instruction set", info.isa}};
  if (!info.device_note.empty()) machine.emplace_back("note", info.device_note);
  for (const auto& [op, name] : info.kernels) machine.emplace_back("kernel " + op, name);
  auto plan = plan_pairs(info.plan);
  plan.insert(plan.begin(), {"KV of one token", as_bytes(info.kv_bytes_per_token)});
  return "model\n" + report::terminal_pairs(model) + "machine\n" + report::terminal_pairs(machine) +
         fmt::format("memory plan for {} sequence{} of {} tokens\n", with_thousands(sequences),
                     sequences == 1 ? "" : "s", with_thousands(context)) +
         report::terminal_pairs(plan);
}

}  // namespace

int info_command(const Options& options, Environment& environment) {
  EngineOptions engine = options.engine;
  engine.max_sequences = options.sequences;
  const int64_t context = engine.context > 0 ? engine.context : inspect(engine).plan.context;
  engine.context = context * options.sequences;
  const ModelInfo info = inspect(engine);
  environment.out->write(options.json ? json_line(info_json(info, context, options.sequences))
                                      : info_text(info, context, options.sequences));
  return kExitOk;
}

}  // namespace kvasir::cli
