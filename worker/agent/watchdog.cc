#include "worker/agent/watchdog.h"

#include "absl/strings/str_cat.h"

namespace p2::agent {

using p2::trainer::v1::Progress;

Deadlines ResolveDeadlines(const p2::v1::DeadlineSpec& spec, double scale, absl::Duration silence) {
  const auto resolve = [scale](bool set, const google::protobuf::Duration& value, absl::Duration otherwise) {
    return scale * (set ? absl::Seconds(value.seconds()) + absl::Nanoseconds(value.nanos()) : otherwise);
  };
  return {.start = resolve(spec.has_start(), spec.start(), absl::Seconds(300)),
          .step = resolve(spec.has_step(), spec.step(), absl::Seconds(120)),
          .preview = resolve(spec.has_preview(), spec.preview(), absl::Seconds(120)),
          .save = resolve(spec.has_save(), spec.save(), absl::Seconds(600)),
          .stop = resolve(spec.has_stop(), spec.stop(), absl::Seconds(60)),
          .silence = silence > absl::ZeroDuration() ? silence : absl::InfiniteDuration(),
          .fence_after = resolve(spec.has_fence_after(), spec.fence_after(), absl::InfiniteDuration())};
}

Watchdog::Watchdog(const Deadlines& deadlines, const std::vector<int32_t>& ranks, absl::Time start)
    : deadlines_(deadlines) {
  for (const int32_t rank : ranks) {
    ranks_[rank] = Rank{.advanced = start, .heard = start};
    ranks_[rank].progress.set_phase(Progress::START);
  }
}

void Watchdog::OnEvent(int32_t rank, const p2::trainer::v1::TrainerEvent& event, absl::Time now) {
  const auto found = ranks_.find(rank);
  if (found == ranks_.end()) return;
  Rank& state = found->second;
  state.heard = now;
  state.heard_of = true;
  if (!event.has_progress()) return;
  const Progress& next = event.progress();
  if (next.tick() != state.progress.tick() || next.phase() != state.progress.phase() ||
      next.images_seen() != state.progress.images_seen())
    state.advanced = now;
  state.progress = next;
}

void Watchdog::Forgive(absl::Duration pause) {
  for (auto& [rank, state] : ranks_) {
    state.advanced += pause;
    state.heard += pause;
  }
}

absl::Duration Watchdog::DeadlineOf(Progress::Phase phase) const {
  switch (phase) {
    case Progress::STEP:
      return deadlines_.step;
    case Progress::PREVIEW:
      return deadlines_.preview;
    case Progress::SAVE:
      return deadlines_.save;
    case Progress::STOP:
      return deadlines_.stop;
    default:
      return deadlines_.start;
  }
}

std::vector<Watchdog::Frozen> Watchdog::Check(absl::Time now) const {
  std::vector<Frozen> frozen;
  for (const auto& [rank, state] : ranks_) {
    if (const absl::Duration deadline = DeadlineOf(state.progress.phase()); now - state.advanced > deadline) {
      frozen.push_back({rank, absl::StrCat("no progress in phase ", Progress::Phase_Name(state.progress.phase()),
                                           " for ", absl::FormatDuration(deadline), ", its deadline")});
    } else if (state.heard_of && now - state.heard > deadlines_.silence) {
      frozen.push_back(
          {rank, absl::StrCat("no sign of life from the process for ", absl::FormatDuration(deadlines_.silence))});
    }
  }
  return frozen;
}

}  // namespace p2::agent
