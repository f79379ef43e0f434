#include "worker/trainer/initial_weights.h"

#include <ATen/ATen.h>
#include <torch/utils.h>

#include "worker/model/unet.h"
#include "worker/trainer/torch_status.h"

namespace p2::trainer {

absl::Status InitialWeights(const TrainSpec& spec, absl::Span<const checkpoint::MutableTensorView> tensors) {
  return RunTorch("initial weights", [&] {
    const torch::NoGradGuard no_grad;
    model::Unet unet(spec.model);
    model::InitializeParameters(unet, spec.seed);
    const auto parameters = unet.named_parameters();
    TORCH_CHECK(parameters.size() == tensors.size(), "the model has ", parameters.size(), " parameters");
    for (size_t i = 0; i < tensors.size(); ++i) {
      const checkpoint::MutableTensorView& to = tensors[i];
      TORCH_CHECK(parameters[i].key() == to.name, parameters[i].key(), " stands where ", to.name, " should");
      at::from_blob(to.values.data(), to.shape, at::kFloat).copy_(parameters[i].value());
    }
  });
}

}  // namespace p2::trainer
