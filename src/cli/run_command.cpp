#include <fmt/format.h>

#include "base/method.h"
#include "cli/batch.h"
#include "cli/commands.h"
#include "cli/dialogue.h"
#include "cli/exit_codes.h"
#include "cli/json_lines.h"
#include "cli/run_session.h"
#include "report/table.h"

namespace kvasir::cli {
namespace {

int dry_run(const Options& options, Environment& environment) {
  const ModelInfo info = inspect(options.engine);
  const RunOptions& run = options.run;
  const GenerationOptions& generation = run.generation;
  const SamplingOptions sampling = generation.sampling(info.sampling);
  const EngineOptions& engine = options.engine;
  const int64_t context = engine.context > 0 ? engine.context : info.plan.context;
  const std::string as = run.as_requests ? "requests" : "turns";
  if (options.json) {
    Json object = {{"model", info.path},
                   {"device", info.device},
                   {"device_name", info.device_name},
                   {"device_note", info.device_note},
                   {"dtype", info.dtype},
                   {"threads", info.threads},
                   {"context", context},
                   {"chunk", info.chunk},
                   {"max_sequences", engine.max_sequences},
                   {"deterministic", engine.deterministic},
                   {"documents", run.documents},
                   {"document_role", run.document_role},
                   {"questions", run.questions},
                   {"as", as},
                   {"fit", run.fit},
                   {"max_tokens", generation.max_tokens},
                   {"samples", generation.samples},
                   {"stop", generation.stop},
                   {"stop_tokens", generation.stop_tokens},
                   {"ignore_end", generation.ignore_end},
                   {"sampling", sampling_json(sampling)},
                   {"prefill", method_text(generation.stages.prefill)},
                   {"compress", method_text(generation.stages.compress)},
                   {"retrieve", method_text(generation.stages.retrieve)},
                   {"plan", plan_json(info.plan)}};
    environment.out->write(json_line(object));
    return kExitOk;
  }
  std::string documents;
  for (const std::string& path : run.documents) documents += (documents.empty() ? "" : ", ") + path;
  std::vector<std::pair<std::string, std::string>> pairs{
      {"model", info.path},
      {"device", device_text(info)},
      {"dtype", info.dtype},
      {"threads", std::to_string(info.threads)},
      {"context", with_thousands(context)},
      {"chunk", with_thousands(info.chunk)},
      {"max-sequences", std::to_string(engine.max_sequences)},
      {"deterministic", engine.deterministic ? "yes" : "no"},
      {"documents", documents.empty() ? "none" : documents},
      {"document-role", run.document_role},
      {"questions", std::to_string(run.questions.size())},
      {"as", as},
      {"fit", run.fit},
      {"max-tokens", std::to_string(generation.max_tokens)},
      {"samples", std::to_string(generation.samples)},
      {"ignore-end", generation.ignore_end ? "yes" : "no"},
      {"temperature", fmt::format("{}", sampling.temperature)},
      {"top-k", std::to_string(sampling.top_k)},
      {"top-p", fmt::format("{}", sampling.top_p)},
      {"min-p", fmt::format("{}", sampling.min_p)},
      {"repetition-penalty", fmt::format("{}", sampling.repetition_penalty)},
      {"presence-penalty", fmt::format("{}", sampling.presence_penalty)},
      {"frequency-penalty", fmt::format("{}", sampling.frequency_penalty)},
      {"seed", std::to_string(sampling.seed)},
      {"prefill", method_text(generation.stages.prefill)},
      {"compress", method_text(generation.stages.compress)},
      {"retrieve", method_text(generation.stages.retrieve)}};
  environment.out->write("options\n" + report::terminal_pairs(pairs) + "memory plan\n" +
                         report::terminal_pairs(plan_pairs(info.plan)));
  return kExitOk;
}

}  // namespace

int run_command(const Options& options, Environment& environment) {
  const RunOptions& run = options.run;
  check_methods(run.generation.stages);
  if (options.dry_run) return dry_run(options, environment);
  const bool asks = !run.questions.empty() || run.prompt || run.chat || run.batch;
  if (!asks && !environment.in_terminal)
    throw Error(ErrorCode::kInvalidArgument,
                "expected something to answer: --ask TEXT, --prompt TEXT, --chat FILE or --batch "
                "FILE; a dialogue needs a terminal",
                "run");

  // Small mistakes are found before the model is loaded.
  const auto source = [&](const std::string& path) {
    return environment.read_document(path).value();
  };
  std::vector<ChatMessage> messages;
  if (run.chat) messages = parse_messages(source(*run.chat), *run.chat);
  std::vector<BatchLine> lines;
  if (run.batch) lines = parse_batch(source(*run.batch), *run.batch, run.generation);
  for (const BatchLine& line : lines) check_methods(line.generation.stages);
  std::string document = read_documents(run.documents, environment);

  const std::unique_ptr<Engine> engine = load_engine(options.engine, environment);
  environment.interrupts->set_mode(Interrupts::Mode::kCancel);
  if (run.batch) return run_batch(*engine, options, lines, document, environment);

  PromptMaker prompts(*engine, options, std::move(document), run.document_role, environment);
  RunSession session(*engine, options, environment);
  const GenerationOptions& generation = run.generation;
  if (run.prompt) {
    session.ask({{.prompt = prompts.raw(*run.prompt, generation.max_tokens)}});
  } else if (run.chat) {
    session.ask({{.prompt = prompts.chat(messages, generation.max_tokens)}});
  } else if (!asks) {
    run_dialogue(session, prompts, options, environment);
  } else if (run.as_requests) {
    session.show_questions(run.questions.size() > 1);
    std::vector<Question> questions;
    for (const std::string& text : run.questions)
      questions.push_back(
          {.prompt = prompts.chat({{"user", text}}, generation.max_tokens), .text = text});
    session.ask(std::move(questions));
  } else {
    run_turns(session, prompts, options);
  }
  session.close();
  return session.exit_status();
}

}  // namespace kvasir::cli
