#include "server/scheduler/step.h"

#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "common/error_reason.h"
#include "common/status_macros.h"
#include "server/scheduler/decisions.h"

namespace p2::scheduler {
namespace {

// Jobs whose backoff has passed stand in the queue again.
void WakeFromBackoff(Draft& draft) {
  for (const auto& [ready, id] : draft.base().queue().backing_off()) {
    if (ready > draft.now().mono) break;
    draft.TouchJob(id).ready_mono = absl::InfinitePast();
    draft.RequestPass();
  }
}

absl::Status Handle(Draft& draft, const Tick& tick) {
  if (tick.stalled > absl::ZeroDuration()) ForgiveSilence(draft, tick.stalled);
  WatchSilence(draft);
  WatchGangs(draft);
  WatchDrains(draft);
  ReviewLost(draft);
  RetryDeletions(draft);
  WakeFromBackoff(draft);
  if (!draft.base().reservations().empty()) draft.RequestPass();
  return absl::OkStatus();
}

absl::Status Handle(Draft& draft, const SchedulePass&) {
  RunSchedulingPass(draft);
  return absl::OkStatus();
}

absl::Status Handle(Draft& draft, const DiskState& event) {
  draft.Mutate(SetDiskFull{event.full, event.message});
  if (event.full != draft.base().disk_full()) {
    draft.RequestPass();
    draft.Event("p2d", event.full ? "DISK_FULL" : "DISK_SPACE_BACK", event.message);
  }
  return absl::OkStatus();
}

// A command whose request_id was answered before gets the same answer and changes nothing.
template <typename Command>
absl::Status HandleOnce(Draft& draft, const Command& command) {
  const CommandInfo& info = command.info;
  if (info.previous.has_value()) {
    if (info.previous->payload_sha256 != info.payload_sha256) {
      return Error(
          ErrorReason::kRequestIdReused,
          absl::StrCat("request_id \"", info.request_id, "\" was used for another request; draw a new one for each"));
    }
    draft.set_answer(info.previous->resource);
    return absl::OkStatus();
  }
  draft.set_request_id(info.request_id);
  return Handle(draft, command);
}

void RecordRequest(const CommandInfo& info, StepResult& result, absl::Time now) {
  if (info.request_id.empty() || info.previous.has_value()) return;
  result.mutations.push_back(PutRequest{{info.request_id, info.payload_sha256, result.answer, now}});
}

}  // namespace

absl::StatusOr<StepResult> Step(const ClusterState& state, const Event& event, const Moment& now,
                                const StepOptions& options) {
  Draft draft(state, now, options);
  return std::visit(
      [&](const auto& it) -> absl::StatusOr<StepResult> {
        constexpr bool kIsCommand = requires { it.info; };
        if constexpr (kIsCommand) {
          P2_RETURN_IF_ERROR(HandleOnce(draft, it));
        } else {
          P2_RETURN_IF_ERROR(Handle(draft, it));
        }
        StepResult result = std::move(draft).Finish();
        if constexpr (kIsCommand) RecordRequest(it.info, result, now.wall);
        return result;
      },
      event);
}

}  // namespace p2::scheduler
