#include "tests/support/golden.h"

#include <ATen/ATen.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace p2::testing {
namespace {

torch::ScalarType TorchType(safetensors::DType dtype) {
  switch (dtype) {
    case safetensors::DType::kF16:
      return torch::kFloat16;
    case safetensors::DType::kF32:
      return torch::kFloat32;
    case safetensors::DType::kF64:
      return torch::kFloat64;
    case safetensors::DType::kI64:
      return torch::kInt64;
    case safetensors::DType::kU8:
      return torch::kUInt8;
    default:
      TORCH_CHECK(false, "no golden file holds ", safetensors::DTypeName(dtype).data());
  }
}

}  // namespace

std::string GoldenPath(const std::string& name) { return P2_SOURCE_DIR "/tests/golden/" + name; }

nlohmann::json GoldenJson(const std::string& name) {
  std::ifstream in(GoldenPath(name));
  TORCH_CHECK(in.good(), GoldenPath(name), " cannot be read");
  return nlohmann::json::parse(in);
}

GoldenTensors::GoldenTensors(const std::string& name) {
  auto reader = safetensors::Reader::Open(GoldenPath(name));
  TORCH_CHECK(reader.ok(), reader.status().ToString());
  reader_ = *std::move(reader);
}

torch::Tensor GoldenTensors::operator[](const std::string& tensor) const {
  const safetensors::TensorInfo* info = reader_->Find(tensor);
  TORCH_CHECK(info != nullptr, reader_->path(), " has no tensor ", tensor);
  torch::Tensor out = torch::empty(info->shape, TorchType(info->dtype));
  const absl::Status read =
      reader_->Read(tensor, absl::MakeSpan(static_cast<std::byte*>(out.mutable_data_ptr()), out.nbytes()));
  TORCH_CHECK(read.ok(), read.ToString());
  return out;
}

double MaxDifference(const torch::Tensor& a, const torch::Tensor& b) {
  const double infinity = std::numeric_limits<double>::infinity();
  if (a.sizes() != b.sizes()) return infinity;
  const double difference = (a.to(torch::kFloat64) - b.to(torch::kFloat64)).abs().max().item<double>();
  return std::isfinite(difference) ? difference : infinity;
}

double RelativeL2(const torch::Tensor& a, const torch::Tensor& b) {
  const torch::Tensor reference = b.to(torch::kFloat64);
  return ((a.to(torch::kFloat64) - reference).norm() / reference.norm()).item<double>();
}

void ExpectStats(const torch::Tensor& tensor, const nlohmann::json& stats, double tolerance, const std::string& what) {
  const torch::Tensor v = tensor.detach().to(torch::kFloat64).reshape({-1});
  ASSERT_EQ(v.numel(), stats.at("n").get<int64_t>()) << what;
  const auto at = [&](const char* key) { return stats.at(key).get<double>(); };
  const torch::Tensor wave = torch::cos(torch::arange(v.numel(), torch::kFloat64) * 0.7 + 0.3);
  EXPECT_NEAR(v.norm().item<double>(), at("l2"), tolerance * at("l2")) << what << ": l2";
  EXPECT_NEAR(v.abs().sum().item<double>(), at("sum_abs"), tolerance * at("sum_abs")) << what << ": sum_abs";
  EXPECT_NEAR(v.sum().item<double>(), at("sum"), tolerance * at("sum_abs")) << what << ": sum";
  EXPECT_NEAR((v * wave).sum().item<double>(), at("proj"), tolerance * at("sum_abs")) << what << ": proj";
}

}  // namespace p2::testing
