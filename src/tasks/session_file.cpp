#include "tasks/session_file.h"

#include <map>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "formats/json_text.h"
#include "tasks/python_list.h"

namespace kvasir::tasks {
namespace {

using nlohmann::json;

// The fields of one line, with errors that name them.
class Fields {
 public:
  Fields(const json& object, std::string origin, std::string path = {})
      : object_(object), origin_(std::move(origin)), path_(std::move(path)) {
    if (!object.is_object()) fail({}, "an object", object);
  }

  const json* find(const char* name) const {
    const auto found = object_.find(name);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  const json& need(const char* name, const char* expected) const {
    const json* value = find(name);
    if (value == nullptr) fail(name, expected, {});
    return *value;
  }
  std::string text(const char* name, bool is_needed) const {
    const json* value = is_needed ? &need(name, "a string") : find(name);
    if (value == nullptr) return {};
    if (!value->is_string()) fail(name, "a string", *value);
    return value->get<std::string>();
  }
  std::vector<std::string> texts(const char* name, const json& list) const {
    std::vector<std::string> all;
    for (const json& each : list) {
      if (!each.is_string()) fail(name, "a list of strings", list);
      all.push_back(each.get<std::string>());
    }
    return all;
  }
  std::string path(const char* name) const { return path_ + name; }

  [[noreturn]] void fail(const char* name, const char* expected, const json& found) const {
    const std::string field = name == nullptr ? "the line" : "field " + path_ + name;
    throw Error(ErrorCode::kMalformed,
                field + ": expected " + expected + ", found " +
                    (found.is_null() ? std::string("none") : std::string(found.type_name())),
                origin_);
  }

 private:
  const json& object_;
  std::string origin_, path_;
};

std::string whole_number(const json& value) {
  return value.is_number_unsigned() ? std::to_string(value.get<uint64_t>())
                                    : std::to_string(value.get<int64_t>());
}

void read_answer(const Fields& fields, Turn& turn) {
  constexpr const char* kExpected = "a string, a whole number or a list of strings";
  const json& answer = fields.need("answer", kExpected);
  if (answer.is_string()) {
    turn.answers = {answer.get<std::string>()};
  } else if (answer.is_number_integer()) {
    turn.answers = {whole_number(answer)};
    turn.is_integer = true;
  } else if (answer.is_array() && !answer.empty()) {
    turn.answers = fields.texts("answer", answer);
    turn.golden_text = python_list(turn.answers);
  } else {
    fields.fail("answer", kExpected, answer);
  }
}

std::string read_context(const Fields& fields) {
  constexpr const char* kExpected = "a string or a list of whole numbers";
  const json& context = fields.need("context", kExpected);
  if (context.is_string()) return context.get<std::string>();
  if (!context.is_array()) fields.fail("context", kExpected, context);
  std::string text = "[";  // as Python writes a list of numbers
  for (const json& number : context) {
    if (!number.is_number_integer()) fields.fail("context", kExpected, number);
    (text += text.size() > 1 ? ", " : "") += whole_number(number);
  }
  return text + "]";
}

Sample read_session(const json& object, const std::string& origin, std::string_view task,
                    size_t row) {
  const Fields fields(object, origin);
  Sample sample;
  sample.task = task;
  sample.id = std::to_string(row);
  if (const json* id = fields.find("id")) {
    if (!id->is_number_integer() && !id->is_string())
      fields.fail("id", "a whole number or a string", *id);
    sample.id = id->is_string() ? id->get<std::string>() : whole_number(*id);
  }
  sample.context = read_context(fields);
  sample.language = fields.text("lang", false);
  sample.repository = fields.text("repo", false);
  const json& turns = fields.need("multi_turns", "a list of turns");
  if (!turns.is_array() || turns.empty()) fields.fail("multi_turns", "a list of turns", turns);
  for (size_t i = 0; i < turns.size(); ++i) {
    const Fields of(turns[i], origin, "multi_turns[" + std::to_string(i) + "].");
    Turn turn;
    turn.question = of.text("input", true);
    read_answer(of, turn);
    turn.task = of.text("task", false);
    turn.name = of.text("name", false);
    if (const json* options = of.find("options")) {
      if (!options->is_array()) of.fail("options", "a list of strings", *options);
      turn.options = of.texts("options", *options);
    }
    sample.turns.push_back(std::move(turn));
  }
  return sample;
}

// Answers of code retrieval are compared with all functions that any session asks of the
// repository.
void add_functions(std::vector<Sample>& samples) {
  const auto asks = [](const Sample& sample, const Turn& turn) {
    return turn.task.empty() ? sample.task == "scbench_repoqa" : turn.task == "scbench_repoqa";
  };
  std::map<std::string, std::vector<Function>> of_repository;
  for (const Sample& sample : samples)
    for (const Turn& turn : sample.turns)
      if (asks(sample, turn))
        of_repository[sample.repository].push_back({turn.answers.front(), turn.name});
  for (Sample& sample : samples)
    if (const auto found = of_repository.find(sample.repository); found != of_repository.end())
      sample.functions = found->second;
}

}  // namespace

Result<std::vector<Sample>> parse_sessions(std::string_view jsonl, std::string_view origin,
                                           std::string_view task) {
  std::vector<Sample> samples;
  size_t number = 0;
  while (!jsonl.empty()) {
    const size_t end = std::min(jsonl.find('\n'), jsonl.size());
    const std::string_view line = jsonl.substr(0, end);
    jsonl.remove_prefix(std::min(end + 1, jsonl.size()));
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    auto sample = formats::read_json<Sample>(
        line, std::string(origin) + ":" + std::to_string(number), "a JSON object on each line",
        [&](const json& object, const std::string& where) {
          return read_session(object, where, task, samples.size());
        });
    if (!sample) return sample.error();
    samples.push_back(std::move(sample).value());
  }
  if (samples.empty())
    return Error(ErrorCode::kMalformed, "expected one session a line, found none",
                 std::string(origin));
  add_functions(samples);
  return samples;
}

Result<std::vector<Sample>> load_sessions(const std::filesystem::path& folder,
                                          std::string_view task) {
  const std::string name = std::string(task) + ".jsonl";
  const std::filesystem::path places[] = {folder / "data" / name, folder / name};
  for (const auto& place : places) {
    if (!std::filesystem::exists(place)) continue;
    const auto text = read_file(place);
    if (!text) return text.error();
    return parse_sessions(text.value(), place.string(), task);
  }
  if (const auto parquet = folder / task; std::filesystem::is_directory(parquet))
    return Error(ErrorCode::kUnsupported,
                 "parquet files are not read; get " + name + " of the same data set in its place",
                 parquet.string());
  return Error(ErrorCode::kNotFound,
               "the file of task " + std::string(task) + " is missing; it is looked for as " +
                   places[0].string() + " and " + places[1].string(),
               folder.string());
}

std::string session_line(const Sample& sample) {
  json turns = json::array();
  for (const Turn& turn : sample.turns) {
    json object{{"input", turn.question}};
    if (turn.is_integer)
      object["answer"] = json::parse(turn.answers.front());
    else if (turn.golden_text.empty())
      object["answer"] = turn.answers.front();
    else
      object["answer"] = turn.answers;
    if (!turn.task.empty()) object["task"] = turn.task;
    if (!turn.name.empty()) object["name"] = turn.name;
    if (!turn.options.empty()) object["options"] = turn.options;
    turns.push_back(std::move(object));
  }
  json line{{"id", sample.id}, {"context", sample.context}, {"multi_turns", std::move(turns)}};
  if (!sample.language.empty()) line["lang"] = sample.language;
  if (!sample.repository.empty()) line["repo"] = sample.repository;
  return line.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace kvasir::tasks
