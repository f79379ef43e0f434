#include "server/rpc/page_token.h"

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/crc32c.h"
#include "common/error_reason.h"
#include "common/status_macros.h"

namespace p2::rpc {
namespace {

constexpr char kVersion = '1';
constexpr size_t kMaxTokenBytes = 1024;

// Eight hex digits over the list and the position.
std::string Checksum(absl::string_view list, absl::string_view position) {
  return absl::StrCat(absl::Hex(Crc32c(position, Crc32c(absl::StrCat(list, "\n"))), absl::kZeroPad8));
}

}  // namespace

std::string EncodePageToken(absl::string_view list, absl::string_view position) {
  return absl::WebSafeBase64Escape(absl::StrCat(absl::string_view(&kVersion, 1), Checksum(list, position), position));
}

absl::StatusOr<std::string> DecodePageToken(absl::string_view list, absl::string_view token) {
  if (token.empty()) return std::string();
  std::string plain;
  if (token.size() <= kMaxTokenBytes && absl::WebSafeBase64Unescape(token, &plain) && plain.size() >= 9 &&
      plain[0] == kVersion) {
    std::string position = plain.substr(9);
    if (plain.substr(1, 8) == Checksum(list, position)) return position;
  }
  return Error(
      ErrorReason::kPageTokenInvalid,
      absl::StrCat("page_token \"", absl::CHexEscape(token.substr(0, 64)),
                   "\" is not one that this list gave; pass next_page_token of a call with the same filters, or none"));
}

absl::StatusOr<int64_t> DecodePageNumber(absl::string_view list, absl::string_view token, int64_t first) {
  P2_ASSIGN_OR_RETURN(const std::string position, DecodePageToken(list, token));
  int64_t number = first;
  if (!position.empty() && !absl::SimpleAtoi(position, &number)) {
    return Error(ErrorReason::kPageTokenInvalid, "page_token is not one that this list gave");
  }
  return number;
}

}  // namespace p2::rpc
