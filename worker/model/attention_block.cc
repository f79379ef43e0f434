#include "worker/model/attention_block.h"

#include <ATen/ATen.h>

#include <cmath>

namespace p2::model {

AttentionBlock::AttentionBlock(int64_t channels, int64_t heads) : heads_(heads) {
  norm_ = register_module("norm", std::make_shared<GroupNorm>(channels));
  qkv_ = register_module("qkv", std::make_shared<PointwiseConv>(channels, 3 * channels));
  proj_out_ = register_module("proj_out", std::make_shared<PointwiseConv>(channels, channels, Init::kZero));
}

torch::Tensor AttentionBlock::forward(const torch::Tensor& x, const torch::Tensor&, const DropoutContext*) {
  const int64_t batch = x.size(0), channels = x.size(1), pixels = x.size(2) * x.size(3);
  const int64_t ch = channels / heads_;
  const double scale = 1.0 / std::sqrt(std::sqrt(static_cast<double>(ch)));
  const torch::Tensor flat = x.reshape({batch, channels, pixels});
  const auto qkv = qkv_->forward(norm_->forward(flat)).reshape({batch * heads_, 3 * ch, pixels}).chunk(3, 1);
  const torch::Tensor logits = at::bmm((qkv[0] * scale).transpose(1, 2), qkv[1] * scale);  // (B heads, L, L)
  const torch::Tensor weights = at::softmax(logits, -1, torch::kFloat32).to(logits.scalar_type());
  const torch::Tensor mixed = at::bmm(qkv[2], weights.transpose(1, 2));  // (B heads, ch, L)
  return (flat + proj_out_->forward(mixed.reshape({batch, channels, pixels}))).reshape(x.sizes());
}

}  // namespace p2::model
