#include "server/scheduler/explain.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "server/scheduler/capacity.h"
#include "server/scheduler/decisions.h"
#include "server/scheduler/placement.h"
#include "server/scheduler/queue_cursor.h"
#include "server/scheduler/shares.h"

namespace p2::scheduler {
namespace {

constexpr size_t kMaxBlockers = 10;

// `about 3 min`.
std::string About(absl::Duration time) {
  const double seconds = std::max(0.0, absl::ToDoubleSeconds(time));
  if (seconds < 90) return absl::StrCat("about ", std::lround(seconds), " s");
  if (seconds < 90 * 60) return absl::StrCat("about ", std::lround(seconds / 60), " min");
  if (seconds < 48 * 3600) return absl::StrCat("about ", std::lround(seconds / 3600), " h");
  return absl::StrCat("about ", std::lround(seconds / 86400), " days");
}

std::string Count(int count, absl::string_view what) { return absl::StrCat(count, " ", what, count == 1 ? "" : "s"); }

int FreeOf(const FreeSlots& free, const Suitable& suitable) {
  std::map<std::string, int> by_kind;
  int most = 0;
  for (const SlotIndex::ClassId id : suitable.classes())
    most = std::max(most, by_kind[free.index().classes().at(id).traits.kind] += free.Free(id));
  return most;
}

// Of a job that waits for devices.
class WaitExplainer {
 public:
  WaitExplainer(const ClusterState& state, const JobRecord& job, const Moment& now, const StepOptions& options,
                Explanation& out)
      : state_(state),
        job_(job),
        now_(now),
        options_(options),
        draft_(state, now, options),
        out_(out),
        suitable_(SuitableFor(state, ShapeOf(job))),
        free_(state.slots()) {}

  void Run() {
    const std::vector<std::string> order = QueueOrder(state_, now_.mono, options_);
    const auto place = std::find(order.begin(), order.end(), job_.id);
    out_.waiting = static_cast<int>(order.size());
    if (place != order.end()) out_.position = static_cast<int>(place - order.begin()) + 1;
    out_.devices_exist = suitable_.exist;
    out_.devices_free = FreeOf(free_, suitable_);
    out_.shares = {NumbersOf(state_, ProjectShare(job_.details->project), now_, options_),
                   NumbersOf(state_, OwnerShare(job_.details->project, job_.details->owner), now_, options_)};
    switch (job_.reason) {
      case StatusReason::kNotEnoughDevices:
      case StatusReason::kRootNotVisible:
        return ExplainMissing();
      case StatusReason::kQuotaExceeded:
        return ExplainQuota();
      case StatusReason::kDiskFull:
        out_.unblock = "starts when there is space again in p2d's data directory";
        return;
      default:
        return ExplainWaiting({order.begin(), place});
    }
  }

 private:
  int least() const { return job_.needs->least_devices(); }

  void Block(std::string resource, std::string why) {
    if (out_.blockers.size() < kMaxBlockers) out_.blockers.push_back({std::move(resource), std::move(why)});
  }

  // Workers that take no gangs now.
  void BlockByUnavailableWorkers() {
    for (const auto& [id, worker] : state_.workers()) {
      if (TakesGangs(*worker)) continue;
      const std::string what = worker->draining                       ? "is draining"
                               : worker->cordoned                     ? "is cordoned"
                               : worker->state == WorkerState::kReady ? "is not connected"
                                                                      : "is silent";
      Block(WorkerName(id), absl::StrCat(what, worker->cordon_reason.empty() ? "" : ": ", worker->cordon_reason));
    }
  }

  void ExplainMissing() {
    BlockByUnavailableWorkers();
    const bool roots = job_.reason == StatusReason::kRootNotVisible;
    absl::StrAppend(&out_.message, "; ", roots ? "workers that see them have " : "all ready workers together have ",
                    suitable_.exist,
                    roots ? absl::StrCat(" of the ", suitable_.exist_but_for_roots, " that suit") : "");
    const int missing = least() - suitable_.exist;
    out_.unblock = absl::StrCat("starts when ", missing,
                                missing == 1 ? " more device that suits is" : " more devices that suit are", " offered",
                                roots ? " by workers that see the roots (p2-worker --root NAME=DIR)" : "");
  }

  void ExplainQuota() {
    const Allowance allowance = AllowanceOf(state_, job_, {});
    Block(allowance.limit, absl::StrCat("holds ", Count(state_.HeldBy(allowance.limit), "device"), ", and ",
                                        allowance.within.value_or(0), " more are within its quota"));
    for (const JobPtr& other : state_.live_jobs().Sorted()) {
      const bool same = allowance.limit == absl::StrCat("users/", other->details->owner) ||
                        allowance.limit == absl::StrCat("projects/", other->details->project);
      if (same && HeldDevices(*other) > 0) BlockByHolder(*other);
    }
    out_.unblock = "starts when jobs under that quota give devices back, or when it is raised (`p2ctl quota set`)";
  }

  void BlockByHolder(const JobRecord& holder) {
    const absl::Time end = PredictedEnd(holder, now_.mono);
    const bool stopping = holder.live_attempt()->stop_mode != StopMode::kNone;
    Block(JobName(holder.id),
          absl::StrCat("holds ", Count(HeldDevices(holder), "device"), ", priority ", holder.priority,
                       stopping                        ? ", is stopping"
                       : end == absl::InfiniteFuture() ? ", its end is not known"
                                                       : absl::StrCat(", ends in ", About(end - now_.mono))));
  }

  void ExplainWaiting(const std::vector<std::string>& ahead) {
    if (free_.Place(least(), least(), suitable_.classes()).has_value()) out_.reason = StatusReason::kReserved;
    absl::StrAppend(&out_.message, "; ", out_.devices_free, " of ", out_.devices_exist, " are free");
    if (!ahead.empty())
      absl::StrAppend(&out_.message, ", and ", Count(static_cast<int>(ahead.size()), "job"), " before it");
    const auto own = state_.reservations().find(job_.id);
    for (const auto& [id, reservation] : state_.reservations()) {
      if (id != job_.id)
        Block(JobName(id), absl::StrCat("is before it; ", reservation.ranks.size(), " devices are kept for it"));
    }
    std::vector<const JobRecord*> holders = HoldersOf(draft_, suitable_.classes());
    std::sort(holders.begin(), holders.end(), [&](const JobRecord* a, const JobRecord* b) {
      return std::make_tuple(PredictedEnd(*a, now_.mono), a->id) < std::make_tuple(PredictedEnd(*b, now_.mono), b->id);
    });
    for (const JobRecord* holder : holders) BlockByHolder(*holder);
    if (own != state_.reservations().end() && own->second.preempting) {
      out_.unblock = "others were told to make room for it; starts when they have saved their checkpoints";
    } else {
      out_.unblock =
          absl::StrCat("starts when ", least(), least() == 1 ? " device that suits is" : " devices that suit are",
                       " free and it is its turn; a higher priority (`p2ctl update JOB --priority N`) would put it "
                       "before others");
    }
    std::optional<Reservation> plan = Forecast(draft_, job_, suitable_, free_);
    if (own != state_.reservations().end() && (!plan.has_value() || own->second.start_mono < plan->start_mono))
      plan = own->second;
    if (!plan.has_value() || plan->start_mono == absl::InfiniteFuture()) return;
    out_.earliest = std::max(absl::ZeroDuration(), plan->start_mono - now_.mono);
    absl::Duration before = *out_.earliest;
    for (const std::string& id : ahead) {
      const JobRecord& other = *state_.FindJob(id);
      const absl::Duration run = PredictedRun(other, other.needs->least_devices());
      if (run == absl::InfiniteDuration() || suitable_.exist == 0) return;
      before += run * other.needs->least_devices() / suitable_.exist;
    }
    out_.latest = before;
  }

  const ClusterState& state_;
  const JobRecord& job_;
  const Moment& now_;
  const StepOptions& options_;
  const Draft draft_;
  Explanation& out_;
  const Suitable suitable_;
  const FreeSlots free_;
};

}  // namespace

ShareNumbers NumbersOf(const ClusterState& state, const std::string& id, const Moment& now,
                       const StepOptions& options) {
  const ShareRecord share = state.ShareOf(id);
  return {id, UsageAt(share, now.mono, options.share_half_life), share.weight,
          ShareScore(share, 0, now.mono, options.share_half_life, options.share_horizon), share.devices};
}

absl::StatusOr<Explanation> Explain(const ClusterState& state, absl::string_view id, const Moment& now,
                                    const StepOptions& options) {
  const JobPtr job = state.FindJob(id);
  if (job == nullptr) return JobNotFound(id);
  Explanation explanation;
  explanation.state = job->state;
  explanation.reason = job->reason;
  explanation.message = job->message;
  switch (job->state) {
    case JobState::kQueued:
      if (job->ready_mono != absl::InfinitePast()) {
        explanation.earliest = std::max(absl::ZeroDuration(), job->ready_mono - now.mono);
        explanation.unblock = absl::StrCat("its backoff ends in ", About(*explanation.earliest),
                                           "; then it waits for devices like all others");
      } else {
        WaitExplainer(state, *job, now, options, explanation).Run();
      }
      break;
    case JobState::kStarting:
      for (const Member& member : job->live_attempt()->members) {
        if (member.state == MemberState::kPreparing)
          explanation.blockers.push_back({WorkerName(member.worker), "has not prepared its slots yet"});
        if (member.state == MemberState::kStarting)
          explanation.blockers.push_back({WorkerName(member.worker), "starts its ranks"});
      }
      explanation.unblock =
          absl::StrCat("starts when all ", job->live_attempt()->ranks.size(), " ranks have a process; after ",
                       absl::FormatDuration(options.gang_timeout), " it is tried again");
      break;
    case JobState::kPausing:
    case JobState::kCancelling:
      explanation.unblock =
          absl::StrCat("its ranks save a checkpoint and end, within ", absl::FormatDuration(job->needs->stop_deadline));
      break;
    case JobState::kPaused:
      explanation.unblock = absl::StrCat("`p2ctl resume ", job->id, "` queues it");
      break;
    case JobState::kFailed:
    case JobState::kCancelled:
      explanation.unblock = "it has ended";
      if (!job->latest_checkpoint.empty() && job->details->task.empty()) {
        absl::StrAppend(&explanation.unblock, "; `p2ctl fork ", job->id,
                        "` goes on from its newest checkpoint in a new job");
      }
      break;
    default:
      break;
  }
  return explanation;
}

absl::StatusOr<Forecasted> ForecastNewJob(ClusterState state, const CreateJob& command, const Moment& now,
                                          const StepOptions& options) {
  const auto take = [&](const Event& event) -> absl::Status {
    P2_ASSIGN_OR_RETURN(const StepResult result, Step(state, event, now, options));
    for (const Mutation& mutation : result.mutations) state.Apply(mutation);
    return absl::OkStatus();
  };
  P2_RETURN_IF_ERROR(take(command));
  while (state.pass_due()) P2_RETURN_IF_ERROR(take(SchedulePass{}));
  Forecasted forecast;
  P2_ASSIGN_OR_RETURN(forecast.explanation, Explain(state, command.id, now, options));
  if (const Attempt* attempt = state.FindJob(command.id)->live_attempt(); attempt != nullptr)
    forecast.placement = attempt->ranks;
  return forecast;
}

}  // namespace p2::scheduler
