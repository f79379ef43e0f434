#include "tests/support/golden.h"

#include <ATen/Parallel.h>

#include "gtest/gtest.h"

namespace p2::testing {

void ExpectStats(const torch::Tensor& tensor, const nlohmann::json& stats, double tolerance, const std::string& what) {
  EXPECT_LE(check::StatError(tensor, stats), tolerance) << what;
}

std::shared_ptr<model::Unet> GoldenTinyUnet() {
  at::set_num_threads(1);
  return check::TinyUnet(Golden());
}

}  // namespace p2::testing
