// Self-attention over the pixels of a feature map.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>

#include "worker/model/layers.h"

namespace p2::model {

// x + proj_out(attention(qkv(norm(x)))). The channels of qkv are split into heads first, then into q, k and v inside
// each head (the published code's legacy order); q and k are scaled by ch^(-1/4) each, ch = channels of a head; softmax
// in fp32.
class AttentionBlock : public Block {
 public:
  // REQUIRES: `heads` divides `channels`.
  AttentionBlock(int64_t channels, int64_t heads);

  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& emb, const DropoutContext* dropout) override;
  bool keeps_much() const override { return true; }

 private:
  const int64_t heads_;
  std::shared_ptr<GroupNorm> norm_;
  std::shared_ptr<PointwiseConv> qkv_, proj_out_;
};

}  // namespace p2::model
