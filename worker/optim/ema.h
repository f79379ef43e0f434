// Moving average of the weights, fp32, after each update:
//   ema <- rate_n ema + (1 - rate_n) p,  rate_n = rate, or min(rate, (1 + n) / (10 + n)) with warm-up,
// n = updates before this one. Starts as a copy of the weights. Power-function averages (common/spec/power_ema.h) have
//   rate_n = (1 - 1/(n + 1))^(gamma + 1),
// which is 0 in the first update: nothing of the start stays in them.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

namespace p2::optim {

struct EmaOptions {
  std::string name;      // of the profile, "0.9999"
  double rate = 0.9999;  // REQUIRES: (0, 1).
  bool warmup = false;
  std::optional<double> gamma;  // A power-function average; rate and warmup are not used then. REQUIRES: >= 0.
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
