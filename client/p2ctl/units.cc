#include "client/p2ctl/units.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "client/p2ctl/errors.h"

namespace p2::ctl {

absl::StatusOr<absl::Duration> ParseDuration(absl::string_view text) {
  std::string spelled(text);
  // absl knows no days: each "Nd" at the front becomes hours.
  absl::Duration days;
  if (const size_t d = spelled.find('d'); d != std::string::npos) {
    double count = 0;
    if (!absl::SimpleAtod(spelled.substr(0, d), &count)) count = -1;
    days = count * absl::Hours(24);
    spelled = spelled.substr(d + 1);
  }
  absl::Duration rest;
  if ((!spelled.empty() && !absl::ParseDuration(spelled, &rest)) || days + rest <= absl::ZeroDuration() ||
      days < absl::ZeroDuration() || rest < absl::ZeroDuration()) {
    return UsageError(absl::StrCat("\"", text, "\" is not a duration; write 90s, 5m, 2h or 3d"));
  }
  return days + rest;
}

absl::StatusOr<int64_t> ParseCount(absl::string_view text) {
  absl::string_view digits = text;
  double factor = 1;
  for (const auto& [suffix, value] : {std::pair{"k", 1e3}, {"K", 1e3}, {"M", 1e6}, {"G", 1e9}}) {
    if (absl::ConsumeSuffix(&digits, suffix)) {
      factor = value;
      break;
    }
  }
  double number = 0;
  const bool parsed = !digits.empty() && digits.find_first_not_of("0123456789.") == absl::string_view::npos &&
                      absl::SimpleAtod(digits, &number);
  const double count = std::round(number * factor);
  if (!parsed || count > 9e18 || std::abs(count - number * factor) > 1e-6 * std::max(1.0, count)) {
    return UsageError(absl::StrCat("\"", text, "\" is not a count; write 1500, 500k or 10M"));
  }
  return static_cast<int64_t>(count);
}

absl::StatusOr<absl::Time> ParseSince(absl::string_view text, absl::Time now) {
  if (absl::Time time; absl::ParseTime(absl::RFC3339_full, text, &time, nullptr)) return time;
  const absl::StatusOr<absl::Duration> ago = ParseDuration(text);
  if (!ago.ok()) {
    return UsageError(
        absl::StrCat("\"", text, "\" is neither a duration (90s, 2h, 3d) nor a time (2026-11-23T09:00:00Z)"));
  }
  return now - *ago;
}

std::string FormatCount(int64_t count) {
  std::string digits = absl::StrCat(count);
  const int first = count < 0 ? 1 : 0;
  for (int at = static_cast<int>(digits.size()) - 3; at > first; at -= 3) digits.insert(at, ",");
  return digits;
}

std::string FormatBytes(int64_t bytes) {
  constexpr std::array<absl::string_view, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return unit == 0 ? absl::StrCat(bytes, " B") : absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

std::string FormatShortDuration(absl::Duration duration) {
  if (duration == absl::InfiniteDuration() || duration < absl::ZeroDuration()) return "-";
  if (duration > absl::ZeroDuration() && duration < absl::Seconds(1)) {
    return absl::StrCat(absl::ToInt64Milliseconds(duration), "ms");
  }
  const int64_t seconds = absl::ToInt64Seconds(duration + absl::Milliseconds(500));
  if (seconds < 60) return absl::StrCat(seconds, "s");
  if (seconds < 3600) return absl::StrFormat("%dm%02ds", seconds / 60, seconds % 60);
  if (seconds < 86400) return absl::StrFormat("%dh%02dm", seconds / 3600, seconds / 60 % 60);
  return absl::StrFormat("%dd%02dh", seconds / 86400, seconds / 3600 % 24);
}

std::string FormatNumber(double value) { return absl::StrFormat("%.4g", value); }

std::string FormatRate(double value) {
  if (value >= 1000) return FormatCount(std::llround(value));
  return value < 1 ? absl::StrFormat("%.2f", value) : absl::StrFormat("%.1f", value);
}

absl::Time ToTime(const google::protobuf::Timestamp& timestamp) {
  return absl::FromUnixSeconds(timestamp.seconds()) + absl::Nanoseconds(timestamp.nanos());
}

std::string FormatLocalTime(const google::protobuf::Timestamp& timestamp) {
  if (timestamp.seconds() == 0) return "";
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", ToTime(timestamp), absl::LocalTimeZone());
}

std::string FormatUtcTime(const google::protobuf::Timestamp& timestamp) {
  if (timestamp.seconds() == 0) return "";
  return absl::FormatTime("%Y-%m-%d%ET%H:%M:%E*SZ", ToTime(timestamp), absl::UTCTimeZone());
}

}  // namespace p2::ctl
