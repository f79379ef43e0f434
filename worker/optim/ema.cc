#include "worker/optim/ema.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <utility>

namespace p2::optim {

double EmaRateOfHalfLife(double half_life_images, double batch) { return std::exp2(-batch / half_life_images); }

Ema::Ema(EmaOptions options, const at::Tensor& params)
    : options_(std::move(options)), value_(params.detach().clone()) {}

void Ema::Update(const at::Tensor& params, const at::Tensor& updates, const at::Tensor& found_inf) {
  c10::AutoGradMode no_grad(false);
  at::Tensor pull = 1 - found_inf.to(at::kDouble);  // 1 - rate_n, or 0 where nothing may change
  if (options_.gamma) {
    // At least 1: before the first good update it would be infinity times 0.
    const at::Tensor n = updates.to(at::kDouble).clamp_min(1);
    pull.mul_(n.reciprocal().neg_().log1p_().mul_(*options_.gamma + 1).expm1_().neg_());
  } else if (options_.warmup) {
    const at::Tensor n = updates.to(at::kDouble) - 1;
    pull.mul_(1 - ((1 + n) / (10 + n)).clamp_max(options_.rate));
  } else {
    pull.mul_(1 - options_.rate);
  }
  value_.lerp_(params, pull.to(at::kFloat));
}

}  // namespace p2::optim
