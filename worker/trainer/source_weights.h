// The weights that a new run begins with instead of random ones (`submit --init-from`).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "worker/checkpoint/checkpoint_reader.h"
#include "worker/trainer/train_options.h"

namespace p2::trainer {

// Where they go: all parameters of the model, in its names and shapes, and the same for every average.
struct SourceWeights {
  std::vector<checkpoint::MutableTensorView> model;
  std::vector<std::pair<const EmaProfile*, std::vector<checkpoint::MutableTensorView>>> averages;
};

// `source` is a p2 checkpoint's directory, a .safetensors file, or a published modelNNNNNN.pt with its
// ema_RATE_NNNNNN.pt beside it. Averages that the source has under the same name (p2) or rate (published) are taken,
// the others begin at the model's weights; the log says which. Strict: FAILED_PRECONDITION unless names and shapes are
// all the model's. The readers' errors.
absl::Status ReadSourceWeights(const std::string& source, const SourceWeights& into);

}  // namespace p2::trainer
