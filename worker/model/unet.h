// The light ADM U-Net of the paper (Dhariwal & Nichol's, with the published code's names): predicts the noise, and with
// learned variance its interpolation, from x_t and t.
//
// Letters in this directory: B samples, C channels, H x W pixels, E = 4 x model_channels (width of the time embedding).
// NCHW; all in fp32 but for ComputeWith. State-dict names, shapes and order equal the published code's; no buffers.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/spec/unet_shape.h"
#include "worker/model/layers.h"

namespace p2::model {

// Thread-compatible; forward of one instance from several threads only without autograd.
class Unet : public torch::nn::Module {
 public:
  // Parameters are allocated, their values unset: InitializeParameters or a checkpoint fills them.
  // Throws c10::Error if spec::CheckUnet finds a problem or two random streams of the model collide.
  explicit Unet(const spec::UnetOptions& options);

  // x (B, in_channels, H, W); timesteps (B), any dtype, fractions allowed. Returns (B, out_channels, H, W).
  // `dropout`: the samples of this batch, for training; null (or a rate of 0): no dropout.
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& timesteps,
                        const DropoutContext* dropout = nullptr);

  // Makes convolutions and linear layers compute with `copies` of the parameters, in their type (bf16), and activations
  // between them have it too. In fp32 remain: norms' statistics and parameters, softmax, the time embedding, what
  // follows the last stage, and the gradients of all parameters. `copies`: one for each of parameters(), in that order,
  // of its shape; the caller keeps them up to date.
  void ComputeWith(const std::vector<torch::Tensor>& copies);

  const spec::UnetOptions& options() const { return options_; }

 private:
  const spec::UnetOptions options_;
  at::ScalarType compute_type_ = at::kFloat;
  std::shared_ptr<Linear> time_in_, time_out_;
  std::shared_ptr<Conv> input_conv_;                  // input_blocks.0.0
  std::vector<std::shared_ptr<Stage>> input_blocks_;  // From input_blocks.1 on.
  std::shared_ptr<Stage> middle_block_;
  std::vector<std::shared_ptr<Stage>> output_blocks_;
  std::shared_ptr<GroupNorm> out_norm_;
  std::shared_ptr<Conv> out_conv_;
};

// Draws every parameter from its own stream `init/<name>`: layers of equal name, shape and seed start equal in any
// architecture. Distributions are PyTorch's defaults: weight and bias of a convolution or linear uniform within
// 1 / sqrt(fan in), norms ones and zeros; zero where the published code zeroes (last convolutions, attention
// projections).
void InitializeParameters(Unet& unet, std::uint64_t seed);

}  // namespace p2::model
