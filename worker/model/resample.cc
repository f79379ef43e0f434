#include "worker/model/resample.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/torch.h>

#include <algorithm>

namespace p2::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kPixelsOfAThread = 32768;  // At least.

int64_t Grain(int64_t row_pixels) { return std::max<int64_t>(1, kPixelsOfAThread / std::max<int64_t>(1, row_pixels)); }

// Each pixel times `scale` four times: (B, C, H, W) -> (B, C, 2H, 2W).
template <typename T>
void Spread(const T* in, T* out, int64_t rows, int64_t width, float scale) {
  at::parallel_for(0, rows, Grain(4 * width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* const source = in + row * width;
      T* const target = out + row * 4 * width;
      for (int64_t x = 0; x < width; ++x) {
        target[2 * x] = target[2 * x + 1] = static_cast<T>(static_cast<float>(source[x]) * scale);
      }
      std::copy_n(target, 2 * width, target + 2 * width);
    }
  });
}

// The sum of 2 x 2 pixels times `scale`, in torch's order: (B, C, 2H, 2W) -> (B, C, H, W).
template <typename T>
void Gather(const T* in, T* out, int64_t rows, int64_t width, float scale) {
  at::parallel_for(0, rows, Grain(4 * width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* const upper = in + row * 4 * width;
      const T* const lower = upper + 2 * width;
      T* const target = out + row * width;
      for (int64_t x = 0; x < width; ++x) {
        const float sum = static_cast<float>(upper[2 * x]) + static_cast<float>(upper[2 * x + 1]) +
                          static_cast<float>(lower[2 * x]) + static_cast<float>(lower[2 * x + 1]);
        target[x] = static_cast<T>(sum * scale);
      }
    }
  });
}

torch::Tensor Spread(const torch::Tensor& given, float scale) {
  const torch::Tensor x = given.contiguous();
  torch::Tensor out = at::empty({x.size(0), x.size(1), 2 * x.size(2), 2 * x.size(3)}, x.options());
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x.scalar_type(), "Spread", [&] {
    Spread(x.const_data_ptr<scalar_t>(), out.mutable_data_ptr<scalar_t>(), x.numel() / std::max<int64_t>(1, x.size(3)),
           x.size(3), scale);
  });
  return out;
}

torch::Tensor Gather(const torch::Tensor& given, float scale) {
  const torch::Tensor x = given.contiguous();
  torch::Tensor out = at::empty({x.size(0), x.size(1), x.size(2) / 2, x.size(3) / 2}, x.options());
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x.scalar_type(), "Gather", [&] {
    Gather(x.const_data_ptr<scalar_t>(), out.mutable_data_ptr<scalar_t>(),
           out.numel() / std::max<int64_t>(1, out.size(3)), out.size(3), scale);
  });
  return out;
}

// Each is the other's transpose.
struct Up : torch::autograd::Function<Up> {
  static torch::Tensor forward(AutogradContext*, const torch::Tensor& x) { return Spread(x, 1); }
  static variable_list backward(AutogradContext*, const variable_list& gradients) { return {Gather(gradients[0], 1)}; }
};

struct Down : torch::autograd::Function<Down> {
  static torch::Tensor forward(AutogradContext*, const torch::Tensor& x) { return Gather(x, 0.25F); }
  static variable_list backward(AutogradContext*, const variable_list& gradients) {
    return {Spread(gradients[0], 0.25F)};
  }
};

}  // namespace

torch::Tensor UpsampleByTwo(const torch::Tensor& x) {
  if (!x.is_cpu()) return at::upsample_nearest2d(x, {2 * x.size(2), 2 * x.size(3)});
  return Up::apply(x);
}

torch::Tensor DownsampleByTwo(const torch::Tensor& x) {
  if (!x.is_cpu() || x.size(2) % 2 != 0 || x.size(3) % 2 != 0) return at::avg_pool2d(x, 2);
  return Down::apply(x);
}

}  // namespace p2::model
