#include "eval/runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "eval/conversation.h"
#include "eval/run_folder.h"
#include "eval/sessions.h"
#include "prefill/planner.h"

namespace kvasir::eval {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kRoom = 512;            // of a session, for markers and answers
constexpr int64_t kCpuConversations = 8;  // at once: more gain nothing there
constexpr int64_t kPage = 64;
constexpr int64_t kWaitMs = 5;

Json choice_json(const MatrixRow& row) {
  const MethodRow name = row.name();
  return {{"prefill", name.prefill},
          {"compress", name.compress},
          {"retrieve", name.retrieve},
          {"loading", name.loading}};
}

// What outcomes depend on, and, apart, what they were measured with.
std::string configuration(const RunSetup& setup, const ModelInfo& info) {
  const RunOptions& options = setup.options;
  Json json{{"suite", options.suite},
            {"model", options.engine.model.string()},
            {"tasks", options.tasks},
            {"lengths", options.lengths},
            {"modes", Json::array()},
            {"sessions", options.sessions},
            {"turns", options.turns},
            {"depths", options.depths},
            {"rows", Json::array()},
            {"answers", options.answers == Answers::kGolden ? "golden" : "generated"},
            {"seed", options.seed},
            {"question_inside", options.question_inside},
            {"data_folder", options.data_folder.string()},
            {"documents", options.documents.string()},
            {"prompt_templates", options.prompt_templates.string()},
            {"dtype", info.dtype}};
  for (const Mode mode : options.modes) json["modes"].push_back(mode_name(mode));
  for (const MatrixRow& row : setup.matrix.rows) json["rows"].push_back(choice_json(row));
  json["machine"] = {
      {"device", info.device},         {"device_name", info.device_name},
      {"threads", info.threads},       {"isa", info.isa},
      {"parameters", info.parameters}, {"kv_bytes_per_token", info.kv_bytes_per_token}};
  return json.dump(1);
}

// Which conversation an outcome is of.
using ConversationKey = std::tuple<std::string, int64_t, double, int64_t, Mode, std::string,
                                   std::string, std::string, std::string>;

ConversationKey key_of(const Outcome& outcome) {
  return {outcome.task,    outcome.length,   outcome.depth,    outcome.session, outcome.mode,
          outcome.prefill, outcome.compress, outcome.retrieve, outcome.loading};
}

ConversationKey key_of(const Session& session, Mode mode, const MatrixRow& row) {
  const MethodRow name = row.name();
  return {std::string(session.task->name),
          session.length,
          session.depth,
          session.index,
          mode,
          name.prefill,
          name.compress,
          name.retrieve,
          name.loading};
}

class Runner {
 public:
  Runner(const RunSetup& setup, Engine& engine, RunFolder& folder, const RunHooks& hooks)
      : setup_(setup),
        engine_(engine),
        folder_(folder),
        hooks_(hooks),
        source_(setup.options, engine, hooks.note),
        setting_{
            .suite = setup.options.suite,
            .answers = setup.options.answers,
            .speaks_ids = setup.options.suite == "tiny" && speaks_tiny_ids(engine.info()),
        },
        progress_(hooks.progress, "asking", Progress::Unit::kRequests) {
    const MemoryPlan& plan = engine.info().plan;
    // The other half keeps the KV of conversations that are between two questions.
    token_budget_ = plan.kv / std::max<int64_t>(1, engine.info().kv_bytes_per_token) / 2;
    for (const Outcome& outcome : folder.outcomes()) recorded_[key_of(outcome)].push_back(outcome);
  }

  // Whether all conversations have come to their end.
  bool run() {
    while (fill()) {
      if (hooks_.cancelled && hooks_.cancelled()) {
        flights_.clear();
        return false;
      }
      poll();
    }
    return !was_stopped_;
  }

 private:
  struct Flight {
    std::unique_ptr<Conversation> conversation;
    int64_t tokens = 0;  // of KV, at most
    std::optional<Answer> answer = {};
    Reply reply = {};
  };

  // Starts what there is room for; false where nothing runs any more.
  bool fill() {
    while (!was_stopped_) {
      if (!next_ && !(next_ = next_conversation())) break;
      const int64_t tokens = (next_->most_tokens() / kPage + 2) * kPage;
      const bool fits = std::ssize(flights_) < setup_.engine.max_sequences &&
                        tokens_in_flight_ + tokens <= token_budget_;
      if (!fits && !flights_.empty()) break;
      auto flight =
          std::make_unique<Flight>(Flight{.conversation = std::move(next_), .tokens = tokens});
      if (!advance(*flight)) continue;
      tokens_in_flight_ += tokens;
      flights_.push_back(std::move(flight));
    }
    return !flights_.empty();
  }

  // Session by session, so that all rows have answered the same questions at any time.
  std::unique_ptr<Conversation> next_conversation() {
    const auto& rows = setup_.matrix.rows;
    const auto& modes = setup_.options.modes;
    if (!session_ || place_ == rows.size() * modes.size()) {
      session_ = source_.next();
      place_ = 0;
      if (!session_) return nullptr;
      turns_of_last_ = std::ssize(session_->sample.turns);
      questions_begun_ += turns_of_last_ * static_cast<int64_t>(rows.size() * modes.size());
    }
    const Mode mode = modes[place_ / rows.size()];
    const MatrixRow& row = rows[place_ % rows.size()];
    ++place_;
    const auto recorded = recorded_.find(key_of(*session_, mode, row));
    return std::make_unique<Conversation>(
        session_, row, mode,
        recorded == recorded_.end() ? std::vector<Outcome>{} : recorded->second, setting_,
        group_ += Conversation::kGroups);
  }

  // Submits the conversation's next request; false where it has come to its end.
  bool advance(Flight& flight) {
    while (std::optional<Request> request = flight.conversation->next_request()) {
      try {
        flight.reply = {};
        flight.answer.emplace(engine_.submit(std::move(*request)));
        return true;
      } catch (const Error& error) {
        flight.reply.error = error;
        finish_request(flight);
      }
    }
    return false;
  }

  void finish_request(Flight& flight) {
    flight.answer.reset();
    // The engine was stopped: nothing is known about the question.
    if (flight.reply.error && flight.reply.error->code() == ErrorCode::kCancelled) {
      was_stopped_ = true;
      return;
    }
    if (std::optional<Outcome> outcome = flight.conversation->take(std::move(flight.reply))) {
      folder_.append(std::move(*outcome));
      show_progress();
    }
  }

  // As if the sessions to come were all like the one at hand.
  void show_progress() {
    const auto conversations =
        static_cast<int64_t>(setup_.matrix.rows.size() * setup_.options.modes.size());
    progress_.update(std::ssize(folder_.outcomes()),
                     questions_begun_ + source_.remaining() * conversations * turns_of_last_);
  }

  void poll() {
    bool has_moved = false;
    for (auto& flight : flights_) has_moved = take(flight, 0) || has_moved;
    // The first is waited for a moment; nobody waits long for another.
    if (!has_moved) take(flights_.front(), kWaitMs);
    std::erase(flights_, nullptr);
  }

  // Takes what has come of a request, and goes on with the next where it has ended. Null: the
  // conversation has.
  bool take(std::unique_ptr<Flight>& flight, int64_t wait_ms) {
    std::optional<Event> event;
    bool has_moved = false;
    while (flight->answer->next(event, has_moved ? 0 : wait_ms) && event) {
      has_moved = true;
      if (event->kind == Event::Kind::kProgress) continue;
      Reply& reply = flight->reply;
      reply.text += event->text;
      if (event->kind == Event::Kind::kToken) {
        reply.tokens.push_back(event->token);
        continue;
      }
      reply.usage = event->usage;
      reply.timing = event->timing;
      reply.attention = event->attention;
      reply.error = event->error;
      finish_request(*flight);
      if (was_stopped_ || !advance(*flight)) {
        tokens_in_flight_ -= flight->tokens;
        flight.reset();
      }
      break;
    }
    return has_moved;
  }

  const RunSetup& setup_;
  Engine& engine_;
  RunFolder& folder_;
  const RunHooks& hooks_;
  SessionSource source_;
  const ConversationSetting setting_;
  Progress progress_;
  std::map<ConversationKey, std::vector<Outcome>> recorded_;
  int64_t token_budget_ = 0, tokens_in_flight_ = 0;
  std::shared_ptr<const Session> session_;
  size_t place_ = 0;  // of the session's modes and rows
  int64_t turns_of_last_ = 0, questions_begun_ = 0;
  uint64_t group_ = 0;
  std::unique_ptr<Conversation> next_;
  std::vector<std::unique_ptr<Flight>> flights_;
  bool was_stopped_ = false;
};

std::vector<int64_t> full_lengths(const RunOptions& options) {
  std::vector<int64_t> lengths = options.lengths;
  std::ranges::replace(lengths, int64_t{0}, kMostOfFile);
  return lengths;
}

// Rows whose plans cannot be made for the model.
void refuse_unplanned(Matrix& matrix, const std::vector<int64_t>& lengths, const ModelInfo& info) {
  const prefill::ModelShape shape{.layers = static_cast<int>(info.layers),
                                  .q_heads = static_cast<int>(info.q_heads),
                                  .folder = info.path};
  for (size_t row = 0; row < matrix.rows.size();) {
    const auto planner = prefill::make_planner(matrix.rows[row].at(lengths.front()).prefill, shape);
    if (planner)
      ++row;
    else
      matrix.refuse(row, planner.error());
  }
}

// The scorer knows the first stage alone.
void refuse_unscored(Matrix& matrix) {
  for (size_t row = 0; row < matrix.rows.size();) {
    const MethodRow name = matrix.rows[row].name();
    if (name.compress == "plain" && name.retrieve == "dense" && name.loading == "resident")
      ++row;
    else
      matrix.refuse(row,
                    Error(ErrorCode::kUnsupported, "perplexity is of --prefill methods alone"));
  }
}

// Rows that the loaded model refuses, by asking for one token each.
void probe(RunSetup& setup, Engine& engine) {
  for (size_t row = 0; row < setup.matrix.rows.size();) {
    try {
      engine.submit({.prompt = {0},
                     .max_tokens = 1,
                     .stages = setup.matrix.rows[row].at(full_lengths(setup.options).front())});
      ++row;
    } catch (const Error& error) {
      if (row == 0) throw;  // nothing could be compared
      setup.matrix.refuse(row, error);
    }
  }
}

// KV for several conversations at once, where the machine has room; on a GPU all that fits.
EngineOptions engine_options(const RunSetup& setup, const ModelInfo& info, int64_t longest) {
  EngineOptions engine = setup.options.engine;
  for (const MatrixRow& row : setup.matrix.rows)
    if (row.stages.prefill.name != "dense") engine.prefill = row.at(longest).prefill;
  if (engine.context > 0 || info.device != "cpu") return engine;
  engine.max_sequences = std::min(engine.max_sequences, kCpuConversations);
  const MemoryPlan& plan = info.plan;
  const int64_t room = (plan.available - plan.total() + plan.kv) / 10 * 8;
  engine.context = std::max(
      longest, std::min(2 * engine.max_sequences * longest, room / info.kv_bytes_per_token));
  return engine;
}

}  // namespace

void note_refused(const RunSetup& setup, const RunHooks& hooks) {
  for (const RefusedRow& refused : setup.matrix.refused)
    hooks.note(fmt::format("left out {}: {}", row_name(refused.row.name()), refused.why));
  const RunOptions& options = setup.options;
  const bool is_asked =
      !(options.prefill.empty() && options.compress.empty() && options.retrieve.empty());
  if (is_asked && setup.matrix.rows.size() == 1 && !setup.matrix.refused.empty())
    throw Error(ErrorCode::kUnsupported, "none of the methods that were asked for runs",
                "kvasir bench");
}

RunSetup prepare(RunOptions options, const RunHooks& hooks) {
  EngineOptions least = options.engine;
  if (least.context == 0) least.context = 1;
  const ModelInfo info = inspect(least);
  RunSetup setup{.options = resolved(std::move(options), info.max_positions, hooks.note),
                 .engine = {},
                 .matrix = {}};
  const std::vector<int64_t> lengths = full_lengths(setup.options);
  const int64_t longest = std::min(info.max_positions, std::ranges::max(lengths) + kRoom);
  setup.matrix =
      make_matrix(setup.options, lengths, info.device != "cpu", setup.options.suite == "tiny");
  refuse_unplanned(setup.matrix, lengths, info);
  if (setup.options.suite == kPerplexity) refuse_unscored(setup.matrix);
  setup.engine = engine_options(setup, info, longest);
  return setup;
}

RunResult run(RunSetup& setup, Engine& engine, const RunHooks& hooks) {
  probe(setup, engine);
  note_refused(setup, hooks);
  RunFolder folder = RunFolder::open(setup.options.out, setup.options.suite,
                                     configuration(setup, engine.info()), setup.options.resume)
                         .value();
  if (!folder.notice().empty()) hooks.note(folder.notice());
  hooks.note("outcomes go to " + folder.path().string());
  RunResult result{.folder = folder.path(), .outcomes = {}};
  result.is_finished = Runner(setup, engine, folder, hooks).run();
  result.outcomes = folder.outcomes();
  return result;
}

}  // namespace kvasir::eval
