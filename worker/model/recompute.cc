#include "worker/model/recompute.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/autograd/variable.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace p2::model {
namespace {

using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

// The parameters are inputs, so that their gradients leave by the outer pass: that is the one which a reducer watches.
class KeptInputs final : public torch::autograd::Node {
 public:
  KeptInputs(Block& block, const torch::Tensor& x, const torch::Tensor& emb, const DropoutContext* dropout)
      : block_(block),
        parameters_(block.parameters()),
        x_(x, /*is_output=*/false),
        emb_(emb, /*is_output=*/false),
        dropout_(dropout != nullptr ? std::make_optional(*dropout) : std::nullopt) {
    variable_list inputs{x, emb};
    inputs.insert(inputs.end(), parameters_.begin(), parameters_.end());
    for (const torch::Tensor& input : inputs) add_next_edge(torch::autograd::impl::gradient_edge(input));
  }

  std::string name() const override { return "KeptInputs"; }

  void release_variables() override {
    x_.reset_data();
    emb_.reset_data();
  }

 protected:
  variable_list apply(variable_list&& gradients) override {
    variable_list inputs{x_.unpack(), emb_.unpack()};
    for (torch::Tensor& input : inputs) input = input.detach().requires_grad_(input.requires_grad());
    inputs.insert(inputs.end(), parameters_.begin(), parameters_.end());
    const at::AutoGradMode record(true);
    const torch::Tensor out = block_.forward(inputs[0], inputs[1], dropout_ ? &*dropout_ : nullptr);
    std::vector<size_t> wanted;
    variable_list sources;
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (!inputs[i].requires_grad()) continue;
      wanted.push_back(i);
      sources.push_back(inputs[i]);
    }
    const variable_list found = torch::autograd::grad({out}, sources, gradients, /*retain_graph=*/false,
                                                      /*create_graph=*/false, /*allow_unused=*/true);
    variable_list result(inputs.size());
    for (size_t i = 0; i < wanted.size(); ++i) result[wanted[i]] = found[i];
    return result;
  }

 private:
  Block& block_;
  const variable_list parameters_;
  SavedVariable x_, emb_;
  const std::optional<DropoutContext> dropout_;
};

}  // namespace

torch::Tensor ForwardKeepingInputs(Block& block, const torch::Tensor& x, const torch::Tensor& emb,
                                   const DropoutContext* dropout) {
  const std::shared_ptr<KeptInputs> node(new KeptInputs(block, x, emb, dropout), torch::autograd::deleteNode);
  torch::Tensor out = [&] {
    const at::NoGradGuard no_grad;
    return block.forward(x, emb, dropout);
  }();
  torch::autograd::set_history(out, node);
  return out;
}

}  // namespace p2::model
