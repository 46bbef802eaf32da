#pragma once
// Checkpoints: a Hugging Face model folder that inference reads as it is (bf16), with what training
// needs to go on in `training/`: f32 masters and moments, and the run's position.
//
//   checkpoint-000000500/
//     config.json, generation_config.json, tokenizer files   copied from the model's folder
//     model-0000i-of-0000n.safetensors, model.safetensors.index.json
//     training/masters.safetensors, first_moment.safetensors, second_moment.safetensors
//     training/state.json                                    step, optimiser steps, data position
//
// Without `training/` it is weights alone, at the step of its name.
//
// A checkpoint is written under another name, synced and renamed: a folder of that name is whole.

#include <filesystem>
#include <optional>
#include <string>

#include "train/optimizer.h"
#include "train/parameters.h"

namespace kvasir::train {

struct TrainState {
  int64_t step = 0;        // steps done
  int64_t tokens = 0;      // rows of all processes so far
  std::string data;        // position of the data, as its source wrote it
  double lowest_loss = 0;  // for the watch over divergence; 0: none yet
  int64_t first_step = 0;  // the optimiser's first, from which on the rate warms up
};

struct CheckpointPlace {
  std::filesystem::path folder;  // of all checkpoints of a run
  std::filesystem::path model;   // config.json, tokenizer and so on are copied from here
  int keep = 3;                  // older ones are removed
};

// Writes folder/checkpoint-<step> and removes what is older than the last `keep`. Returns its path.
// Throws kIo.
std::filesystem::path write_checkpoint(const CheckpointPlace& place, const Parameters& parameters,
                                       const Optimizer& optimizer, const TrainState& state);

// The one with most steps; nothing where there is none.
std::optional<std::filesystem::path> latest_checkpoint(const std::filesystem::path& folder);

// Whether a checkpoint has more than a model folder; the step of its name, -1: of another folder.
bool has_training_state(const std::filesystem::path& checkpoint);
int64_t step_of(const std::filesystem::path& checkpoint);

// Throws kMalformed, kNotFound where the files do not belong to these parameters.
TrainState read_checkpoint(const std::filesystem::path& checkpoint, Parameters& parameters,
                           Optimizer& optimizer);

}  // namespace kvasir::train
