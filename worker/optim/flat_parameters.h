// One flat fp32 buffer a kind of state (parameters, gradients, m, v, each EMA), with views that stand in for the
// module's tensors: one optimizer call, one EMA call a profile, one copy for a snapshot.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <string>
#include <vector>

namespace p2::optim {

// Where one parameter lies in every flat buffer.
struct FlatView {
  std::string name;  // state-dict name
  std::vector<int64_t> sizes;
  int64_t offset = 0;  // elements, a multiple of kViewAlignment
  int64_t numel = 0;
};

// Views start at multiples of this many elements, so that a buffer may be cut at any view without changing a bit of
// what the vectorized kernels compute. The padding between views is zero and stays zero.
inline constexpr int64_t kViewAlignment = 64;

// The common layout of a module's flat buffers, in the order of its named parameters. Immutable.
class FlatLayout {
 public:
  explicit FlatLayout(const torch::nn::Module& module);

  const std::vector<FlatView>& views() const { return views_; }
  // Elements of a buffer, padding included.
  int64_t size() const { return size_; }
  // Elements of all parameters.
  int64_t num_parameters() const { return num_parameters_; }

  // A zeroed buffer, (size()), fp32.
  at::Tensor Allocate(at::Device device) const;
  // The parameter's share of `flat` in its own shape; shares memory.
  at::Tensor View(const at::Tensor& flat, const FlatView& view) const;
  // Makes the module's parameters views of `flat`, whose contents stay. `module` has this layout.
  void Bind(torch::nn::Module& module, const at::Tensor& flat) const;

 private:
  std::vector<FlatView> views_;
  int64_t size_ = 0;
  int64_t num_parameters_ = 0;
};

// A module's parameters and gradients in two flat buffers. The module's parameters become views of `params` (with the
// values that they had) and their .grad views of `grads`, into which backward accumulates. Thread-compatible.
class FlatParameters {
 public:
  FlatParameters(torch::nn::Module& module, at::Device device);

  const FlatLayout& layout() const { return layout_; }
  const at::Tensor& params() const { return params_; }  // (size)
  const at::Tensor& grads() const { return grads_; }    // (size)
  void ZeroGrads() { grads_.zero_(); }

 private:
  const FlatLayout layout_;
  at::Tensor params_;
  at::Tensor grads_;
};

}  // namespace p2::optim
