// Tells which ranks of an attempt are frozen: no progress tick within the deadline of their phase, or, once heard of,
// no event at all. Collectives that hang are invisible to NCCL's own watchdog (TRAINING.md 6), so this one is the
// detector.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "p2/trainer/v1/pipes.pb.h"
#include "p2/v1/training_spec.pb.h"

namespace p2::agent {

struct Deadlines {
  absl::Duration start, step, preview, save, stop;
  // Silence of a rank that was heard of once; infinite: not watched.
  absl::Duration silence;
  // How long the ranks go on while the worker has no coordinator; infinite: without end.
  absl::Duration fence_after;
};

// The spec's deadlines (300, 120, 120, 600, 60 s and never where it has none) times `scale`; `silence` is taken as it
// is, 0 as infinite.
Deadlines ResolveDeadlines(const p2::v1::DeadlineSpec& spec, double scale, absl::Duration silence);

// Time enters as data, on the monotonic clock. Confined.
class Watchdog {
 public:
  Watchdog(const Deadlines& deadlines, const std::vector<int32_t>& ranks, absl::Time start);

  // Any event of a rank; a Progress advances it when its tick, its phase or its images changed.
  void OnEvent(int32_t rank, const p2::trainer::v1::TrainerEvent& event, absl::Time now);
  // An ended rank is not watched any more.
  void OnExit(int32_t rank) { ranks_.erase(rank); }
  // The agent itself did not run for `pause`: nobody is blamed for what it could not read.
  void Forgive(absl::Duration pause);

  struct Frozen {
    int32_t rank;
    // "no progress in phase STEP for 2m (its deadline)".
    std::string why;
  };
  std::vector<Frozen> Check(absl::Time now) const;

 private:
  struct Rank {
    p2::trainer::v1::Progress progress;
    absl::Time advanced;
    absl::Time heard;
    bool heard_of = false;
  };
  absl::Duration DeadlineOf(p2::trainer::v1::Progress::Phase phase) const;

  const Deadlines deadlines_;
  std::map<int32_t, Rank> ranks_;
};

}  // namespace p2::agent
