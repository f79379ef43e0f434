#include "common/failpoint.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status_macros.h"

namespace p2::failpoint {
namespace {

enum class Act { kNone, kKill, kEio, kEnospc, kDelay };

struct Point {
  // Set by Enable, constant afterwards.
  Act act = Act::kNone;
  absl::Duration delay;
  uint64_t nth = 0;  // 0: every passage.

  std::atomic<uint64_t> passed = 0;
};

constexpr int kMaxDelayMs = 60000;

std::array<Point, kNames.size()> points;

absl::Status Wrong(absl::string_view entry, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("failpoint \"", entry, "\": ", why,
                   "; write NAME=kill, eio, enospc or delay:MS, each with @n for the n-th passage only, and commas "
                   "between several. Names: ",
                   absl::StrJoin(kNames, " ")));
}

absl::Status Arm(absl::string_view entry) {
  const std::pair<absl::string_view, absl::string_view> sides = absl::StrSplit(entry, absl::MaxSplits('=', 1));
  const auto name = std::find(kNames.begin(), kNames.end(), sides.first);
  if (name == kNames.end()) return Wrong(entry, absl::StrCat("there is no \"", sides.first, "\""));
  Point& point = points[static_cast<size_t>(name - kNames.begin())];
  std::pair<absl::string_view, absl::string_view> act = absl::StrSplit(sides.second, absl::MaxSplits('@', 1));
  if (absl::StrContains(sides.second, '@') && (!absl::SimpleAtoi(act.second, &point.nth) || point.nth == 0))
    return Wrong(entry, "after @ comes a whole number from 1 on");
  int delay_ms = 0;
  if (act.first == "kill") {
    point.act = Act::kKill;
  } else if (act.first == "eio") {
    point.act = Act::kEio;
  } else if (act.first == "enospc") {
    point.act = Act::kEnospc;
  } else if (absl::ConsumePrefix(&act.first, "delay:") && absl::SimpleAtoi(act.first, &delay_ms) && delay_ms >= 0 &&
             delay_ms <= kMaxDelayMs) {
    point.act = Act::kDelay;
    point.delay = absl::Milliseconds(delay_ms);
  } else {
    return Wrong(entry, absl::StrCat("\"", sides.second, "\" is no action"));
  }
  return absl::OkStatus();
}

}  // namespace

std::atomic<bool> live = false;

absl::Status Enable(const char* spec) {
#ifdef P2_WITHOUT_FAILPOINTS
  return absl::FailedPreconditionError("--enable-failpoints: this build has none (preset dist); use another preset's");
#else
  for (const absl::string_view entry : absl::StrSplit(spec == nullptr ? "" : spec, ',', absl::SkipWhitespace())) {
    P2_RETURN_IF_ERROR(Arm(entry));
    live = true;
  }
  return absl::OkStatus();
#endif
}

absl::Status Pass(size_t index) {
  Point& point = points[index];
  if (point.act == Act::kNone) return absl::OkStatus();
  const uint64_t passage = ++point.passed;
  if (point.nth != 0 && passage != point.nth) return absl::OkStatus();
  const std::string where = absl::StrCat("failpoint ", kNames[index], ", passage ", passage);
  switch (point.act) {
    case Act::kNone:
      break;
    case Act::kKill: {
      const std::string line = where + ": SIGKILL\n";
      [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
      kill(getpid(), SIGKILL);
      while (true) pause();
    }
    case Act::kEio:
      return absl::InternalError(where + ": Input/output error");
    case Act::kEnospc:
      return absl::ResourceExhaustedError(where + ": No space left on device");
    case Act::kDelay:
      absl::SleepFor(point.delay);
  }
  return absl::OkStatus();
}

}  // namespace p2::failpoint
