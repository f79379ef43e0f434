// When what runs is expected to give its devices back.
#pragma once

#include "absl/container/btree_set.h"
#include "absl/time/time.h"
#include "server/scheduler/types.h"

namespace p2::scheduler {

// How long the job would run on `devices`; InfiniteDuration if it never told its rate.
absl::Duration PredictedRun(const JobRecord& job, int devices);

// For how long its live attempt holds its devices yet, by its own rate; InfiniteDuration if nothing tells. One that was
// asked to stop has until its stop deadline. REQUIRES: a live attempt.
absl::Duration PredictedRest(const JobRecord& job);

// A job with a live attempt; those that end first come first. With unknown ends, those that began first.
struct Ending {
  absl::Duration rest;
  absl::Time began;
  JobPtr job;

  static Ending Of(const JobPtr& job);
  bool operator<(const Ending& other) const;
};
using Endings = absl::btree_set<Ending>;

}  // namespace p2::scheduler
