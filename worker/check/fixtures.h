// A directory of reference numbers (format: tests/golden/README.md), and how to compare with them.
#pragma once

#include <torch/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "common/safetensors/safetensors.h"
#include "nlohmann/json.hpp"

namespace p2::check {

// The tensors of one safetensors file, read on demand. Throws c10::Error naming file and tensor if one is missing,
// damaged or of an unknown type.
class Tensors {
 public:
  explicit Tensors(const std::string& path, torch::Device device = torch::kCPU);

  // In the file's own type, on the device.
  torch::Tensor operator[](const std::string& name) const;
  std::vector<double> Doubles(const std::string& name) const;
  bool Has(const std::string& name) const { return reader_->Find(name) != nullptr; }
  std::vector<std::string> Names() const;

 private:
  const torch::Device device_;
  std::unique_ptr<safetensors::Reader> reader_;
};

// Immutable. Every read throws what names the file.
class Fixtures {
 public:
  // `device`: where tensors are put, and so where what is compared with them is computed.
  explicit Fixtures(std::string directory, torch::Device device = torch::kCPU)
      : directory_(std::move(directory)), device_(device) {}

  const std::string& directory() const { return directory_; }
  torch::Device device() const { return device_; }
  std::string Path(const std::string& name) const { return directory_ + "/" + name; }
  nlohmann::json Json(const std::string& name) const;
  check::Tensors Tensors(const std::string& name) const { return check::Tensors(Path(name), device_); }

 private:
  const std::string directory_;
  const torch::Device device_;
};

// Numbers and tensors are compared on the CPU, wherever they lie.

// |got - want| / |want|; infinity where one is not finite; |got| where want is 0.
double RelativeError(double got, double want);

// The largest |a - b|, in float64; infinity where shapes differ or something is not finite.
double MaxDifference(const torch::Tensor& a, const torch::Tensor& b);

// The largest relative error of an element; infinity as above.
double MaxRelativeError(const torch::Tensor& got, const torch::Tensor& want);

// ||a - b|| / ||b||, in float64; infinity where shapes differ.
double RelativeL2(const torch::Tensor& a, const torch::Tensor& b);

// The largest |got - want| / (|want| + floor); infinity where lengths differ.
double MaxRelativeError(absl::Span<const double> got, absl::Span<const double> want, double floor);

// A stat block's worst relative error: l2, sum_abs and max_abs to themselves, sum and proj to sum_abs. Infinity where n
// differs. Blocks are rounded to 10 digits: below 1e-9 it means nothing.
double StatError(const torch::Tensor& tensor, const nlohmann::json& stats);

// The same five, absolute: the largest of |d l2|, |d max_abs|, |d sum_abs| / sqrt(n), |d sum| / sqrt(n), |d proj| /
// sqrt(n), which ||tensor - reference|| bounds.
double StatDistance(const torch::Tensor& tensor, const nlohmann::json& stats);

// A tensor of JSON numbers (nested lists), float64.
torch::Tensor TensorOf(const nlohmann::json& numbers);

}  // namespace p2::check
