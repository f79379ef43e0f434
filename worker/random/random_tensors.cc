#include "worker/random/random_tensors.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "worker/random/box_muller.h"
#include "worker/random/normal.h"
#include "worker/random/philox.h"

#ifdef P2_CUDA_KERNELS
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "worker/random/cuda_kernels.h"
#endif

namespace p2::random {
namespace {

constexpr int64_t kChunk = 1 << 14;  // Elements of a unit of parallel work; a multiple of a block's 4 or 8.

// Calls fill(row, begin, end) over all elements of `rows` rows, in pieces that begin at a multiple of kChunk.
template <typename Fill>
void ForEachPiece(int64_t rows, int64_t elements, const Fill& fill) {
  const int64_t pieces = (elements + kChunk - 1) / kChunk;
  at::parallel_for(0, rows * pieces, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t begin = i % pieces * kChunk;
      fill(i / pieces, begin, std::min(begin + kChunk, elements));
    }
  });
}

#ifdef P2_CUDA_KERNELS
torch::Tensor SampleOn(torch::Device device, const RowKey& key) {
  if (key.device_sample.defined()) return key.device_sample;
  return at::full({}, static_cast<int64_t>(key.first_sample), torch::dtype(torch::kInt64).device(device));
}
#endif

template <typename T>
void MaskOnHost(const torch::Tensor& in, const RowKey& key, DropoutRate rate, const torch::Tensor& out) {
  const int64_t rows = in.size(0), elements = rows > 0 ? in.numel() / rows : 0;
  const T* source = static_cast<const T*>(in.const_data_ptr());
  T* target = static_cast<T*>(out.mutable_data_ptr());
  ForEachPiece(rows, elements, [&](int64_t row, int64_t begin, int64_t end) {
    const int64_t at = row * elements + begin;
    ApplyDropoutMask(key.seed, key.stream, key.first_sample + static_cast<std::uint64_t>(row),
                     static_cast<std::uint32_t>(begin / 8), rate, source + at, target + at,
                     static_cast<std::size_t>(end - begin));
  });
}

torch::Tensor Masked(const torch::Tensor& x, const RowKey& key, DropoutRate rate) {
  const bool bf16 = x.scalar_type() == torch::kBFloat16;
  TORCH_CHECK(bf16 || x.scalar_type() == torch::kFloat32,
              "dropout by the random map is made for float32 and bfloat16, not for ", x.toString());
#ifdef P2_CUDA_KERNELS
  if (x.is_cuda() && bf16) return Masked(x.to(torch::kFloat32), key, rate).to(torch::kBFloat16);
#endif
  const torch::Tensor in = x.contiguous();
  torch::Tensor out = torch::empty_like(in);
#ifdef P2_CUDA_KERNELS
  if (x.is_cuda()) {
    const int64_t rows = in.size(0), elements = rows > 0 ? in.numel() / rows : 0;
    const float* source = in.const_data_ptr<float>();
    float* target = out.mutable_data_ptr<float>();
    const c10::cuda::CUDAGuard guard(x.device());
    const torch::Tensor g = SampleOn(x.device(), key);
    LaunchDropoutMask(key.seed, key.stream, g.const_data_ptr<int64_t>(), rate, source, target, rows, elements,
                      c10::cuda::getCurrentCUDAStream());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return out;
  }
#endif
  TORCH_CHECK(x.device().is_cpu(), "this build has no dropout kernel for ", x.device(),
              "; configure where nvcc is found, or set model.dropout=0");
  if (bf16) {
    MaskOnHost<std::uint16_t>(in, key, rate, out);
  } else {
    MaskOnHost<float>(in, key, rate, out);
  }
  return out;
}

struct DropoutFunction : torch::autograd::Function<DropoutFunction> {
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& x, const RowKey& key,
                               DropoutRate rate) {
    context->saved_data["seed"] = static_cast<int64_t>(key.seed);
    context->saved_data["stream"] = static_cast<int64_t>(key.stream);
    context->saved_data["first_sample"] = static_cast<int64_t>(key.first_sample);
    context->saved_data["device_sample"] = key.device_sample;
    context->saved_data["threshold"] = static_cast<int64_t>(rate.threshold);
    context->saved_data["scale"] = static_cast<double>(rate.scale);
    return Masked(x, key, rate);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    auto& saved = context->saved_data;
    const RowKey key{static_cast<std::uint64_t>(saved["seed"].toInt()),
                     static_cast<std::uint32_t>(saved["stream"].toInt()),
                     static_cast<std::uint64_t>(saved["first_sample"].toInt()), saved["device_sample"].toTensor()};
    const DropoutRate rate{static_cast<std::uint32_t>(saved["threshold"].toInt()),
                           static_cast<float>(saved["scale"].toDouble())};
    return {Masked(gradients[0], key, rate), {}, {}};
  }
};

}  // namespace

bool HasCudaKernels() {
#ifdef P2_CUDA_KERNELS
  return true;
#else
  return false;
#endif
}

torch::Tensor Normal(const RowKey& key, at::IntArrayRef shape, std::uint32_t first_block, torch::Device device) {
  const int64_t rows = shape[0], elements = rows > 0 ? c10::multiply_integers(shape) / rows : 0;
#ifdef P2_CUDA_KERNELS
  if (device.is_cuda()) {
    torch::Tensor out = torch::empty(shape, torch::dtype(torch::kFloat32).device(device));
    const c10::cuda::CUDAGuard guard(out.device());
    const torch::Tensor g = SampleOn(out.device(), key);
    LaunchNormal(key.seed, key.stream, g.const_data_ptr<int64_t>(), first_block, out.mutable_data_ptr<float>(), rows,
                 elements, c10::cuda::getCurrentCUDAStream());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return out;
  }
#endif
  torch::Tensor out = torch::empty(shape, torch::kFloat32);
  float* data = out.mutable_data_ptr<float>();
  ForEachPiece(rows, elements, [&](int64_t row, int64_t begin, int64_t end) {
    FillNormal(key.seed, key.stream, key.first_sample + static_cast<std::uint64_t>(row),
               first_block + static_cast<std::uint32_t>(begin / 4), data + row * elements + begin,
               static_cast<std::size_t>(end - begin));
  });
  return out.to(device);
}

std::uint32_t NormalBlocks(std::int64_t elements) { return static_cast<std::uint32_t>((elements + 3) / 4); }

torch::Tensor Timesteps(const RowKey& key, std::int64_t rows, std::int64_t num_timesteps, torch::Device device) {
#ifdef P2_CUDA_KERNELS
  if (device.is_cuda()) {
    torch::Tensor out = torch::empty({rows}, torch::dtype(torch::kInt64).device(device));
    const c10::cuda::CUDAGuard guard(out.device());
    const torch::Tensor g = SampleOn(out.device(), key);
    LaunchTimesteps(key.seed, key.stream, g.const_data_ptr<int64_t>(), static_cast<std::uint32_t>(num_timesteps),
                    out.mutable_data_ptr<int64_t>(), rows, c10::cuda::getCurrentCUDAStream());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return out;
  }
#endif
  torch::Tensor t = torch::empty({rows}, torch::kInt64);
  int64_t* data = t.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < rows; ++i) {
    const std::uint32_t u = DrawScalar(key.seed, key.stream, key.first_sample + static_cast<std::uint64_t>(i));
    data[i] = ScaleToRange(u, static_cast<std::uint32_t>(num_timesteps));
  }
  return t.to(device);
}

torch::Tensor SymmetricUniform(const RowKey& key, at::IntArrayRef shape, double bound) {
  torch::Tensor out = torch::empty(shape, torch::kFloat32);
  float* data = out.mutable_data_ptr<float>();
  const auto b = static_cast<float>(bound);
  ForEachPiece(1, out.numel(), [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; j += 4) {
      const Words words = Draw(key.seed, key.stream, key.first_sample, static_cast<std::uint32_t>(j / 4));
      for (int64_t k = 0; k < std::min<int64_t>(4, end - j); ++k) {
        data[j + k] = (2.0f * Uniform24(words.w[k]) - 1.0f) * b;
      }
    }
  });
  return out;
}

torch::Tensor Dropout(const torch::Tensor& x, const RowKey& key, DropoutRate rate) {
  return rate.threshold == 0 ? x : DropoutFunction::apply(x, key, rate);
}

}  // namespace p2::random
