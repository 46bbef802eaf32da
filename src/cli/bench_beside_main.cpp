// What needs libtorch, without it in this program: it goes on as kvasir-bench, which stands beside
// and has the same commands.
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <vector>

#include "base/file.h"
#include "bench/bench.h"
#include "train/run.h"

namespace kvasir {
namespace {

[[noreturn]] void go_on_beside() {
  const std::filesystem::path program =
      std::filesystem::read_symlink("/proc/self/exe").parent_path() / "kvasir-bench";
  std::string words = read_file("/proc/self/cmdline").value();  // each ended by a zero
  std::vector<char*> arguments;
  for (char* word = words.data(); word < words.data() + words.size(); word += std::strlen(word) + 1)
    arguments.push_back(word);
  arguments.push_back(nullptr);
  ::execv(program.c_str(), arguments.data());
  throw Error(errno == ENOENT ? ErrorCode::kUnsupported : ErrorCode::kIo,
              errno == ENOENT ? "expected kvasir-bench beside kvasir, found none; it is built and "
                                "installed where libtorch is"
                              : std::string("cannot start it: ") + std::strerror(errno),
              program.string());
}

}  // namespace

int bench::run_bench(const BenchOptions&, std::ostream&, std::ostream&) { go_on_beside(); }

std::filesystem::path train::run_recipe(const RunOptions&) { go_on_beside(); }

}  // namespace kvasir
