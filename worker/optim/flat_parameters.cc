#include "worker/optim/flat_parameters.h"

#include <ATen/ATen.h>
#include <torch/utils.h>

namespace p2::optim {

FlatLayout::FlatLayout(const torch::nn::Module& module) {
  for (const auto& item : module.named_parameters()) {
    const int64_t numel = item.value().numel();
    views_.push_back({item.key(), item.value().sizes().vec(), size_, numel});
    num_parameters_ += numel;
    size_ += (numel + kViewAlignment - 1) / kViewAlignment * kViewAlignment;
  }
}

at::Tensor FlatLayout::Allocate(at::Device device) const {
  return at::zeros({size_}, at::TensorOptions().dtype(at::kFloat).device(device));
}

at::Tensor FlatLayout::View(const at::Tensor& flat, const FlatView& view) const {
  return flat.narrow(0, view.offset, view.numel).view(view.sizes);
}

void FlatLayout::Bind(torch::nn::Module& module, const at::Tensor& flat) const {
  const auto parameters = module.named_parameters();
  TORCH_CHECK(parameters.size() == views_.size(), "module has ", parameters.size(), " parameters, the layout ",
              views_.size());
  for (size_t i = 0; i < views_.size(); ++i) {
    at::Tensor parameter = parameters[i].value();
    TORCH_CHECK(parameters[i].key() == views_[i].name && parameter.sizes() == at::IntArrayRef(views_[i].sizes),
                "parameter ", parameters[i].key(), " is not ", views_[i].name, " of the layout");
    parameter.set_data(View(flat, views_[i]));
  }
}

FlatParameters::FlatParameters(torch::nn::Module& module, at::Device device)
    : layout_(module), params_(layout_.Allocate(device)), grads_(layout_.Allocate(device)) {
  torch::NoGradGuard no_grad;
  const auto parameters = module.named_parameters();
  for (size_t i = 0; i < layout_.views().size(); ++i) {
    layout_.View(params_, layout_.views()[i]).copy_(parameters[i].value());
  }
  layout_.Bind(module, params_);
  for (size_t i = 0; i < layout_.views().size(); ++i) {
    parameters[i].value().mutable_grad() = layout_.View(grads_, layout_.views()[i]);
  }
}

}  // namespace p2::optim
