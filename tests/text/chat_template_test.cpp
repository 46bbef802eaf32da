// Templates written for these tests, of every construct that published ones use, against what
// transformers renders (data/expected.json, written by template_oracle.py); folders of models;
// places in errors; limits.

#include "text/chat_template.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/file.h"

namespace kvasir::text {
namespace {

using nlohmann::ordered_json;

const std::filesystem::path kData = KVASIR_SOURCE_DIR "/tests/text/data";

ordered_json read_json(const std::filesystem::path& path) {
  return ordered_json::parse(read_file(path).value());
}

ChatTemplate parse(std::string_view source) {
  ChatTemplate result = ChatTemplate::parse(source, "test").value();
  result.set_variable("bos_token", "<s>");
  result.set_variable("eos_token", "</s>");
  result.set_clock([] {  // as in template_oracle.py
    std::tm now{};
    now.tm_year = 131;
    now.tm_mon = 1;
    now.tm_mday = 3;
    now.tm_hour = 4;
    now.tm_min = 5;
    now.tm_sec = 6;
    now.tm_wday = 1;
    return now;
  });
  return result;
}

std::string render(std::string_view source) {
  const ChatMessage message{"user", "hi"};
  return parse(source).render({&message, 1}, false).value();
}

// The whole error of a template that cannot be read or rendered.
std::string error_of(std::string_view source) {
  const auto parsed = ChatTemplate::parse(source, "test");
  if (!parsed) return parsed.error().what();
  const ChatMessage message{"user", "hi"};
  const auto text = parsed.value().render({&message, 1}, false);
  return text ? "" : text.error().what();
}

TEST(ChatTemplate, EqualsTransformers) {
  const ordered_json expected = read_json(kData / "expected.json");
  int rendered = 0;
  ASSERT_GE(expected.size(), 15u);
  for (const auto& [name, cases] : expected.items()) {
    const ChatTemplate chat = parse(read_file(kData / "templates" / (name + ".jinja")).value());
    for (const auto& [conversation, wanted] : cases.items()) {
      SCOPED_TRACE(name + " with " + conversation);
      const auto text = chat.render(read_json(kData / "conversations" / (conversation + ".json")));
      if (wanted.contains("text")) {
        ASSERT_TRUE(text.ok()) << text.error().what();
        EXPECT_EQ(text.value(), wanted["text"].get<std::string>());
        ++rendered;
        continue;
      }
      ASSERT_FALSE(text.ok()) << text.value();
      if (!wanted.contains("refused")) continue;
      EXPECT_EQ(text.error().code(), ErrorCode::kInvalidArgument);
      EXPECT_EQ(text.error().message(), wanted["refused"].get<std::string>());
    }
  }
  EXPECT_GT(rendered, 200);
}

// What a script of this folder writes; skips the test where the oracle is not installed.
std::optional<ordered_json> run_oracle(const std::string& script) {
  const std::filesystem::path source = KVASIR_SOURCE_DIR;
  const auto python = source / ".venv-oracle/bin/python";
  if (!std::filesystem::exists(python)) return std::nullopt;
  const auto out = std::filesystem::temp_directory_path() /
                   ("kvasir-" + script + "-" + std::to_string(::getpid()) + ".json");
  const std::string command = python.string() + " " + (source / "tests/text" / script).string() +
                              " " + out.string() + " > /dev/null 2>&1";
  if (std::system(command.c_str()) != 0) return ordered_json("the script fails");
  ordered_json result = read_json(out);
  std::filesystem::remove(out);
  return result;
}

TEST(OracleChatTemplate, ExpectedTextsAreWhatTransformersRenders) {
  const auto rendered = run_oracle("template_oracle.py");
  if (!rendered) GTEST_SKIP() << "the oracle environment is not installed";
  EXPECT_TRUE(*rendered == read_json(kData / "expected.json"))
      << "write data/expected.json anew with template_oracle.py";
}

TEST(OracleChatTemplate, RandomTemplates) {
  const auto cases = run_oracle("template_random_oracle.py");
  if (!cases) GTEST_SKIP() << "the oracle environment is not installed";
  ASSERT_GT(cases->size(), 2000u);
  const ordered_json conversation = read_json(kData / "conversations/tools.json");
  int failures = 0, rendered = 0;
  for (const ordered_json& entry : *cases) {
    const auto source = entry[0].get<std::string>();
    Result<std::string> ours = ChatTemplate::parse(source, "test")
                                   ? parse(source).render(conversation)
                                   : Error(ErrorCode::kMalformed, "not parsed");
    rendered += ours.ok() ? 1 : 0;
    const bool equal =
        entry[1].is_null() ? !ours.ok() : ours.ok() && ours.value() == entry[1].get<std::string>();
    if (equal || ++failures > 5) continue;
    ADD_FAILURE() << source << "\nours: " << (ours ? ours.value() : ours.error().what())
                  << "\nexpected: " << entry[1];
  }
  EXPECT_EQ(failures, 0);
  EXPECT_GT(rendered, 500);
}

// ---- folders ----

class ModelFolder {
 public:
  ModelFolder()
      : path_(std::filesystem::temp_directory_path() /
              ("kvasir-chat-" + std::to_string(::getpid()))) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_ / "chat_templates");
  }
  ~ModelFolder() { std::filesystem::remove_all(path_); }
  void write(const std::string& name, std::string_view text) const {
    std::ofstream(path_ / name) << text;
  }
  std::string render(bool with_tools = false) const {
    auto chat = ChatTemplate::load(path_);
    if (!chat) return chat.error().what();
    ordered_json variables{{"messages", {{{"role", "user"}, {"content", "hi"}}}}};
    if (with_tools) variables["tools"] = ordered_json::array();
    return chat.value().render(variables).value();
  }
  Error error() const { return ChatTemplate::load(path_).error(); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

TEST(ChatTemplateFolder, WithoutATemplate) {
  const ModelFolder folder;
  EXPECT_EQ(folder.error().code(), ErrorCode::kNotFound);
  EXPECT_NE(folder.error().message().find("add a chat_template.jinja"), std::string::npos);
}

TEST(ChatTemplateFolder, SpecialTokensAsStringOrObject) {
  const ModelFolder folder;
  folder.write("tokenizer_config.json", R"({"bos_token": "<s>", "pad_token": null,
    "eos_token": {"__type": "AddedToken", "content": "</s>", "lstrip": false},
    "chat_template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ pad_token is defined }}"})");
  EXPECT_EQ(folder.render(), "<s>hi</s>False");
}

TEST(ChatTemplateFolder, NamedTemplates) {
  const ModelFolder folder;
  folder.write("tokenizer_config.json", R"({"chat_template": [
    {"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]})");
  EXPECT_EQ(folder.render(), "plain");
  EXPECT_EQ(folder.render(true), "tools");
  folder.write("tokenizer_config.json",
               R"({"chat_template": [{"name": "rag", "template": "only"}]})");
  EXPECT_EQ(folder.render(), "only");
  EXPECT_EQ(folder.render(true), "only");
}

TEST(ChatTemplateFolder, FilesComeFirst) {
  const ModelFolder folder;
  folder.write("tokenizer_config.json", R"({"chat_template": "config", "bos_token": "<s>"})");
  EXPECT_EQ(folder.render(), "config");
  folder.write("chat_template.json", R"({"chat_template": "json"})");
  EXPECT_EQ(folder.render(), "json");
  folder.write("chat_template.jinja", "{{ bos_token }}file");
  EXPECT_EQ(folder.render(true), "<s>file");
  folder.write("chat_templates/tool_use.jinja", "tools");
  EXPECT_EQ(folder.render(), "<s>file");
  EXPECT_EQ(folder.render(true), "tools");
}

TEST(ChatTemplateFolder, BrokenFilesAreErrors) {
  const ModelFolder folder;
  const auto error = [&](std::string_view config) {
    folder.write("tokenizer_config.json", config);
    return std::string(folder.error().message());
  };
  EXPECT_NE(error("{").find("expected JSON"), std::string::npos);
  EXPECT_EQ(error("[]"), "expected a JSON object, found array");
  EXPECT_EQ(error(R"({"chat_template": 3})"),
            "chat_template: expected a string or a list, found number");
  EXPECT_NE(error(R"({"chat_template": ["x"]})").find("found string among them"),
            std::string::npos);
  EXPECT_EQ(error(R"({"chat_template": [{"name": "a", "template": ""},
                                        {"name": "b", "template": ""}]})"),
            "chat_template: expected a template named \"default\" in the list, found none");
  EXPECT_NE(error(R"({"chat_template": "{% if %}"})").find("expected an expression"),
            std::string::npos);
  EXPECT_EQ(folder.error().context(), (folder.path() / "tokenizer_config.json").string() +
                                          " (chat_template), line 1, column 7");
}

TEST(ChatTemplateFolder, TheShippedModelHasOne) {
  auto chat = ChatTemplate::load(KVASIR_SOURCE_DIR "/models/bootstrap-16m").value();
  const std::vector<ChatMessage> messages{{"system", "Text."}, {"user", "Why?"}};
  EXPECT_EQ(chat.render(messages, true).value(), "<|begin|>Text.\n<|user|>Why?<|assistant|>");
}

// ---- conversations ----

TEST(ChatTemplate, ConversationsMustBeSound) {
  const ChatTemplate chat = parse("x");
  const auto error = [&](const char* json) {
    return std::string(chat.render(ordered_json::parse(json)).error().message());
  };
  EXPECT_EQ(error("{}"), "expected at least one message in the list `messages`, found none");
  EXPECT_EQ(error(R"({"messages": []})"),
            "expected at least one message in the list `messages`, found none");
  EXPECT_EQ(error(R"({"messages": ["hi"]})"),
            "expected each message to be an object, found string");
  EXPECT_EQ(error("[]"), "expected an object of variables, found array");
  EXPECT_EQ(error(R"({"messages": [{"role": "user", "n": 18446744073709551615}]})"),
            "the integer 18446744073709551615 does not fit 64 signed bits");
  std::string deep(300, '[');
  deep += std::string(300, ']');
  EXPECT_NE(error((R"({"messages": [{"x": )" + deep + "}]}").c_str()).find("nest deeper"),
            std::string::npos);
}

TEST(ChatTemplate, MessagesAreDataNotTemplates) {
  const ChatMessage message{"user", "{{ 1 + 1 }}{% endfor %}"};
  EXPECT_EQ(parse("{{ messages[0].content }}").render({&message, 1}, false).value(),
            message.content);
}

TEST(ChatTemplate, InvalidUtf8InMessagesPassesThrough) {
  const ChatMessage message{"user", "a\xFFz"};
  EXPECT_EQ(parse("{{ messages[0].content | trim }}|{{ messages[0].content | length }}")
                .render({&message, 1}, false)
                .value(),
            "a\xFFz|3");
}

// ---- errors say where ----

TEST(ChatTemplate, SyntaxErrorsSayWhere) {
  const std::pair<const char*, const char*> cases[] = {
      {"a\n{{ }}", "test, line 2, column 4: expected an expression, found '}}'"},
      {"{% if x %}",
       "test, line 1, column 11: expected {% endif %}, found the end of the template"},
      {"é{% fro x %}", "test, line 1, column 5: unknown tag 'fro'"},
      {"{% for x in y %}{% endif %}",
       "test, line 1, column 20: expected {% endfor %} before this, found the tag 'endif'"},
      {"{{ 'a }}",
       "test, line 1, column 4: expected ' at the end of this string, found the end of "
       "the template"},
      {"{{ (1 }}", "test, line 1, column 7: expected ')', found '}'"},
      {"{{ a.b. }}", "test, line 1, column 9: expected a name or number after '.', found '}}'"},
      {"{# x", "test, line 1, column 1: expected #} after {#, found the end of the template"},
      {"{% raw %}x",
       "test, line 1, column 1: expected {% endraw %}, found the end of the template"},
      {"{{ x y }}", "test, line 1, column 6: expected '}}', found 'y'"},
      {"{{ 99999999999999999999 }}",
       "test, line 1, column 4: this integer does not fit 64 signed bits"},
      {"{% set true = 1 %}", "test, line 1, column 8: cannot assign to 'true'"},
      {"{% break %}", "test, line 1, column 4: 'break' stands outside a loop"},
      {"{% include 'x' %}",
       "test, line 1, column 4: the tag 'include' is not offered in chat templates"},
      {"{% macro m(a=1, b) %}{% endmacro %}",
       "test, line 1, column 17: expected a default for 'b': the parameter before it has one"},
      {"{{ f(a=1, 2) }}",
       "test, line 1, column 11: expected positional arguments before named "
       "ones and *, found another order"},
      {"{{ $ }}", "test, line 1, column 4: unexpected character '$'"},
      {"\xFFx", "test, line 1, column 1: expected UTF-8 in the template, found the byte 0xff"},
  };
  for (const auto& [source, message] : cases) EXPECT_EQ(error_of(source), message) << source;
}

TEST(ChatTemplate, FailuresSayWhere) {
  const std::pair<const char*, const char*> cases[] = {
      {"\n  {{ x.y }}", "test, line 2, column 7: 'x' is undefined"},
      {"{{ 1 + 'a' }}", "test, line 1, column 6: unsupported operand types for +: 'int' and 'str'"},
      {"{{ 1 // 0 }}", "test, line 1, column 6: division by zero"},
      {"{{ 'a' | nope }}", "test, line 1, column 10: no filter named 'nope'"},
      {"{{ 1 is nope }}", "test, line 1, column 6: no test named 'nope'"},
      {"{{ raise_exception('stop') }}", "test, line 1, column 19: stop"},
      {"{{ none() }}", "test, line 1, column 8: 'NoneType' object cannot be called"},
      {"{% for a, b in [1] %}{% endfor %}", "test, line 1, column 8: 'int' object is not iterable"},
      {"{{ missing | tojson }}",
       "test, line 1, column 14: tojson: an object of type 'Undefined' "
       "is not JSON serializable: 'missing' is undefined"},
      {"{{ 9223372036854775807 + 1 }}",
       "test, line 1, column 24: the result of integer + does not fit 64 signed bits"},
      {"{% set messages.x = 1 %}",
       "test, line 1, column 8: cannot assign the attribute 'x': 'messages' is not a namespace"},
  };
  for (const auto& [source, message] : cases) EXPECT_EQ(error_of(source), message) << source;
}

TEST(ChatTemplate, SandboxHidesPythonsInsides) {
  EXPECT_EQ(render("{{ ''.__class__ }}{{ messages.append is defined }}"), "False");
  EXPECT_NE(error_of("{{ messages.append(1) }}").find("is unsafe"), std::string::npos);
  EXPECT_NE(error_of("{{ ''.__class__.__mro__ }}").find("is unsafe"), std::string::npos);
}

// ---- limits: hostile templates end soon, with an error ----

constexpr const char* kHostile[] = {

    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{{ range(100001) }}",
    "{{ range(0, -9223372036854775807, -1) | list }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% macro m(n) %}{{ m(n + 1) }}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
    "{{ 'x' * 9223372036854775807 }}",
    "{{ [1] * 999999999 }}",
    "{{ ('x' * 60000000) * 2 }}",
    "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}"
    "{% endfor %}",
    "{% set ns = namespace(s=[]) %}{% for i in range(999) %}{% set ns.s = [ns.s, ns.s] %}"
    "{% endfor %}",
    "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}"
    "{% endfor %}",
    "{% set ns = namespace(l=[0]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}"
    "{% endfor %}{{ ns.l }}",
    "{% set ns = namespace() %}{% set ns.self = ns %}{{ ns }}",
    "{% set ns = namespace(s='x' * 9999999) %}{% for i in range(99999) %}"
    "{% set ns.t = ns.s | replace('x', 'y') %}{% endfor %}",
    "{% for i in range(99999) %}{{ 'x' * 10000 }}{% endfor %}",
    "{{ '%999999999d' % 1 }}",
    "{{ 'x'.center(9223372036854775807) }}",
    "{{ 'x' | indent(9223372036854775807, true) }}",
    "{{ 'x' | format(1, 2) }}",
    "{{ [1] | batch(9223372036854775807, 0) | list }}",
    "{{ 2 ** 9223372036854775807 }}",
    "{{ strftime_now('%A' * 99999) }}",
    "{{ ('a' * 9999999).replace('', 'bbbbbbbbbb') }}",
    "{% set ns = namespace(f=none) %}{% macro m() %}{{ ns.f() }}{% endmacro %}"
    "{% set ns.f = m %}{{ m() }}",
    "{{ ([1, 2, 3] | map('string') | map('nope') | list) }}",
    "{% set ns = namespace(x=range(99999) | list) %}{% for i in range(99999) %}"
    "{% set ns.y = ns.x | sort %}{% endfor %}",
    "{% set ns = namespace(x=range(99999) | list) %}{% for i in range(99999) %}"
    "{{ -1 in ns.x }}{% endfor %}",
    "{% set ns = namespace(x={}) %}{% for i in range(99999) %}"
    "{% set ns.x = dict(ns.x, **{i | string: i}) %}{% endfor %}"};

TEST(ChatTemplate, HostileTemplatesEndWithAnError) {
  for (const char* source : kHostile) EXPECT_NE(error_of(source), "") << source;
}

// Each would take hours on this text if it were not charged for what it reads.
TEST(ChatTemplate, OperationsAreChargedForWhatTheyRead) {
  for (const char* operation : {"ns.x | length",
                                "ns.x[-1]",
                                "ns.x[9999]",
                                "ns.x[1:]",
                                "ns.x.find('c')",
                                "ns.x.rfind('c')",
                                "ns.x.count('a')",
                                "ns.x.isalpha()",
                                "ns.x is lower",
                                "ns.x | wordcount",
                                "ns.x is sameas ns.y",
                                "ns.x == ns.y",
                                "ns.x in {}",
                                "{}[ns.x]",
                                "{}.get(ns.x)",
                                "{ns.x: 1}",
                                "'' in ns.x",
                                "ns.x < ns.y",
                                "[ns.x, ns.y] | unique(true) | list",
                                "'' is in ns.x",
                                "ns.x.startswith(ns.y)",
                                "ns.x.rsplit('ba' * 400000)",
                                "ns.x.rfind('ba' * 400000)",
                                "ns.x.endswith(ns.y)",
                                "ns.x | int",
                                "ns.x | trim('c')",
                                "ns.x.strip('c')",
                                "dict([(ns.x, 1)])",
                                "ns.x.splitlines()",
                                "ns.x.removeprefix(ns.y)",
                                "{ns.x: 1} == ns.d",
                                "ns.x % ()",
                                "ns.x ~ 1",
                                "ns.x.partition('c')",
                                "ns.x | first",
                                "ns.x | replace('c', '')",
                                "ns.x.split('c')"}) {
    const std::string source =
        std::string(
            "{% set ns = namespace(x='ab' * 400000, y='ab' * 400000) %}"
            "{% set ns.d = {ns.y: 1} %}{% for i in range(99999) %}{% for j in range(9) %}") +
        "{% set z = " + operation + " %}{% endfor %}{% endfor %}";
    ChatTemplate chat = parse(source);
    chat.set_limits({.max_work_bytes = 16 << 20});
    const ChatMessage message{"user", "hi"};
    const auto text = chat.render({&message, 1}, false);
    ASSERT_FALSE(text.ok()) << operation;
    EXPECT_EQ(text.error().code(), ErrorCode::kResourceExhausted) << text.error().what();
  }
  EXPECT_NE(error_of("{% set x = 'a' * 50000000 %}{% for i in range(99999) %}{% for c in x %}"
                     "{% break %}{% endfor %}{% endfor %}"),
            "");
  EXPECT_NE(
      error_of("{% macro m() %}{{ kwargs | length }}{% endmacro %}{% set d = dict(range(99999) "
               "| map('string') | batch(2) | list) %}{% for i in range(999) %}{{ m(**d) }}"
               "{% endfor %}"),
      "");
}

TEST(ChatTemplate, LargeSourcesAreErrors) {
  EXPECT_NE(error_of(std::string(2 << 20, 'x')).find("at most 1048576 bytes"), std::string::npos);
  std::string arguments = "a0";
  for (int i = 1; i < 300; ++i) arguments += ", a" + std::to_string(i);
  EXPECT_NE(error_of("{{ f(" + arguments + ") }}").find("at most 250 arguments"),
            std::string::npos);
  EXPECT_NE(error_of("{% macro m(" + arguments + ") %}{% endmacro %}").find("at most 250"),
            std::string::npos);
}

TEST(ChatTemplate, DeepSyntaxIsAnError) {
  const auto repeat = [](std::string_view text, int count) {
    std::string out;
    for (int i = 0; i < count; ++i) out += text;
    return out;
  };
  constexpr int kMany = 100'000;
  for (const std::string& source : {"{{ " + repeat("(", kMany),
                                    "{{ " + repeat("[", kMany),
                                    "{{ " + repeat("-", kMany) + "1 }}",
                                    "{{ " + repeat("not ", kMany) + "1 }}",
                                    "{{ 1" + repeat("+ 1", kMany) + " }}",
                                    "{{ 1" + repeat("| abs", kMany) + " }}",
                                    "{{ a" + repeat(".a", kMany) + " }}",
                                    "{{ a" + repeat("[0]", kMany) + " }}",
                                    "{{ a" + repeat("()", kMany) + " }}",
                                    "{{ 1" + repeat(" if 1 else 1", kMany) + " }}",
                                    "{{ 1" + repeat(" or 1", kMany) + " }}",
                                    "{{ 1" + repeat(" if 1", kMany) + " }}",
                                    "{{ 1" + repeat(" is odd", kMany) + " }}",
                                    "{{ 1" + repeat(" ** 1", kMany) + " }}",
                                    repeat("{% if 1 %}", kMany),
                                    repeat("{% for x in y %}", kMany),
                                    repeat("{% macro m() %}", kMany),
                                    repeat("{% set x %}", kMany),
                                    "{% set " + repeat("(", kMany) + "x",
                                    "{% for " + repeat("(", kMany) + "x",
                                    "{{ {" + repeat("1: {", kMany)})
    EXPECT_NE(error_of(source), "") << source.substr(0, 20);
}

TEST(ChatTemplate, WideSyntaxIsNotDeep) {
  std::string list = "1", branches = "{% if 0 %}", concat = "''";
  for (int i = 0; i < 2000; ++i) {
    list += ", 1";
    branches += "{% elif 0 %}";
    concat += " ~ 'x'";
  }
  EXPECT_EQ(render("{{ [" + list + "] | length }}{{ (" + concat + ") | length }}" + branches +
                   "{% endif %}"),
            "20012000");
}

TEST(ChatTemplate, LimitsAreTheCallers) {
  ChatTemplate chat = parse("{% for i in range(100) %}xxxxxxxxxx{% endfor %}");
  const ordered_json variables{{"messages", {{{"role", "user"}, {"content", "hi"}}}}};
  EXPECT_EQ(chat.render(variables).value().size(), 1000u);
  chat.set_limits({.max_steps = 50});
  EXPECT_EQ(chat.render(variables).error().message(), "the template did not end within 50 steps");
  chat.set_limits({.max_output_bytes = 999});
  EXPECT_EQ(chat.render(variables).error().code(), ErrorCode::kResourceExhausted);
  chat.set_limits({.max_work_bytes = 900});
  EXPECT_EQ(chat.render(variables).error().code(), ErrorCode::kResourceExhausted);
}

}  // namespace
}  // namespace kvasir::text
