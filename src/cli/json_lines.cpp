#include "cli/json_lines.h"

#include <fmt/format.h>

#include <cmath>

#include "base/progress.h"

namespace kvasir::cli {
namespace {

// Microseconds are enough.
double rounded(double seconds) { return std::round(seconds * 1e6) / 1e6; }

}  // namespace

std::string json_line(const Json& object) {
  return object.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Json error_json(const Error& error) {
  return {{"code", error_code_name(error.code())},
          {"message", error.message()},
          {"context", error.context()}};
}

Json answer_json(const AnswerJson& answer) {
  const SampleResult& result = answer.result;
  const AttentionReport& attention = result.attention;
  Json object = {
      {"text", result.text},
      {"tokens", result.tokens},
      {"finish_reason", finish_reason_name(result.finish_reason)},
      {"usage",
       {{"prompt_tokens", result.usage.prompt_tokens},
        {"cached_tokens", result.usage.cached_tokens},
        {"completion_tokens", result.usage.completion_tokens}}},
      {"timing",
       {{"load_seconds", rounded(answer.load_seconds)},
        {"prefill_seconds", rounded(result.timing.prefill_seconds)},
        {"ttft_seconds", rounded(result.timing.ttft_seconds)},
        {"decode_tokens_per_second", rounded(result.timing.decode_tokens_per_second)}}},
      {"attention",
       {{"prefill", attention.prefill},
        {"compress", attention.compress},
        {"retrieve", attention.retrieve},
        {"computed_fraction", attention.computed_fraction},
        {"decode_fraction", attention.decode_fraction},
        {"planned_heads", attention.planned_heads},
        {"dense_heads", attention.dense_heads},
        {"plan_seconds", rounded(attention.plan_seconds)},
        {"attention_seconds", rounded(attention.attention_seconds)},
        {"kv_bytes", attention.kv_bytes},
        {"kept_fraction", attention.kept_fraction},
        {"fallback_reason",
         attention.fallback_reason.empty() ? Json(nullptr) : Json(attention.fallback_reason)}}}};
  if (answer.sample) object["sample"] = *answer.sample;
  if (answer.logprobs) {
    Json list = Json::array();
    for (const LogprobEntry& entry : result.logprobs) {
      Json top = Json::array();
      for (const TokenLogprob& other : entry.top)
        top.push_back({{"token", other.token}, {"logprob", other.logprob}});
      list.push_back(
          {{"token", entry.chosen.token}, {"logprob", entry.chosen.logprob}, {"top", top}});
    }
    object["logprobs"] = std::move(list);
  }
  return object;
}

Json plan_json(const MemoryPlan& plan) {
  return {{"weights", plan.weights},
          {"kv", plan.kv},
          {"scratch", plan.scratch},
          {"fixed", plan.fixed},
          {"total", plan.total()},
          {"available", plan.available},
          {"fits", plan.total() <= plan.available}};
}

Json sampling_json(const SamplingOptions& sampling) {
  return {{"temperature", sampling.temperature},
          {"top_k", sampling.top_k},
          {"top_p", sampling.top_p},
          {"min_p", sampling.min_p},
          {"repetition_penalty", sampling.repetition_penalty},
          {"presence_penalty", sampling.presence_penalty},
          {"frequency_penalty", sampling.frequency_penalty},
          {"seed", sampling.seed}};
}

std::string device_text(const ModelInfo& info) {
  return info.device_name.empty() ? info.device
                                  : fmt::format("{} ({})", info.device, info.device_name);
}

std::vector<std::pair<std::string, std::string>> plan_pairs(const MemoryPlan& plan) {
  const bool fits = plan.total() <= plan.available;
  return {{"weights", as_bytes(plan.weights)},
          {"kv", as_bytes(plan.kv)},
          {"scratch", as_bytes(plan.scratch)},
          {"program", as_bytes(plan.fixed)},
          {"in all", as_bytes(plan.total())},
          {"available", as_bytes(plan.available) + (fits ? "" : ": it does not fit")}};
}

}  // namespace kvasir::cli
