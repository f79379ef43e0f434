#include "tests/common/spec/golden.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "common/safetensors/safetensors.h"

namespace p2::spec {
namespace {

const std::string kDirectory = P2_SOURCE_DIR "/tests/golden/";

}  // namespace

nlohmann::json GoldenJson(const std::string& name) {
  std::ifstream file(kDirectory + name);
  EXPECT_TRUE(file) << name;
  return nlohmann::json::parse(file);
}

std::vector<double> GoldenSchedule(const std::string& tensor) {
  const auto reader = safetensors::Reader::Open(kDirectory + "schedules.safetensors");
  EXPECT_TRUE(reader.ok()) << reader.status();
  const safetensors::TensorInfo* info = (*reader)->Find(tensor);
  EXPECT_NE(info, nullptr) << tensor;
  std::vector<double> values(info->size / sizeof(double));
  const absl::Status read =
      (*reader)->Read(tensor, 0, absl::MakeSpan(reinterpret_cast<std::byte*>(values.data()), info->size));
  EXPECT_TRUE(read.ok()) << read;
  return values;
}

void ExpectClose(absl::Span<const double> got, absl::Span<const double> want, const std::string& what, double floor) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < want.size(); ++i) {
    ASSERT_LE(std::abs(got[i] - want[i]), 1e-10 * std::abs(want[i]) + floor)
        << what << " at " << i << ": " << got[i] << " vs " << want[i];
  }
}

}  // namespace p2::spec
