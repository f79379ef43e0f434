// How p2ctl reads and writes durations, counts, sizes and times.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "google/protobuf/timestamp.pb.h"

namespace p2::ctl {

// "90s", "2h", "3d", "1h30m", "500ms"; a bare number is refused. INVALID_ARGUMENT. The result is positive.
absl::StatusOr<absl::Duration> ParseDuration(absl::string_view text);

// "1500", "500k", "1.5M", "10M", "2G" (powers of 1000), whole and >= 0. INVALID_ARGUMENT.
absl::StatusOr<int64_t> ParseCount(absl::string_view text);

// A duration ago ("2d"), or an RFC 3339 time. INVALID_ARGUMENT.
absl::StatusOr<absl::Time> ParseSince(absl::string_view text, absl::Time now);

// 8100 -> "8,100".
std::string FormatCount(int64_t count);
// 1536 -> "1.5 KiB".
std::string FormatBytes(int64_t bytes);
// Two units at most: "45s", "1m28s", "3h05m", "2d04h"; "-" for infinite.
std::string FormatShortDuration(absl::Duration duration);
// Four significant digits, for losses: "0.05321".
std::string FormatNumber(double value);
// Images a second: "0.25", "8.4", "112.5", "71,440".
std::string FormatRate(double value);

absl::Time ToTime(const google::protobuf::Timestamp& timestamp);
// "2026-11-23 09:14:37" in the local zone, "" for an unset time.
std::string FormatLocalTime(const google::protobuf::Timestamp& timestamp);
// "2026-11-23T09:14:37.123Z", "" for an unset time.
std::string FormatUtcTime(const google::protobuf::Timestamp& timestamp);

}  // namespace p2::ctl
