// AdamW over flat buffers (Loshchilov & Hutter, arXiv:1711.05101), decoupled weight decay, no AMSGrad:
//   p <- p (1 - lr wd);  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
//   p <- p - lr (m / (1 - b1^n)) / (sqrt(v / (1 - b2^n)) + eps),  n = updates including this one.
#pragma once

#include <ATen/core/Tensor.h>

namespace p2::optim {

struct AdamWOptions {
  double learning_rate = 2e-5;  // REQUIRES: > 0.
  double beta1 = 0.9;           // REQUIRES: [0, 1).
  double beta2 = 0.999;         // REQUIRES: [0, 1).
  double epsilon = 1e-8;        // REQUIRES: > 0.
  double weight_decay = 0.0;    // REQUIRES: >= 0.
};

// One fused kernel call a step. Thread-compatible.
class AdamW {
 public:
  // `params`: the flat buffer to update, (N) fp32; shared, never reallocated.
  AdamW(const AdamWOptions& options, at::Tensor params);

  // One update by `grads` (N), at `rate_scale` times the learning rate. `found_inf`: fp32 scalar on the same device,
  // exactly 0 or 1; where it is 1 nothing changes, the count of updates included. Synchronizes nothing on a GPU.
  void Step(const at::Tensor& grads, const at::Tensor& found_inf, double rate_scale = 1.0);
  // The same at the learning rate that stands in `rate`, a fp32 scalar on that device: what is recorded once follows
  // it.
  void StepAt(const at::Tensor& rate, const at::Tensor& grads, const at::Tensor& found_inf);

  const at::Tensor& m() const { return m_; }
  const at::Tensor& v() const { return v_; }
  // Updates so far: fp32 scalar, exact up to 2^24.
  const at::Tensor& updates() const { return updates_; }

 private:
  const AdamWOptions options_;
  at::Tensor params_;
  at::Tensor m_;
  at::Tensor v_;
  at::Tensor updates_;
};

}  // namespace p2::optim
