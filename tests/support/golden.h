// The golden reference numbers of tests/golden (format: its README.md) as tensors and JSON, and how to compare with
// them.
#pragma once

#include <torch/types.h>

#include <memory>
#include <string>

#include "common/safetensors/safetensors.h"
#include "nlohmann/json.hpp"

namespace p2::testing {

// Path of a file of tests/golden.
std::string GoldenPath(const std::string& name);

// A whole JSON file. Throws if it is missing or does not parse.
nlohmann::json GoldenJson(const std::string& name);

// The tensors of one safetensors file, read on demand. Throws c10::Error for a missing file or tensor.
class GoldenTensors {
 public:
  explicit GoldenTensors(const std::string& name);

  // In the file's own type (F16, F32, F64, I64, U8), on the CPU.
  torch::Tensor operator[](const std::string& tensor) const;
  bool Has(const std::string& tensor) const { return reader_->Find(tensor) != nullptr; }
  const safetensors::Reader& reader() const { return *reader_; }

 private:
  std::unique_ptr<safetensors::Reader> reader_;
};

// Largest |a - b|, in float64; infinity where the shapes differ or something is not finite.
double MaxDifference(const torch::Tensor& a, const torch::Tensor& b);

// ||a - b|| / ||b||, in float64.
double RelativeL2(const torch::Tensor& a, const torch::Tensor& b);

// Records test failures where `tensor` differs from the stat block `stats`: l2 and sum_abs relatively by more than
// `tolerance`, sum and proj by more than that of sum_abs. `what` leads the message.
void ExpectStats(const torch::Tensor& tensor, const nlohmann::json& stats, double tolerance, const std::string& what);

}  // namespace p2::testing
