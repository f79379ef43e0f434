// A GET as Prometheus makes it.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace p2::loadgen {

// The body. `address`: HOST:PORT with a numeric host. UNAVAILABLE: no connection; INTERNAL: no answer, or another
// status than 200.
absl::StatusOr<std::string> HttpGet(const std::string& address, const std::string& path);

}  // namespace p2::loadgen
