#include <ostream>
#include <streambuf>

#include "bench/bench.h"
#include "cli/commands.h"

namespace kvasir::cli {
namespace {

// An ostream onto an Output. Whole pieces go through as they come.
class OutputBuffer final : public std::streambuf {
 public:
  explicit OutputBuffer(Output& output) : output_(output) {}

 protected:
  int_type overflow(int_type letter) override {
    if (traits_type::eq_int_type(letter, traits_type::eof())) return 0;
    const char byte = traits_type::to_char_type(letter);
    output_.write({&byte, 1});
    return letter;
  }
  std::streamsize xsputn(const char* text, std::streamsize size) override {
    output_.write({text, static_cast<size_t>(size)});
    return size;
  }

 private:
  Output& output_;
};

}  // namespace

int bench_command(const Options& options, Environment& environment) {
  const BenchFlags& flags = options.bench;
  const bench::BenchOptions bench{.what = flags.what,
                                  .model = options.engine.model,
                                  .shape = flags.shape,
                                  .device = options.engine.device,
                                  .lengths = flags.lengths,
                                  .document = flags.document,
                                  .threads = options.engine.threads,
                                  .repetitions = flags.repetitions,
                                  .tasks = flags.tasks,
                                  .methods = flags.methods,
                                  .questions = flags.questions,
                                  .question_inside = flags.question_inside,
                                  .json = options.json,
                                  .record = flags.record};
  OutputBuffer out_buffer(*environment.out), err_buffer(*environment.err);
  std::ostream out(&out_buffer), err(&err_buffer);
  out.exceptions(std::ios::badbit);  // a failed write arrives as the Error that it is
  return bench::run_bench(bench, out, err);
}

}  // namespace kvasir::cli
