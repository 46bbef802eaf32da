#include <fmt/format.h>

#include <algorithm>

#include "cli/app.h"
#include "cli/exit_codes.h"

namespace kvasir::cli {
namespace {

constexpr size_t kNameColumn = 2;
constexpr size_t kHelpColumn = 30;

struct Row {
  std::string name, help;
};

// "  name            help that goes on\n                  in its column\n"
void append_row(std::string& text, const Row& row, size_t width) {
  std::string line = std::string(kNameColumn, ' ') + row.name;
  if (line.size() + 2 > kHelpColumn) {
    text += line + "\n";
    line.clear();
  }
  line.resize(kHelpColumn, ' ');
  bool has_words = false;
  for (size_t begin = 0; begin < row.help.size();) {
    const size_t end = std::min(row.help.find(' ', begin), row.help.size());
    const std::string word = row.help.substr(begin, end - begin);
    if (has_words && line.size() + 1 + word.size() > width) {
      text += line + "\n";
      line.assign(kHelpColumn, ' ');
      has_words = false;
    }
    if (has_words) line += ' ';
    line += word;
    has_words = true;
    begin = end + 1;
  }
  text += line + "\n";
}

std::string name_of(const CLI::Option& option) {
  std::string name;
  for (const std::string& letter : option.get_snames()) name += "-" + letter + ", ";
  for (const std::string& word : option.get_lnames())
    name += (name.empty() || name.ends_with(' ') ? "--" : ", --") + word;
  if (name.empty()) return option.get_name(true);
  const std::string type = option.get_type_name();
  return type.empty() || option.get_items_expected_max() == 0 ? name : name + " " + type;
}

}  // namespace

std::string help_text(const CLI::App& app, int width) {
  const auto columns = static_cast<size_t>(std::clamp(width, 60, 100));
  const auto commands = app.get_subcommands([](const CLI::App*) { return true; });
  std::string text;
  if (!commands.empty()) {
    text = fmt::format("kvasir: {}\n\nUsage: kvasir COMMAND [OPTIONS]\n\nCommands:\n",
                       app.get_description());
    for (const CLI::App* command : commands)
      append_row(text, {command->get_name(), command->get_description()}, columns);
    text += "\nkvasir COMMAND --help shows the options of a command.\n";
    return text + "\n" + exit_code_help();
  }

  std::vector<std::string> groups;
  std::string positionals;
  std::vector<Row> positional_rows;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional()) {
      positionals += fmt::format(" [{}]", option->get_name(true));
      std::string type = option->get_type_name();
      for (size_t bar = type.find('|'); bar != std::string::npos; bar = type.find('|', bar))
        type.replace(bar, 1, ", ");  // where lines may break
      positional_rows.push_back(
          {option->get_name(true),
           type.empty() ? option->get_description() : type + ": " + option->get_description()});
      continue;
    }
    const std::string& group = option->get_group();
    if (std::find(groups.begin(), groups.end(), group) == groups.end()) groups.push_back(group);
  }
  // The unnamed group (--help) comes last.
  if (const auto unnamed = std::find(groups.begin(), groups.end(), "Options");
      unnamed != groups.end())
    std::rotate(unnamed, unnamed + 1, groups.end());
  text = fmt::format("kvasir {}: {}\n\nUsage: kvasir {} [OPTIONS]{}\n", app.get_name(),
                     app.get_description(), app.get_name(), positionals);
  if (!positional_rows.empty()) text += "\n";
  for (const Row& row : positional_rows) append_row(text, row, columns);
  for (const std::string& group : groups) {
    text += fmt::format("\n{}:\n", group);
    for (const CLI::Option* option : app.get_options())
      if (!option->get_positional() && option->get_group() == group)
        append_row(text, {name_of(*option), option->get_description()}, columns);
  }
  return text + "\n" + exit_code_help();
}

std::string completion_script(CLI::App& app) {
  std::string commands, cases, values;
  for (const CLI::App* command : app.get_subcommands([](CLI::App*) { return true; })) {
    commands += (commands.empty() ? "" : " ") + command->get_name();
    std::string options, positionals;
    for (const CLI::Option* option : command->get_options()) {
      std::string choices;
      for (const std::string& word : option_choices(*option))
        choices += (choices.empty() ? "" : " ") + word;
      if (option->get_positional()) {
        if (option->get_type_name() == "bash") choices = "bash";
        positionals = choices;
        continue;
      }
      for (const std::string& name : option->get_lnames()) {
        options += (options.empty() ? "--" : " --") + name;
        const std::string line = fmt::format(
            "    --{}) COMPREPLY=($(compgen -W \"{}\" -- \"$word\")); return ;;\n", name, choices);
        if (!choices.empty() && values.find("    --" + name + ")") == std::string::npos)
          values += line;
      }
    }
    cases += fmt::format("    {}) options=\"{}\" words=\"{}\" ;;\n", command->get_name(), options,
                         positionals);
  }
  return "# bash completion for kvasir; written by `kvasir completion bash`\n"
         "_kvasir() {\n"
         "  local word=\"${COMP_WORDS[COMP_CWORD]}\" before=\"${COMP_WORDS[COMP_CWORD-1]}\"\n"
         "  local options words\n"
         "  if ((COMP_CWORD == 1)); then\n"
         "    COMPREPLY=($(compgen -W \"" +
         commands +
         " --help --version\" -- \"$word\"))\n"
         "    return\n"
         "  fi\n"
         "  case \"$before\" in\n" +
         values +
         "    --model|-m) COMPREPLY=($(compgen -d -- \"$word\")); return ;;\n"
         "  esac\n"
         "  case \"${COMP_WORDS[1]}\" in\n" +
         cases +
         "  esac\n"
         "  if [[ $word == -* ]]; then\n"
         "    COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
         "  else\n"
         "    COMPREPLY=($(compgen -W \"$words\" -- \"$word\") $(compgen -f -- \"$word\"))\n"
         "  fi\n"
         "}\n"
         "complete -o filenames -F _kvasir kvasir\n";
}

}  // namespace kvasir::cli
