#include "worker/check/published.h"

#include <ATen/ATen.h>

#include <memory>

#include "worker/checkpoint/pt_archive.h"

namespace p2::check {
namespace {

std::unique_ptr<checkpoint::PtArchive> OpenArchive(const std::string& path) {
  auto archive = checkpoint::PtArchive::Open(path);
  TORCH_CHECK(archive.ok(), std::string(archive.status().message()));
  return *std::move(archive);
}

absl::Span<float> Floats(torch::Tensor& tensor) {
  return absl::MakeSpan(tensor.mutable_data_ptr<float>(), static_cast<size_t>(tensor.numel()));
}

std::vector<checkpoint::MutableTensorView> Allocate(const std::vector<NamedShape>& parameters, NamedTensors& tensors) {
  std::vector<checkpoint::MutableTensorView> views;
  for (const NamedShape& parameter : parameters) {
    torch::Tensor& tensor = tensors[parameter.name] = at::zeros(parameter.shape);
    views.push_back({parameter.name, parameter.shape, Floats(tensor)});
  }
  return views;
}

}  // namespace

StateDictFile ReadStateDictFile(const std::string& path) {
  const auto archive = OpenArchive(path);
  const auto entries = checkpoint::StateDict(*archive);
  TORCH_CHECK(entries.ok(), std::string(entries.status().message()));
  StateDictFile file;
  for (const auto& [name, object] : *entries) {
    torch::Tensor tensor = at::zeros(object->shape);
    const absl::Status read = archive->ReadFloats(*object, Floats(tensor));
    TORCH_CHECK(read.ok(), std::string(read.message()));
    file.order.push_back(name);
    file.tensors[name] = tensor;
  }
  return file;
}

OptimizerFile ReadOptimizerFile(const std::string& path, const std::vector<NamedShape>& parameters) {
  const auto archive = OpenArchive(path);
  OptimizerFile file;
  const auto exp_avg = Allocate(parameters, file.exp_avg), exp_avg_sq = Allocate(parameters, file.exp_avg_sq);
  const auto settings = checkpoint::ReadPublishedOptimizer(*archive, exp_avg, exp_avg_sq);
  TORCH_CHECK(settings.ok(), std::string(settings.status().message()));
  file.settings = *settings;
  return file;
}

}  // namespace p2::check
