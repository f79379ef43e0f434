// Fair share: who has had how much device time, and who comes first for it.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/scheduler/types.h"

namespace p2::scheduler {

// IDs of ShareRecord.
std::string ProjectShare(absl::string_view project);
std::string OwnerShare(absl::string_view project, absl::string_view owner);

// Devices that the job's live attempt holds: those of members that have not ended.
int HeldDevices(const JobRecord& job);

// Decayed device-seconds at `now`: with h the half-life and d devices held since as_of,
//   usage * 2^(-dt/h) + d * (1 - 2^(-dt/h)) * h / ln 2.
double UsageAt(const ShareRecord& share, absl::Time now_mono, absl::Duration half_life);

// What is compared: the lower comes first. Devices held now count as if they had been held for `horizon`, so that
// within one pass, before any time has gone by, those who have none come before those who just got some.
//   (usage + (devices + more) * horizon) / weight
double ShareScore(const ShareRecord& share, int more_devices, absl::Time now_mono, absl::Duration half_life,
                  absl::Duration horizon);

}  // namespace p2::scheduler
