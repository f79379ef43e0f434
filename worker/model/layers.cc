#include "worker/model/layers.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <string>
#include <utility>

#include "worker/model/recompute.h"

namespace p2::model {

constexpr int64_t kGroups = 32;
constexpr double kNormEpsilon = 1e-5;

namespace {

// A 1x1 convolution as one batched matrix product: torch's own takes a slow path with one thread. x (B, in, L).
torch::Tensor Pointwise(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias) {
  const torch::Tensor matrix = weight.flatten(1);  // (out, in)
  return at::baddbmm(bias.unsqueeze(1), matrix.expand({x.size(0), matrix.size(0), matrix.size(1)}), x);
}

// A copy in the place of its parameter.
struct StandIn : torch::autograd::Function<StandIn> {
  static torch::Tensor forward(torch::autograd::AutogradContext*, const torch::Tensor&, const torch::Tensor& copy) {
    return copy;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*,
                                                 const torch::autograd::variable_list& gradients) {
    return {gradients[0].to(torch::kFloat32), {}};
  }
};

torch::Tensor Chosen(const torch::Tensor& parameter, const torch::Tensor& copy) {
  return copy.defined() ? StandIn::apply(parameter, copy) : parameter;
}

}  // namespace

AffineLayer::AffineLayer(at::IntArrayRef weight_shape, Init init) : init(init) {
  weight = register_parameter("weight", torch::empty(weight_shape));
  bias = register_parameter("bias", torch::empty({weight_shape[0]}));
}

void AffineLayer::ComputeWith(torch::Tensor weight_copy, torch::Tensor bias_copy) {
  weight_copy_ = std::move(weight_copy);
  bias_copy_ = std::move(bias_copy);
}

torch::Tensor AffineLayer::ComputeWeight() const { return Chosen(weight, weight_copy_); }

torch::Tensor AffineLayer::ComputeBias() const { return Chosen(bias, bias_copy_); }

Linear::Linear(int64_t in, int64_t out) : AffineLayer({out, in}, Init::kUniform) {}

torch::Tensor Linear::forward(const torch::Tensor& x) const { return at::linear(x, ComputeWeight(), ComputeBias()); }

Conv::Conv(int64_t in, int64_t out, int64_t kernel, Init init, int64_t stride)
    : AffineLayer({out, in, kernel, kernel}, init), stride_(stride), padding_(kernel / 2) {}

torch::Tensor Conv::forward(const torch::Tensor& x) const {
  if (weight.size(2) > 1) return at::conv2d(x, ComputeWeight(), ComputeBias(), stride_, padding_);
  return Pointwise(x.flatten(2), ComputeWeight(), ComputeBias())
      .view({x.size(0), weight.size(0), x.size(2), x.size(3)});
}

PointwiseConv::PointwiseConv(int64_t in, int64_t out, Init init) : AffineLayer({out, in, 1}, init) {}

torch::Tensor PointwiseConv::forward(const torch::Tensor& x) const {
  return Pointwise(x, ComputeWeight(), ComputeBias());
}

GroupNorm::GroupNorm(int64_t channels) {
  weight = register_parameter("weight", torch::empty({channels}));
  bias = register_parameter("bias", torch::empty({channels}));
}

torch::Tensor GroupNorm::forward(const torch::Tensor& x) const {
  if (x.is_cpu()) return at::group_norm(x, kGroups, weight, bias, kNormEpsilon);
  // The kernels of other devices want parameters of x's type.
  return at::group_norm(x, kGroups, weight.to(x.scalar_type()), bias.to(x.scalar_type()), kNormEpsilon);
}

torch::Tensor ConsumingSilu(torch::Tensor x) { return at::GradMode::is_enabled() ? at::silu(x) : at::silu_(x); }

void Stage::Append(std::shared_ptr<Block> block) {
  blocks_.push_back(register_module(std::to_string(blocks_.size()), std::move(block)));
}

torch::Tensor Stage::forward(torch::Tensor x, const torch::Tensor& emb, const DropoutContext* dropout) {
  for (const auto& block : blocks_) {
    // With the alias x gets one gradient from a block in either case: sums have the same order.
    x = recompute_ && block->keeps_much() && at::GradMode::is_enabled() ? ForwardKeepingInputs(*block, x, emb, dropout)
                                                                        : block->forward(at::alias(x), emb, dropout);
  }
  return x;
}

}  // namespace p2::model
