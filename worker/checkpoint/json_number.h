// Whole numbers of a JSON file that a stranger may have written; private to worker/checkpoint.
#pragma once

#include <cstdint>
#include <limits>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace p2::checkpoint {

// `value` if it is written as a whole number from 0 to `most`; else DATA_LOSS naming `key`. nlohmann's own conversion
// casts whatever number it meets: 1e300 is then undefined.
template <typename T = int64_t>
absl::StatusOr<T> WholeNumber(const nlohmann::ordered_json& value, absl::string_view key,
                              T most = std::numeric_limits<T>::max()) {
  if (value.is_number_unsigned() && value.get<uint64_t>() <= static_cast<uint64_t>(most)) return value.get<T>();
  return absl::DataLossError(
      absl::StrCat(key, " is ", value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).substr(0, 100),
                   ", not a whole number from 0 to ", most));
}

}  // namespace p2::checkpoint
