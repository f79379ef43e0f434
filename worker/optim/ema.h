// Exponential moving average of the weights, fp32, after each update:
//   ema <- rate_n ema + (1 - rate_n) p,  rate_n = rate, or min(rate, (1 + n) / (10 + n)) with warm-up,
// n = updates before this one. Starts as a copy of the weights.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace p2::optim {

struct EmaOptions {
  std::string name;      // of the profile, "0.9999"
  double rate = 0.9999;  // REQUIRES: (0, 1).
  bool warmup = false;
};

// The rate under which a weight's share halves in `half_life_images`: 2^(-batch / half_life). REQUIRES: both > 0.
double EmaRateOfHalfLife(double half_life_images, double batch);

// One lerp call over the flat buffer an update. Thread-compatible.
class Ema {
 public:
  Ema(EmaOptions options, const at::Tensor& params);

  // `params`: (N) fp32 after the update. `updates`: AdamW::updates() after it, so n = updates - 1. Where `found_inf` is
  // 1 the average stays as it is, bit for bit. Synchronizes nothing on a GPU.
  void Update(const at::Tensor& params, const at::Tensor& updates, const at::Tensor& found_inf);

  const EmaOptions& options() const { return options_; }
  const at::Tensor& value() const { return value_; }  // (N)

 private:
  const EmaOptions options_;
  at::Tensor value_;
};

}  // namespace p2::optim
