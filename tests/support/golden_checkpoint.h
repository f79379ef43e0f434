// The tiny golden model as a checkpoint of p2.
#pragma once

#include <string>

namespace p2::testing {

// The spec (YAML) whose model is tiny32 of models.json; one average, "0.9999".
inline constexpr char kTinySpecYaml[] = R"(
model: {image_size: 32, in_channels: 3, model_channels: 32, channel_mult: [1, 2, 2], num_res_blocks: 1,
        attention_resolutions: [8], num_head_channels: 16, resblock_updown: true, use_scale_shift_norm: true, dropout: 0}
diffusion: {timesteps: 1000, noise_schedule: LINEAR, learn_sigma: true}
training: {images: 8, batch: 8}
ema: [{name: "0.9999", rate: 0.9999}]
)";

// Writes a checkpoint under `parent` and returns its directory: the average holds the golden weights, the model itself
// half of each. Records a test failure if it cannot.
std::string WriteGoldenCheckpoint(const std::string& parent, const std::string& spec_json);

}  // namespace p2::testing
