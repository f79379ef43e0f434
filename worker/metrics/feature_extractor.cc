#include "worker/metrics/feature_extractor.h"

#include <torch/script.h>

#include <exception>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace p2::metrics {
namespace {

// The first line: torch's messages go on with its own call stack.
std::string FirstLine(absl::string_view message) { return std::string(message.substr(0, message.find('\n'))); }

// Exceptions of torch::jit are what a user's file makes of it, no bug of ours; so they become a Status here.
class TorchScriptExtractor final : public FeatureExtractor {
 public:
  TorchScriptExtractor(std::string path, torch::jit::Module module, torch::Device device)
      : path_(std::move(path)), module_(std::move(module)), device_(device) {}

  absl::StatusOr<torch::Tensor> Extract(const torch::Tensor& images) override {
    const torch::NoGradGuard no_grad;
    try {
      const torch::jit::IValue out = module_.forward({images.to(device_).to(torch::kFloat32)});
      if (!out.isTensor())
        return absl::InvalidArgumentError(absl::StrCat(path_, ": forward returned ", out.tagKind(), ", not a tensor"));
      const torch::Tensor features = out.toTensor();
      if (features.dim() != 2 || features.size(0) != images.size(0) || !features.is_floating_point()) {
        return absl::InvalidArgumentError(absl::StrCat(path_, ": forward returned ", features.dim(), " dimensions for ",
                                                       images.size(0), " images; (N, D) is needed"));
      }
      return features.to(torch::kCPU).to(torch::kFloat32).contiguous();
    } catch (const std::exception& e) {
      return absl::InvalidArgumentError(absl::StrCat(path_, ": forward failed: ", FirstLine(e.what())));
    }
  }

 private:
  const std::string path_;
  torch::jit::Module module_;
  const torch::Device device_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<FeatureExtractor>> FeatureExtractor::Load(const std::string& path,
                                                                         torch::Device device) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return absl::NotFoundError(absl::StrCat(path, " is not there"));
  if (!std::filesystem::is_regular_file(path, error))
    return absl::InvalidArgumentError(absl::StrCat(path, " is no file"));
  try {
    torch::jit::Module module = torch::jit::load(path, device);
    module.eval();
    if (!module.find_method("forward"))
      return absl::InvalidArgumentError(absl::StrCat(path, ": the TorchScript module has no method forward"));
    return std::make_unique<TorchScriptExtractor>(path, std::move(module), device);
  } catch (const std::exception& e) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is no TorchScript module (torch.jit.save writes one): ", FirstLine(e.what())));
  }
}

}  // namespace p2::metrics
