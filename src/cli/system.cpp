#include "cli/system.h"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "cli/commands.h"
#include "formats/document.h"
#include "text/tokenizer.h"

namespace kvasir::cli {
namespace {

class TokenizerCodec final : public TextCodec {
 public:
  explicit TokenizerCodec(text::Tokenizer tokenizer) : tokenizer_(std::move(tokenizer)) {}
  std::vector<TokenId> encode(std::string_view text, bool add_special) const override {
    return tokenizer_.encode(text, {.add_special_tokens = add_special, .parse_special = true});
  }
  std::string decode(std::span<const TokenId> ids, bool skip_special) const override {
    return tokenizer_.decode(ids, skip_special);
  }
  std::string piece(TokenId id) const override { return std::string(tokenizer_.id_to_token(id)); }
  int64_t vocab_size() const override { return tokenizer_.vocab_size(); }

 private:
  text::Tokenizer tokenizer_;
};

Result<std::unique_ptr<TextCodec>> open_codec(const std::string& folder) {
  auto tokenizer = text::Tokenizer::load(std::filesystem::path(folder) / "tokenizer.json");
  if (!tokenizer) return tokenizer.error();
  return std::unique_ptr<TextCodec>(new TokenizerCodec(std::move(tokenizer).value()));
}

// $COLUMNS where it is set, else what the terminal says, else 80.
int terminal_width(int descriptor) {
  if (const char* columns = std::getenv("COLUMNS"))
    if (const int width = std::atoi(columns); width > 0) return width;
  winsize size = {};
  if (::ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

}  // namespace

void connect_rooms(Environment& environment) {
  environment.read_document = [](const std::string& path) { return formats::read_document(path); };
  environment.open_codec = open_codec;
}

int main_program(const std::vector<std::string>& arguments) {
  DescriptorOutput out(STDOUT_FILENO, "stdout"), err(STDERR_FILENO, "stderr");
  const bool err_terminal = ::isatty(STDERR_FILENO) == 1;
  Interrupts interrupts(err_terminal);
  const SignalGuard signals(interrupts);
  Environment environment;
  environment.out = &out;
  environment.err = &err;
  environment.in = STDIN_FILENO;
  environment.in_terminal = ::isatty(STDIN_FILENO) == 1;
  environment.out_terminal = ::isatty(STDOUT_FILENO) == 1;
  environment.err_terminal = err_terminal;
  environment.width = terminal_width(err_terminal ? STDERR_FILENO : STDOUT_FILENO);
  environment.interrupts = &interrupts;
  connect_rooms(environment);
  return run_program(arguments, environment);
}

}  // namespace kvasir::cli
