// The golden numbers of tests/golden, for the tests of this directory.
#pragma once

#include <string>
#include <vector>

#include "absl/types/span.h"
#include "nlohmann/json.hpp"

namespace p2::spec {

// tests/golden/NAME; fails the test if it cannot be read.
nlohmann::json GoldenJson(const std::string& name);

// A float64 tensor of tests/golden/schedules.safetensors.
std::vector<double> GoldenSchedule(const std::string& tensor);

// |d| <= 1e-10 |want| + floor at every entry, the tolerance of the golden set (floor 2e-15; logarithms 1e-9).
void ExpectClose(absl::Span<const double> got, absl::Span<const double> want, const std::string& what,
                 double floor = 2e-15);

}  // namespace p2::spec
