#include "cli/commands.h"

namespace kvasir::cli {

int train_command(const Options& options, Environment& environment) {
  if (options.train.what == "tokenizer") return train_tokenizer_command(options, environment);
  if (options.train.what == "data") return train_data_command(options, environment);
  return train_manifest_command(options, environment);
}

}  // namespace kvasir::cli
