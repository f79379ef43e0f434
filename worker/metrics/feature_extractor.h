// A network that turns images into features for FID and KID: a TorchScript module of the user's own.
#pragma once

#include <torch/types.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace p2::metrics {

// The module's `forward` takes float32 (N, C, H, W) in [0, 255] and returns (N, D); nothing else of it is called.
// Thread-compatible. A TorchScript file is a program: give only files that you trust as much as a binary.
class FeatureExtractor {
 public:
  // NOT_FOUND if there is no such file; INVALID_ARGUMENT if it is no TorchScript module (a checkpoint of weights, say)
  // or has no `forward`.
  static absl::StatusOr<std::unique_ptr<FeatureExtractor>> Load(const std::string& path,
                                                                torch::Device device = torch::kCPU);
  virtual ~FeatureExtractor() = default;

  // images (N, C, H, W), uint8 (cast, not scaled) or floating. Returns (N, D) float32 on the CPU, without autograd.
  // INVALID_ARGUMENT if the module refuses them, or returns something else.
  virtual absl::StatusOr<torch::Tensor> Extract(const torch::Tensor& images) = 0;
};

}  // namespace p2::metrics
