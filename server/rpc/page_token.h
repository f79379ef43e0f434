// Opaque page tokens: a position in a list and the list that it belongs to, versioned and checksummed.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace p2::rpc {

// `list`: the method and everything that selects what it lists (parent, filters): a token serves that list alone.
std::string EncodePageToken(absl::string_view list, absl::string_view position);
// The position; empty for an empty token. INVALID_ARGUMENT if the token is damaged, forged or of another list.
absl::StatusOr<std::string> DecodePageToken(absl::string_view list, absl::string_view token);
// The same for numbers; `first` for an empty token.
absl::StatusOr<int64_t> DecodePageNumber(absl::string_view list, absl::string_view token, int64_t first);

}  // namespace p2::rpc
