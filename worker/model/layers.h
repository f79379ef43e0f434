// The parts with parameters that the U-Net is made of, and what a block of it looks like. Each is torch's layer without
// its random initialization: values are unset until InitializeParameters or a checkpoint fills them.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace p2::model {

// Which samples a training batch holds: row i is sample first_sample + i of the run keyed by `seed`.
struct DropoutContext {
  std::uint64_t seed = 0;
  std::uint64_t first_sample = 0;
  torch::Tensor device_sample = {};  // As random::RowKey's.
};

// How InitializeParameters fills a layer.
enum class Init { kUniform, kZero };

// weight, bias; the base of the layers that InitializeParameters draws.
class AffineLayer : public torch::nn::Module {
 public:
  torch::Tensor weight, bias;
  const Init init;

  // From now on forward computes with these copies of weight and bias, in their type; gradients reach the parameters,
  // in fp32. The caller keeps them up to date.
  void ComputeWith(torch::Tensor weight_copy, torch::Tensor bias_copy);

 protected:
  AffineLayer(at::IntArrayRef weight_shape, Init init);
  // What forward computes with.
  torch::Tensor ComputeWeight() const;
  torch::Tensor ComputeBias() const;

 private:
  torch::Tensor weight_copy_, bias_copy_;
};

class Linear : public AffineLayer {
 public:
  Linear(int64_t in, int64_t out);
  torch::Tensor forward(const torch::Tensor& x) const;  // (B, in) -> (B, out)
};

// A square convolution that keeps the size (stride 1) or halves it (stride 2).
class Conv : public AffineLayer {
 public:
  Conv(int64_t in, int64_t out, int64_t kernel, Init init = Init::kUniform, int64_t stride = 1);
  torch::Tensor forward(const torch::Tensor& x) const;  // (B, in, H, W) -> (B, out, H / stride, W / stride)

 private:
  const int64_t stride_, padding_;
};

// A 1x1 convolution over a flattened image.
class PointwiseConv : public AffineLayer {
 public:
  PointwiseConv(int64_t in, int64_t out, Init init = Init::kUniform);
  torch::Tensor forward(const torch::Tensor& x) const;  // (B, in, L) -> (B, out, L)
};

// 32 groups, eps 1e-5. Statistics and parameters in fp32, the result in x's type.
class GroupNorm : public torch::nn::Module {
 public:
  explicit GroupNorm(int64_t channels);
  torch::Tensor forward(const torch::Tensor& x) const;  // (B, C, …)

  torch::Tensor weight, bias;
};

// SiLU that reuses `x`'s memory where no gradient is recorded. REQUIRES: nobody else reads x afterwards.
torch::Tensor ConsumingSilu(torch::Tensor x);

// One layer of a stage. `emb`: silu(time embedding), (B, E).
class Block : public torch::nn::Module {
 public:
  virtual torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& emb, const DropoutContext* dropout) = 0;
  // Whether it keeps much more than its input for the backward pass.
  virtual bool keeps_much() const { return false; }
};

// Blocks in a row: one entry of input_blocks or output_blocks, or the middle block. Children are "0", "1", ….
class Stage : public torch::nn::Module {
 public:
  // `recompute`: the insides of blocks that keep much are computed again in the backward pass.
  explicit Stage(bool recompute = false) : recompute_(recompute) {}

  void Append(std::shared_ptr<Block> block);
  torch::Tensor forward(torch::Tensor x, const torch::Tensor& emb, const DropoutContext* dropout);

 private:
  const bool recompute_;
  std::vector<std::shared_ptr<Block>> blocks_;
};

}  // namespace p2::model
