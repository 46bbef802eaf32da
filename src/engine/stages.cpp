#include "engine/stages.h"

#include <fmt/format.h>

#include <string>
#include <tuple>

#include "compress/methods.h"
#include "prefill/methods.h"
#include "retrieve/methods.h"

namespace kvasir::engine {
namespace {

Result<const Method*> find_checked(std::span<const Method> table, std::string_view stage,
                                   const MethodChoice& choice) {
  const Method* method = find_method(table, choice.name);
  if (!method) {
    std::string names;
    for (const Method& row : table) names += (names.empty() ? "" : ", ") + std::string(row.name);
    return Error(ErrorCode::kNotFound,
                 fmt::format("no method \"{}\"; there is {}", choice.name, names),
                 fmt::format("--{}", stage));
  }
  if (auto checked = check_method_options(*method, stage, choice.options); !checked)
    return checked.error();
  return method;
}

Result<void> check_needs(const Method& method, std::string_view stage, const StageNeeds& needs) {
  const MethodCapabilities& can = method.capabilities;
  const char* missing = needs.chunked_prefill && !can.chunked_prefill ? "prompts cut into chunks"
                        : needs.prefix_reuse && !can.prefix_reuse     ? "KV of earlier requests"
                        : needs.batching && !can.batching             ? "several sequences at once"
                        : needs.deterministic && !can.deterministic   ? "--deterministic"
                        : needs.gpu && !can.gpu                       ? "--device cuda"
                                                                      : nullptr;
  if (!missing) return {};
  return Error(ErrorCode::kUnsupported,
               fmt::format("{} does not work with {}", method.name, missing),
               fmt::format("--{}", stage));
}

// FNV-1a.
constexpr uint64_t kHashStart = 14695981039346656037ull;

void mix(uint64_t& hash, std::string_view text) {
  for (const char letter : text)
    hash = (hash ^ static_cast<unsigned char>(letter)) * 1099511628211ull;
  hash = (hash ^ 0xff) * 1099511628211ull;  // an end mark that UTF-8 does not have
}

void mix(uint64_t& hash, const MethodChoice& choice) {
  mix(hash, choice.name);
  for (const auto& [key, value] : choice.options) {
    mix(hash, key);
    mix(hash, value);
  }
}

}  // namespace

StageTables stage_tables() {
  return {.prefill = prefill::methods(),
          .compress = compress::methods(),
          .retrieve = retrieve::methods()};
}

Result<void> check_stages(const StageChoice& stages, const StageNeeds& needs,
                          const StageTables& tables) {
  const std::tuple<std::span<const Method>, std::string_view, const MethodChoice&> all[] = {
      {tables.prefill, "prefill", stages.prefill},
      {tables.compress, "compress", stages.compress},
      {tables.retrieve, "retrieve", stages.retrieve}};
  // What is not known at all comes before what does not go together.
  for (const auto& [table, stage, choice] : all)
    if (const auto method = find_checked(table, stage, choice); !method) return method.error();
  const Method* compress = find_method(tables.compress, stages.compress.name);
  const bool is_plain = stages.compress.name == "plain";
  const bool evicts = !is_plain && compress->capabilities.evicted_kv;
  const bool other_form = !is_plain && !evicts;
  for (const auto& [table, stage, choice] : all) {
    const Method& method = *find_method(table, choice.name);
    if (auto checked = check_needs(method, stage, needs); !checked) return checked;
    if (other_form && stage != "compress" && !method.capabilities.quantised_kv)
      return Error(ErrorCode::kUnsupported,
                   fmt::format("{} reads plain KV only, not that of --compress {}", choice.name,
                               stages.compress.name),
                   fmt::format("--{}", stage));
    if (evicts && stage != "compress" && !method.capabilities.evicted_kv)
      return Error(ErrorCode::kUnsupported,
                   fmt::format("{} reads whole KV only, not what --compress {} leaves of it",
                               choice.name, stages.compress.name),
                   fmt::format("--{}", stage));
  }
  return {};
}

kv::Domain model_domain(std::string_view folder, std::string_view dtype) {
  uint64_t hash = kHashStart;
  mix(hash, folder);
  mix(hash, dtype);
  return hash;
}

kv::Domain rope_domain(kv::Domain domain, int64_t length) {
  return (domain ^ static_cast<uint64_t>(length)) * 0x9e3779b97f4a7c15ull;
}

kv::Domain prefix_domain(kv::Domain model, const StageChoice& stages) {
  const Method* compress = find_method(compress::methods(), stages.compress.name);
  if (!compress || !compress->capabilities.evicted_kv) return stage_domain(model, stages);
  StageChoice plain = stages;
  plain.compress = StageChoice{}.compress;
  return stage_domain(model, plain);
}

kv::Domain group_domain(kv::Domain domain, uint64_t group) {
  return group == 0 ? domain : (domain + group) * 0xd1342543de82ef95ull;
}

kv::Domain stage_domain(kv::Domain model, const StageChoice& stages) {
  uint64_t hash = model ^ kHashStart;
  mix(hash, stages.prefill);
  mix(hash, stages.compress);
  return hash;
}

}  // namespace kvasir::engine
