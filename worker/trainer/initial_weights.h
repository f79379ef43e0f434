// The weights that a new run starts from, without a run.
#pragma once

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "worker/checkpoint/checkpoint_reader.h"
#include "worker/trainer/train_options.h"

namespace p2::trainer {

// Fills `tensors`, the parameters of the spec's model in state-dict order, from the streams of its seed.
absl::Status InitialWeights(const TrainSpec& spec, absl::Span<const checkpoint::MutableTensorView> tensors);

}  // namespace p2::trainer
