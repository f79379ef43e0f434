#include "common/resource_name.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace p2 {
namespace {

constexpr size_t kMaxIdBytes = 63;

bool IsLowerOrDigit(char c) { return absl::ascii_islower(c) || absl::ascii_isdigit(c); }

absl::Status WrongForm(absl::string_view form, absl::string_view name) {
  return absl::InvalidArgumentError(
      absl::StrCat("name \"", absl::CHexEscape(name.substr(0, 200)), "\" is not of the form `", form, "`"));
}

}  // namespace

bool IsResourceId(absl::string_view id) {
  return !id.empty() && id.size() <= kMaxIdBytes && absl::ascii_islower(id.front()) && IsLowerOrDigit(id.back()) &&
         std::all_of(id.begin(), id.end(), [](char c) { return IsLowerOrDigit(c) || c == '-'; });
}

bool IsDottedId(absl::string_view id) {
  return !id.empty() && id.size() <= kMaxIdBytes && IsLowerOrDigit(id.front()) &&
         std::all_of(id.begin(), id.end(),
                     [](char c) { return IsLowerOrDigit(c) || c == '.' || c == '_' || c == '-'; });
}

bool IsIdOf(absl::string_view collection, absl::string_view id) {
  return collection == kJobs || collection == kWorkers ? IsResourceId(id) : IsDottedId(id);
}

std::string ResourceName(absl::string_view collection, absl::string_view id) {
  return absl::StrCat(collection, "/", id);
}

std::string ChildName(absl::string_view job, absl::string_view collection, absl::string_view id) {
  return absl::StrCat(kJobs, "/", job, "/", collection, "/", id);
}

absl::StatusOr<std::string> ParseResourceName(absl::string_view collection, absl::string_view name) {
  const std::vector<absl::string_view> parts = absl::StrSplit(name, '/');
  if (parts.size() != 2 || parts[0] != collection || !IsIdOf(collection, parts[1])) {
    return WrongForm(absl::StrCat(collection, "/{id}"), name);
  }
  return std::string(parts[1]);
}

absl::StatusOr<std::pair<std::string, std::string>> ParseChildName(absl::string_view collection,
                                                                   absl::string_view name) {
  const std::vector<absl::string_view> parts = absl::StrSplit(name, '/');
  if (parts.size() != 4 || parts[0] != kJobs || parts[2] != collection || !IsIdOf(kJobs, parts[1]) ||
      !IsIdOf(collection, parts[3])) {
    return WrongForm(absl::StrCat("jobs/{job}/", collection, "/{id}"), name);
  }
  return std::make_pair(std::string(parts[1]), std::string(parts[3]));
}

}  // namespace p2
