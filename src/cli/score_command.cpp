#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "base/file.h"
#include "base/utf8.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/ids.h"
#include "cli/json_lines.h"
#include "formats/safetensors.h"
#include "report/table.h"

namespace kvasir::cli {
namespace {

constexpr double kTwoSided95 = 1.959964;  // of the normal distribution

// Streams rows into a safetensors file with the one tensor `logits`. The shape is known before the
// first row, so the header is; the file appears when it is whole.
class LogitsFile {
 public:
  LogitsFile(const std::string& path, int64_t rows, int64_t columns)
      : file_(AtomicFile::create(path).value()), path_(path), rows_(rows), columns_(columns) {
    const formats::TensorToWrite logits{
        .name = "logits", .dtype = DType::kF32, .shape = {rows, columns}};
    file_.write(formats::safetensors_header({&logits, 1})).value();
  }

  // Called by the engine, which nothing may be thrown through: the first failure is kept.
  void add(std::span<const float> row) {
    if (error_) return;
    if (static_cast<int64_t>(row.size()) != columns_) {
      error_ =
          Error(ErrorCode::kInternal,
                fmt::format("expected rows of {} logits, found {}", columns_, row.size()), path_);
      return;
    }
    if (const auto written = file_.write(std::as_bytes(row)); !written) error_ = written.error();
    ++written_;
  }
  bool failed() const { return error_.has_value(); }

  void commit() {
    if (error_) throw *error_;
    if (written_ != rows_)
      throw Error(ErrorCode::kInternal,
                  fmt::format("expected {} rows of logits, found {}", rows_, written_), path_);
    file_.commit().value();
  }
  void rethrow() const {
    if (error_) throw *error_;
  }

 private:
  AtomicFile file_;
  std::string path_;
  int64_t rows_, columns_, written_ = 0;
  std::optional<Error> error_;
};

struct Figures {
  int64_t tokens, characters;
  double nll, error, per_character, kl, kl_error;
};

Figures figures_of(const Score& score) {
  const auto tokens = static_cast<double>(score.tokens);
  return {.tokens = score.tokens,
          .characters = score.characters,
          .nll = score.nll_sum / tokens,
          .error = kTwoSided95 * score.standard_error,
          .per_character =
              score.characters > 0 ? score.nll_sum / static_cast<double>(score.characters) : 0,
          .kl = score.kl_sum.value_or(0) / tokens,
          .kl_error = kTwoSided95 * score.kl_standard_error};
}

Json score_json(const Score& score, int64_t window, const Options& options) {
  const Figures f = figures_of(score);
  Json object = {{"tokens", f.tokens},
                 {"context", window},
                 {"nll", score.nll_sum},
                 {"nats_per_token", f.nll},
                 {"nats_per_token_error", f.error},
                 {"perplexity", std::exp(f.nll)}};
  if (f.characters > 0) {
    object["characters"] = f.characters;
    object["nats_per_character"] = f.per_character;
    object["bits_per_character"] = f.per_character / std::numbers::ln2;
  }
  if (score.kl_sum) {
    object["against"] = options.score.against_text;
    object["kl_per_token"] = f.kl;
    object["kl_per_token_error"] = f.kl_error;
  }
  return object;
}

std::string score_text(const Score& score, int64_t window, const Options& options) {
  const Figures f = figures_of(score);
  std::vector<std::pair<std::string, std::string>> pairs{
      {"tokens scored", with_thousands(f.tokens)},
      {"window", fmt::format("{} tokens", with_thousands(window))},
      {"per token", fmt::format("{:.4f} ± {:.4f} nats", f.nll, f.error)},
      {"perplexity", fmt::format("{:.3f}", std::exp(f.nll))}};
  if (f.characters > 0)
    pairs.emplace_back(
        "per character",
        fmt::format("{:.4f} nats = {:.4f} bits ({} characters)", f.per_character,
                    f.per_character / std::numbers::ln2, with_thousands(f.characters)));
  if (score.kl_sum) {
    pairs.emplace_back("against", options.score.against_text);
    pairs.emplace_back("KL divergence",
                       fmt::format("{:.3g} ± {:.2g} nats per token", f.kl, f.kl_error));
  }
  return report::terminal_pairs(pairs);
}

}  // namespace

int score_command(const Options& options, Environment& environment) {
  const ScoreCommandOptions& flags = options.score;
  check_methods(flags.stages);
  if (flags.against) check_methods(*flags.against);
  const std::string& path = flags.ids ? *flags.ids : flags.file;
  const std::string where = path == "-" ? "standard input" : path;
  std::vector<TokenId> tokens;
  std::string text;
  if (flags.ids)
    tokens = parse_ids(environment.read_document(path).value(), where);
  else
    text = read_text(path, environment);

  const std::unique_ptr<Engine> engine = load_engine(options.engine, environment);
  const ModelInfo& info = engine->info();
  if (!flags.ids) tokens = engine->tokenize(text);
  check_ids(tokens, info.vocab_size, where);
  if (tokens.size() < 2)
    throw Error(ErrorCode::kMalformed,
                fmt::format("expected at least 2 tokens to score, found {}", tokens.size()), where);
  const int64_t window = options.engine.context > 0 ? options.engine.context : info.plan.context;

  // From here on an interrupt must leave no half-written file, however often it comes.
  environment.interrupts->set_mode(Interrupts::Mode::kCount);
  std::optional<LogitsFile> logits;
  if (flags.dump_logits)
    logits.emplace(*flags.dump_logits, static_cast<int64_t>(tokens.size()), info.vocab_size);
  Progress progress(environment.progress_options(), "scoring");
  Engine::ScoreOptions score_options{.context = window, .stages = flags.stages};
  score_options.against = flags.against;
  if (logits) score_options.on_logits = [&logits](std::span<const float> row) { logits->add(row); };
  score_options.on_progress = [&progress](int64_t done, int64_t total) {
    progress.update(done, total);
  };
  score_options.cancelled = [&] {
    return environment.interrupts->pending() || (logits && logits->failed());
  };
  Score score;
  try {
    score = engine->score(tokens, score_options);
  } catch (const Error& error) {
    // The cause, not the cancellation that it led to.
    if (logits && error.code() == ErrorCode::kCancelled) logits->rethrow();
    throw;
  }
  progress.clear();
  if (environment.interrupts->pending())
    throw Error(ErrorCode::kCancelled, "interrupted", "kvasir score");
  if (logits) logits->commit();
  if (!flags.ids) score.characters = count_code_points(text);
  environment.out->write(options.json ? json_line(score_json(score, window, options))
                                      : score_text(score, window, options));
  return kExitOk;
}

}  // namespace kvasir::cli
