// The shape of the ADM U-Net without its tensors: options, state-dict names and shapes, and the memory that training
// takes. Torch-free, so that p2d and p2ctl can judge a model before any device is busy with it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace p2::spec {

// Names as in the published code. Defaults: the paper's light model (a) at 256x256, 93.56 M parameters.
struct UnetOptions {
  int image_size = 256;              // Height and width in pixels. REQUIRES: divisible by 2^(levels - 1).
  int in_channels = 3;               // 1 (grey) or 3 (RGB); 1 to 16.
  int model_channels = 128;          // Base width. REQUIRES: a multiple of 32.
  int out_channels = 6;              // in_channels, or twice that with learned variance.
  std::vector<double> channel_mult;  // Width of each level / model_channels. Empty: PublishedChannelMult(image_size).
  int num_res_blocks = 1;            // A level; 1 to 8.
  // Pixel sizes r: the levels of factor image_size / r (floor) attend; the middle always does.
  std::vector<int> attention_resolutions = {16};
  int num_heads = 4;                  // Where num_head_channels is 0.
  int num_head_channels = 64;         // 0: num_heads decides. REQUIRES: divides the channels of every attention block.
  bool resblock_updown = true;        // Down- and up-sampling in residual blocks (BigGAN), not by convolutions.
  bool use_scale_shift_norm = true;   // AdaGN.
  double dropout = 0.0;               // Probability, [0, 1).
  bool activation_recompute = false;  // Of the blocks' insides, in the backward pass; see training_spec.proto.
};

// The published table: 512, 256, 128 and 64 pixels; empty for any other size.
std::vector<double> PublishedChannelMult(int image_size);

// One bad option: `field` is the member's name.
struct UnetProblem {
  std::string field;
  std::string description;
};

// Every reason why `options` make no model, in the order of the members; empty if they do.
std::vector<UnetProblem> CheckUnet(const UnetOptions& options);

// One entry of the state dict (there are no buffers).
struct ParameterShape {
  std::string name;            // "input_blocks.3.0.in_layers.2.weight"
  std::vector<int64_t> shape;  // row-major, as torch has it

  int64_t num_elements() const;
  friend bool operator==(const ParameterShape&, const ParameterShape&) = default;
};

// Parameters in state-dict order, names and shapes equal to the published code's.
// INVALID_ARGUMENT listing everything that CheckUnet finds.
absl::StatusOr<std::vector<ParameterShape>> WalkUnet(const UnetOptions& options);

int64_t CountParameters(absl::Span<const ParameterShape> parameters);

// What convolutions and linear layers compute in.
enum class Precision { kFp32, kBf16, kTf32 };

// Bytes that one rank needs to train. Exact for the flat buffers; `activations_per_sample` is an estimate of what
// autograd keeps for the backward pass: every tensor that a GroupNorm, SiLU, convolution, dropout or softmax saves,
// counted once, without allocator slack or convolution workspace (on a GPU add about a third). With
// activation_recompute: the blocks' outputs, and the inside of the largest block.
struct TrainingMemory {
  int64_t parameters = 0;
  int64_t bf16_parameters = 0;  // The copy that bf16 computes with.
  int64_t gradients = 0;
  int64_t optimizer = 0;  // m and v
  int64_t emas = 0;
  int64_t activations_per_sample = 0;

  int64_t Total(int64_t samples) const {
    return parameters + bf16_parameters + gradients + optimizer + emas + activations_per_sample * samples;
  }
};

// `num_emas`: averages kept. INVALID_ARGUMENT as WalkUnet.
absl::StatusOr<TrainingMemory> EstimateTrainingMemory(const UnetOptions& options, int num_emas,
                                                      Precision precision = Precision::kFp32);

}  // namespace p2::spec
