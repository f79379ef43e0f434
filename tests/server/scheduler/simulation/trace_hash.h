// A stable 64-bit hash over what happened and what was decided: equal on every machine, run and build.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/scheduler/event.h"
#include "server/scheduler/step.h"

namespace p2::scheduler {

class TraceHash {
 public:
  // One event with its outcome: mutations (times and texts included) and actions in their order, or the error's code.
  void Add(const Event& event, const absl::StatusOr<StepResult>& result, const Moment& now);
  // p2d died with `events` that it had stepped but not written.
  void AddLost(uint64_t events) { Fold(~events); }

  uint64_t value() const { return hash_; }

 private:
  void Fold(uint64_t word) {
    hash_ = (hash_ ^ word) * 0x9fb21c651e98df25u;
    hash_ ^= hash_ >> 32;
  }
  template <typename Integer>
  requires std::is_integral_v<Integer> || std::is_enum_v<Integer>
  void Fold(Integer value) { Fold(static_cast<uint64_t>(value)); }
  void Fold(absl::string_view text);
  void Fold(absl::Time time);
  template <typename... Values>
  void FoldAll(const Values&... values) {
    (Fold(values), ...);
  }
  void Fold(const Attempt& attempt);
  void Fold(const JobRecord& job);
  void Fold(const WorkerRecord& worker);
  void Fold(const Event& event);
  void Fold(const Mutation& mutation);
  void Fold(const Action& action);

  uint64_t hash_ = 0x243f6a8885a308d3u;
};

}  // namespace p2::scheduler
