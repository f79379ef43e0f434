// The residual block of the U-Net, with the time embedding and, in BigGAN's manner, resampling inside; and the plain
// resampling by a convolution that stands in for the latter.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "worker/model/layers.h"
#include "worker/random/dropout_mask.h"

namespace p2::model {

enum class Resample { kNone, kUp, kDown };  // Nearest x 2; 2 x 2 average.

struct ResidualOptions {
  int64_t in_channels = 0;
  int64_t out_channels = 0;
  int64_t embedding_channels = 0;
  bool scale_shift_norm = true;  // AdaGN; else the embedding is added before the second norm.
  double dropout = 0.0;
  Resample resample = Resample::kNone;  // After norm and SiLU, before the first convolution, and on the skip path.
};

class ResidualBlock : public Block {
 public:
  // `path`: this module's path in the model ("input_blocks.1.0"); its dropout draws from DropoutStreamName(path).
  ResidualBlock(const ResidualOptions& options, const std::string& path);

  // x (B, in, H, W), emb (B, E). Returns (B, out, H', W').
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& emb, const DropoutContext* dropout) override;
  bool keeps_much() const override { return true; }

  // The name of a block's dropout stream: "dropout/<path>.out_layers.2", where the published code has the dropout
  // module.
  static std::string DropoutStreamName(const std::string& path);

 private:
  const ResidualOptions options_;
  const uint32_t dropout_stream_;
  const random::DropoutRate dropout_rate_;
  std::shared_ptr<GroupNorm> in_norm_, out_norm_;
  std::shared_ptr<Conv> in_conv_, out_conv_, skip_;
  std::shared_ptr<Linear> embedding_;
};

// A 3x3 convolution of stride 2 ("op").
class Downsample : public Block {
 public:
  explicit Downsample(int64_t channels);
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& emb, const DropoutContext* dropout) override;

 private:
  std::shared_ptr<Conv> op_;
};

// Nearest x 2, then a 3x3 convolution ("conv").
class Upsample : public Block {
 public:
  explicit Upsample(int64_t channels);
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& emb, const DropoutContext* dropout) override;

 private:
  std::shared_ptr<Conv> conv_;
};

}  // namespace p2::model
