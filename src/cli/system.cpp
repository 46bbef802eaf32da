#include "cli/system.h"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "cli/commands.h"
#include "compress/methods.h"
#include "prefill/methods.h"
#include "retrieve/methods.h"
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

Result<std::string> read_any(const std::string& path) {
  return read_file(path == "-" ? "/dev/stdin" : path);
}

std::vector<std::string> names_of(const MethodCapabilities& can) {
  std::vector<std::string> names;
  const auto add = [&names](bool claimed, const char* name) {
    if (claimed) names.push_back(name);
  };
  add(can.chunked_prefill, "chunked prefill");
  add(can.prefix_reuse, "prefix reuse");
  add(can.batching, "batching");
  add(can.quantised_kv, "quantised KV");
  add(can.cuda_graphs, "CUDA graphs");
  add(can.several_gpus, "several GPUs");
  add(can.images, "images");
  return names;
}

std::vector<MethodRow> method_rows() {
  const std::pair<const char*, std::span<const Method>> stages[] = {
      {"prefill", prefill::methods()},
      {"compress", compress::methods()},
      {"retrieve", retrieve::methods()}};
  std::vector<MethodRow> rows;
  for (const auto& [stage, table] : stages)
    for (const Method& method : table)
      rows.push_back({stage, std::string(method.name), std::string(method.description),
                      names_of(method.capabilities)});
  return rows;
}

}  // namespace

void connect_rooms(Environment& environment) {
  environment.read_document = read_any;
  environment.open_codec = open_codec;
  environment.methods = method_rows;
}

int main_program(const std::vector<std::string>& arguments) {
  DescriptorOutput out(STDOUT_FILENO, "stdout"), err(STDERR_FILENO, "stderr");
  Interrupts interrupts;
  const SignalGuard signals(interrupts);
  Environment environment;
  environment.out = &out;
  environment.err = &err;
  environment.in = STDIN_FILENO;
  environment.in_terminal = ::isatty(STDIN_FILENO) == 1;
  environment.out_terminal = ::isatty(STDOUT_FILENO) == 1;
  environment.err_terminal = ::isatty(STDERR_FILENO) == 1;
  environment.width = terminal_width(environment.err_terminal ? STDERR_FILENO : STDOUT_FILENO);
  environment.interrupts = &interrupts;
  connect_rooms(environment);
  return run_program(arguments, environment);
}

}  // namespace kvasir::cli
