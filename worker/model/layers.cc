#include "worker/model/layers.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <string>
#include <utility>

namespace p2::model {

constexpr int64_t kGroups = 32;
constexpr double kNormEpsilon = 1e-5;

namespace {

// A 1x1 convolution as one batched matrix product: torch's own takes a slow path with one thread. x (B, in, L).
torch::Tensor Pointwise(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias) {
  const torch::Tensor matrix = weight.flatten(1);  // (out, in)
  return at::baddbmm(bias.unsqueeze(1), matrix.expand({x.size(0), matrix.size(0), matrix.size(1)}), x);
}

}  // namespace

AffineLayer::AffineLayer(at::IntArrayRef weight_shape, Init init) : init(init) {
  weight = register_parameter("weight", torch::empty(weight_shape));
  bias = register_parameter("bias", torch::empty({weight_shape[0]}));
}

Linear::Linear(int64_t in, int64_t out) : AffineLayer({out, in}, Init::kUniform) {}

torch::Tensor Linear::forward(const torch::Tensor& x) const { return at::linear(x, weight, bias); }

Conv::Conv(int64_t in, int64_t out, int64_t kernel, Init init, int64_t stride)
    : AffineLayer({out, in, kernel, kernel}, init), stride_(stride), padding_(kernel / 2) {}

torch::Tensor Conv::forward(const torch::Tensor& x) const {
  if (weight.size(2) > 1) return at::conv2d(x, weight, bias, stride_, padding_);
  return Pointwise(x.flatten(2), weight, bias).view({x.size(0), weight.size(0), x.size(2), x.size(3)});
}

PointwiseConv::PointwiseConv(int64_t in, int64_t out, Init init) : AffineLayer({out, in, 1}, init) {}

torch::Tensor PointwiseConv::forward(const torch::Tensor& x) const { return Pointwise(x, weight, bias); }

GroupNorm::GroupNorm(int64_t channels) {
  weight = register_parameter("weight", torch::empty({channels}));
  bias = register_parameter("bias", torch::empty({channels}));
}

torch::Tensor GroupNorm::forward(const torch::Tensor& x) const {
  return at::group_norm(x, kGroups, weight, bias, kNormEpsilon);
}

torch::Tensor ConsumingSilu(torch::Tensor x) { return at::GradMode::is_enabled() ? at::silu(x) : at::silu_(x); }

void Stage::Append(std::shared_ptr<Block> block) {
  blocks_.push_back(register_module(std::to_string(blocks_.size()), std::move(block)));
}

torch::Tensor Stage::forward(torch::Tensor x, const torch::Tensor& emb, const DropoutContext* dropout) {
  for (const auto& block : blocks_) x = block->forward(x, emb, dropout);
  return x;
}

}  // namespace p2::model
