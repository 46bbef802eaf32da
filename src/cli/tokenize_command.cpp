#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/ids.h"
#include "cli/json_lines.h"

namespace kvasir::cli {
namespace {

std::string ids_text(const std::vector<TokenId>& ids) {
  std::string text;
  for (const TokenId id : ids) fmt::format_to(std::back_inserter(text), "{} ", id);
  if (!text.empty()) text.back() = '\n';
  return text;
}

int decode(const Options& options, const TextCodec& codec, const std::string& path,
           Environment& environment) {
  const std::string where = path == "-" ? "standard input" : path;
  const std::vector<TokenId> ids = parse_ids(environment.read_document(path).value(), where);
  check_ids(ids, codec.vocab_size(), where);
  const std::string text = codec.decode(ids, options.tokenize.no_special);
  environment.out->write(options.json ? json_line({{"tokens", ids.size()}, {"text", text}})
                                      : text + "\n");
  return kExitOk;
}

}  // namespace

int tokenize_command(const Options& options, Environment& environment) {
  const std::string path = options.tokenize.file.empty() ? "-" : options.tokenize.file;
  const auto codec = environment.open_codec(options.engine.model.string()).value();
  if (options.tokenize.decode) return decode(options, *codec, path, environment);
  const std::string text = read_text(path, environment);
  const std::vector<TokenId> ids = codec->encode(text, !options.tokenize.no_special);
  if (!options.json) {
    environment.out->write(ids_text(ids));
    return kExitOk;
  }
  std::vector<std::string> pieces;
  for (const TokenId id : ids) pieces.push_back(codec->piece(id));
  environment.out->write(json_line({{"tokens", ids.size()}, {"ids", ids}, {"pieces", pieces}}));
  return kExitOk;
}

}  // namespace kvasir::cli
