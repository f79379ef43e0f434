#include "worker/check/fixtures.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>

namespace p2::check {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

torch::ScalarType TorchType(safetensors::DType dtype) {
  switch (dtype) {
    case safetensors::DType::kBF16:
      return torch::kBFloat16;
    case safetensors::DType::kF16:
      return torch::kFloat16;
    case safetensors::DType::kF32:
      return torch::kFloat32;
    case safetensors::DType::kF64:
      return torch::kFloat64;
    case safetensors::DType::kI32:
      return torch::kInt32;
    case safetensors::DType::kI64:
      return torch::kInt64;
    case safetensors::DType::kU8:
      return torch::kUInt8;
    default:
      TORCH_CHECK(false, "fixtures hold no tensors of type ", std::string(safetensors::DTypeName(dtype)));
  }
}

double FiniteOrInfinity(double x) { return std::isfinite(x) ? x : kInfinity; }

torch::Tensor Doubles(const torch::Tensor& x) { return x.to(torch::kCPU).to(torch::kFloat64); }

struct Stats {
  double n, sum, sum_abs, l2, max_abs, proj;
};

Stats StatsOf(const torch::Tensor& tensor) {
  const torch::Tensor v = Doubles(tensor.detach()).reshape({-1});
  const torch::Tensor wave = at::cos(at::arange(v.numel(), torch::kFloat64) * 0.7 + 0.3);
  return {static_cast<double>(v.numel()), v.sum().item<double>(),       v.abs().sum().item<double>(),
          v.norm().item<double>(),        v.abs().max().item<double>(), (v * wave).sum().item<double>()};
}

Stats StatsOf(const nlohmann::json& json) {
  return {json.at("n"), json.at("sum"), json.at("sum_abs"), json.at("l2"), json.at("max_abs"), json.at("proj")};
}

}  // namespace

Tensors::Tensors(const std::string& path, torch::Device device) : device_(device) {
  auto reader = safetensors::Reader::Open(path);
  TORCH_CHECK(reader.ok(), std::string(reader.status().message()));
  reader_ = *std::move(reader);
}

torch::Tensor Tensors::operator[](const std::string& name) const {
  const safetensors::TensorInfo* info = reader_->Find(name);
  TORCH_CHECK(info != nullptr, reader_->path(), " has no tensor ", name);
  torch::Tensor out = at::empty(info->shape, TorchType(info->dtype));
  const absl::Status read =
      reader_->Read(name, absl::MakeSpan(static_cast<std::byte*>(out.mutable_data_ptr()), out.nbytes()));
  TORCH_CHECK(read.ok(), std::string(read.message()));
  return out.to(device_);
}

std::vector<double> Tensors::Doubles(const std::string& name) const {
  const torch::Tensor values = check::Doubles((*this)[name]);
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

std::vector<std::string> Tensors::Names() const {
  std::vector<std::string> names;
  for (const safetensors::TensorInfo& info : reader_->tensors()) names.push_back(info.name);
  return names;
}

nlohmann::json Fixtures::Json(const std::string& name) const {
  std::ifstream in(Path(name));
  TORCH_CHECK(in.good(), Path(name), " cannot be read");
  nlohmann::json json = nlohmann::json::parse(in, nullptr, /*allow_exceptions=*/false);
  TORCH_CHECK(!json.is_discarded(), Path(name), " is no JSON");
  return json;
}

double RelativeError(double got, double want) {
  const double difference = std::abs(got - want);
  return FiniteOrInfinity(want == 0 ? difference : difference / std::abs(want));
}

double MaxDifference(const torch::Tensor& a, const torch::Tensor& b) {
  if (a.sizes() != b.sizes()) return kInfinity;
  if (a.numel() == 0) return 0;
  return FiniteOrInfinity((Doubles(a) - Doubles(b)).abs().max().item<double>());
}

double MaxRelativeError(const torch::Tensor& got, const torch::Tensor& want) {
  if (got.sizes() != want.sizes()) return kInfinity;
  const torch::Tensor w = Doubles(want), d = (Doubles(got) - w).abs();
  return FiniteOrInfinity(at::where(w == 0, d, d / w.abs()).max().item<double>());
}

double RelativeL2(const torch::Tensor& a, const torch::Tensor& b) {
  if (a.sizes() != b.sizes()) return kInfinity;
  const torch::Tensor reference = Doubles(b);
  return FiniteOrInfinity(((Doubles(a) - reference).norm() / reference.norm()).item<double>());
}

double MaxRelativeError(absl::Span<const double> got, absl::Span<const double> want, double floor) {
  if (got.size() != want.size()) return kInfinity;
  double worst = 0;
  for (size_t i = 0; i < got.size(); ++i)
    worst = std::max(worst, FiniteOrInfinity(std::abs(got[i] - want[i]) / (std::abs(want[i]) + floor)));
  return worst;
}

double StatError(const torch::Tensor& tensor, const nlohmann::json& stats) {
  const Stats got = StatsOf(tensor), want = StatsOf(stats);
  if (got.n != want.n) return kInfinity;
  const double scale = want.sum_abs == 0 ? 1 : want.sum_abs;
  return FiniteOrInfinity(std::max({RelativeError(got.l2, want.l2), RelativeError(got.sum_abs, want.sum_abs),
                                    RelativeError(got.max_abs, want.max_abs), std::abs(got.sum - want.sum) / scale,
                                    std::abs(got.proj - want.proj) / scale}));
}

double StatDistance(const torch::Tensor& tensor, const nlohmann::json& stats) {
  const Stats got = StatsOf(tensor), want = StatsOf(stats);
  if (got.n != want.n) return kInfinity;
  const double spread =
      std::max({std::abs(got.sum_abs - want.sum_abs), std::abs(got.sum - want.sum), std::abs(got.proj - want.proj)});
  return FiniteOrInfinity(
      std::max({std::abs(got.l2 - want.l2), std::abs(got.max_abs - want.max_abs), spread / std::sqrt(want.n)}));
}

torch::Tensor TensorOf(const nlohmann::json& numbers) {
  if (!numbers.is_array()) return at::full({}, numbers.get<double>(), torch::kFloat64);
  std::vector<torch::Tensor> rows;
  for (const nlohmann::json& row : numbers) rows.push_back(TensorOf(row));
  return rows.empty() ? at::empty({0}, torch::kFloat64) : at::stack(rows);
}

}  // namespace p2::check
