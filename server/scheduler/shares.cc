#include "server/scheduler/shares.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace p2::scheduler {

std::string ProjectShare(absl::string_view project) { return std::string(project); }
std::string OwnerShare(absl::string_view project, absl::string_view owner) { return absl::StrCat(project, "/", owner); }

int HeldDevices(const JobRecord& job) {
  const Attempt* attempt = job.live_attempt();
  if (attempt == nullptr) return 0;
  return static_cast<int>(std::count_if(attempt->ranks.begin(), attempt->ranks.end(), [&](const RankPlacement& rank) {
    return attempt->FindMember(rank.worker)->state != MemberState::kEnded;
  }));
}

double UsageAt(const ShareRecord& share, absl::Time now_mono, absl::Duration half_life) {
  if (share.as_of_mono == absl::InfinitePast()) return share.usage;
  const double half = absl::ToDoubleSeconds(half_life);
  const double left = std::exp2(-absl::ToDoubleSeconds(now_mono - share.as_of_mono) / half);
  return share.usage * left + share.devices * (1 - left) * half / std::log(2.0);
}

double ShareScore(const ShareRecord& share, int more_devices, absl::Time now_mono, absl::Duration half_life,
                  absl::Duration horizon) {
  const int devices = share.devices + more_devices;
  return (UsageAt(share, now_mono, half_life) + devices * absl::ToDoubleSeconds(horizon)) / share.weight;
}

}  // namespace p2::scheduler
