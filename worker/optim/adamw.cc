#include "worker/optim/adamw.h"

#include <ATen/ATen.h>
#include <ATen/ops/_fused_adamw.h>
#include <c10/core/GradMode.h>

#include <utility>

namespace p2::optim {

AdamW::AdamW(const AdamWOptions& options, at::Tensor params)
    : options_(options),
      params_(std::move(params)),
      m_(at::zeros_like(params_)),
      v_(at::zeros_like(params_)),
      updates_(at::zeros({}, params_.options())) {}

void AdamW::Step(const at::Tensor& grads, const at::Tensor& found_inf, double rate_scale) {
  c10::AutoGradMode no_grad(false);
  updates_.add_(1 - found_inf);
  at::_fused_adamw_({params_}, {grads}, {m_}, {v_}, {}, {updates_}, rate_scale * options_.learning_rate, options_.beta1,
                    options_.beta2, options_.weight_decay, options_.epsilon, /*amsgrad=*/false, /*maximize=*/false,
                    /*grad_scale=*/std::nullopt, found_inf);
}

void AdamW::StepAt(const at::Tensor& rate, const at::Tensor& grads, const at::Tensor& found_inf) {
  c10::AutoGradMode no_grad(false);
  updates_.add_(1 - found_inf);
  at::_fused_adamw_({params_}, {grads}, {m_}, {v_}, {}, {updates_}, rate, options_.beta1, options_.beta2,
                    options_.weight_decay, options_.epsilon, /*amsgrad=*/false, /*maximize=*/false,
                    /*grad_scale=*/std::nullopt, found_inf);
}

}  // namespace p2::optim
