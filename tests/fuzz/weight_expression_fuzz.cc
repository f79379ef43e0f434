#include <cmath>

#include "common/spec/weight_expression.h"
#include "tests/fuzz/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto expression = p2::spec::WeightExpression::Parse(p2::fuzz::Text(data, size));
  if (!expression.ok()) {
    p2::fuzz::Require(!expression.status().message().empty(), "a refusal says why");
    return 0;
  }
  for (const double snr : {1e-9, 1.0, 1e9}) {
    const p2::spec::WeightVariables at = {snr, snr / (1 + snr), 0.02, 3.5, 999, 1000, 1, 0.5};
    const double first = expression->Evaluate(at), second = expression->Evaluate(at);
    p2::fuzz::Require(first == second || (std::isnan(first) && std::isnan(second)), "equal inputs give equal weights");
  }
  return 0;
}
