// The question sets that RULER's qa tasks are made of.

#include <map>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "formats/json_text.h"
#include "tasks/ruler.h"

namespace kvasir::tasks {
namespace {

using nlohmann::json;

QaSet squad(const json& root) {
  QaSet set;
  for (const json& article : root.at("data"))
    for (const json& paragraph : article.at("paragraphs")) {
      set.documents.push_back(paragraph.at("context").get<std::string>());
      for (const json& each : paragraph.at("qas")) {
        if (each.value("is_impossible", false)) continue;
        QaSet::Question question{.text = each.at("question").get<std::string>(),
                                 .gold = {set.documents.size() - 1}};
        for (const json& answer : each.at("answers"))
          question.answers.push_back(answer.at("text").get<std::string>());
        if (!question.answers.empty()) set.questions.push_back(std::move(question));
      }
    }
  return set;
}

QaSet hotpot(const json& root) {
  QaSet set;
  std::map<std::string, size_t> known;
  for (const json& each : root) {
    QaSet::Question question{.text = each.at("question").get<std::string>(),
                             .answers = {each.at("answer").get<std::string>()}};
    std::map<std::string, size_t> of_title;
    for (const json& document : each.at("context")) {
      const auto title = document.at(0).get<std::string>();
      std::string text = title + "\n";
      for (const json& sentence : document.at(1)) text += sentence.get<std::string>();
      const auto [place, is_new] = known.emplace(text, set.documents.size());
      if (is_new) set.documents.push_back(text);
      of_title[title] = place->second;
    }
    std::map<size_t, bool> gold;
    for (const json& fact : each.at("supporting_facts"))
      if (const auto found = of_title.find(fact.at(0).get<std::string>()); found != of_title.end())
        gold[found->second] = true;
    for (const auto& [document, is_gold] : gold) question.gold.push_back(document);
    set.questions.push_back(std::move(question));
  }
  return set;
}

Result<QaSet> parse(std::string_view text, std::string_view origin, const char* expected,
                    QaSet (*read)(const json&)) {
  auto set = formats::read_json<QaSet>(
      text, origin, expected, [&](const json& root, const std::string&) { return read(root); });
  if (set && set.value().questions.empty())
    return Error(ErrorCode::kMalformed, "expected questions with answers, found none",
                 std::string(origin));
  return set;
}

}  // namespace

Result<QaSet> parse_squad(std::string_view json, std::string_view origin) {
  return parse(json, origin, "questions in the form of SQuAD v2", squad);
}

Result<QaSet> parse_hotpot(std::string_view json, std::string_view origin) {
  return parse(json, origin, "questions in the form of HotpotQA", hotpot);
}

Result<QaSet> load_squad(const std::filesystem::path& file) {
  const auto text = read_file(file);
  if (!text) return text.error();
  return parse_squad(text.value(), file.string());
}

Result<QaSet> load_hotpot(const std::filesystem::path& file) {
  const auto text = read_file(file);
  if (!text) return text.error();
  return parse_hotpot(text.value(), file.string());
}

}  // namespace kvasir::tasks
