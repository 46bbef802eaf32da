#include <fmt/format.h>

#include <algorithm>
#include <new>

#include "base/utf8.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/json_lines.h"

namespace kvasir::cli {
namespace {

int dispatch(const Options& options, Environment& environment) {
  switch (options.command) {
    case Command::kRun:
      return run_command(options, environment);
    case Command::kScore:
      return score_command(options, environment);
    case Command::kPlan:
      return plan_command(options, environment);
    case Command::kInfo:
      return info_command(options, environment);
    case Command::kTokenize:
      return tokenize_command(options, environment);
    case Command::kMethods:
      return methods_command(options, environment);
    case Command::kBench:
      return bench_command(options, environment);
    case Command::kTrain:
      return train_command(options, environment);
    case Command::kSearch:
      return search_command(options, environment);
    case Command::kCompletion:
      break;  // its text is all there is
  }
  throw Error(ErrorCode::kInternal, "a command without a function");
}

int report(const Error& error, bool json, Environment& environment) {
  if (error.code() == ErrorCode::kCancelled && environment.interrupts->pending()) {
    environment.say("kvasir: interrupted\n");
    return environment.interrupts->exit_status();
  }
  environment.complain(error.what());
  if (json && error.code() != ErrorCode::kIo) {
    try {
      environment.out->write(json_line({{"error", error_json(error)}}));
    } catch (const Error&) {
      // Said on stderr already.
    }
  }
  return exit_code(error.code());
}

}  // namespace

int run_program(const std::vector<std::string>& arguments, Environment& environment) {
  // Known before parsing, so that wrong use is an object as well.
  bool json = std::find(arguments.begin(), arguments.end(), "--json") != arguments.end();
  try {
    if (arguments.empty()) {
      const std::vector<std::string> help{"--help"};
      environment.say(*parse_arguments(help, environment.width).text);
      return kExitUsage;
    }
    const Parsed parsed = parse_arguments(arguments, environment.width);
    if (parsed.text) {
      environment.out->write(*parsed.text);
      return kExitOk;
    }
    json = parsed.options.json;
    return dispatch(parsed.options, environment);
  } catch (const Error& error) {
    return report(error, json, environment);
  } catch (const std::bad_alloc&) {
    return report(Error(ErrorCode::kResourceExhausted, "out of memory"), json, environment);
  } catch (const std::exception& error) {
    return report(Error(ErrorCode::kInternal, error.what(), "unexpected"), json, environment);
  }
}

std::unique_ptr<Engine> load_engine(const EngineOptions& options, Environment& environment) {
  Progress progress(environment.progress_options(), "loading", Progress::Unit::kBytes);
  EngineOptions with_progress = options;
  with_progress.on_load_progress = [&progress](int64_t done, int64_t total) {
    progress.update(done, total);
  };
  std::unique_ptr<Engine> engine = Engine::load(with_progress);
  if (!engine->info().device_note.empty()) environment.note(engine->info().device_note);
  return engine;
}

std::string read_text(const std::string& path, Environment& environment) {
  std::string text = environment.read_document(path).value();
  const std::string name = path == "-" ? "standard input" : path;
  if (const auto place = invalid_utf8_at(text))
    throw Error(ErrorCode::kMalformed,
                fmt::format("expected UTF-8 text, found an invalid byte 0x{:02x} at offset {}; "
                            "convert it first (iconv)",
                            static_cast<unsigned char>(text[*place]), *place),
                name);
  if (text.find_first_not_of(" \t\r\n") == std::string::npos)
    throw Error(ErrorCode::kMalformed, "expected text, found an empty document", name);
  return text;
}

}  // namespace kvasir::cli
