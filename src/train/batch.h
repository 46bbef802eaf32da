#pragma once
// Batches of training are those that the data room makes.

#include "data/batch.h"

namespace kvasir::train {

using data::Batch;

}  // namespace kvasir::train
