// A model as a folder of Hugging Face's diffusers, for UNet2DModel.from_pretrained and DDPMPipeline:
//   model_index.json, unet/{config.json,diffusion_pytorch_model.safetensors}, scheduler/scheduler_config.json
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/spec/noise_schedule.h"
#include "common/spec/unet_shape.h"
#include "worker/checkpoint/checkpoint_writer.h"
#include "worker/checkpoint/tensor_set.h"

namespace p2::checkpoint {

struct DiffusersModel {
  spec::UnetOptions unet;
  spec::ScheduleKind noise_schedule = spec::ScheduleKind::kLinear;
  int timesteps = 1000;
  bool learn_sigma = true;
};

// `weights` (state-dict names, all of them) under UNet2DModel's names. The attention's qkv is split per head
// ([heads, 3, channels of a head]). FAILED_PRECONDITION for models that UNet2DModel cannot hold: a first level of
// another width than model_channels, or attention blocks of unlike head widths.
absl::StatusOr<TensorSet> ToDiffusers(const spec::UnetOptions& unet, absl::Span<const TensorView> weights);

// Writes the folder; files there are replaced, model_index.json last. FAILED_PRECONDITION as ToDiffusers, an errno's
// code with the path.
absl::Status WriteDiffusers(const std::string& directory, const DiffusersModel& model,
                            absl::Span<const TensorView> weights);

// A safetensors file with metadata format=pt, float32, in the order given; replaced as a whole.
absl::Status WriteSafetensors(const std::string& path, absl::Span<const TensorView> tensors);

}  // namespace p2::checkpoint
