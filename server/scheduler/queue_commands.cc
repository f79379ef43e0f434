// What people say about order and shares.
#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/error_reason.h"
#include "common/status_macros.h"
#include "server/scheduler/decisions.h"
#include "server/scheduler/shares.h"

namespace p2::scheduler {
namespace {

constexpr size_t kMaxLabels = 32;  // As p2.v1.Job.labels.

// Of one owner, project and priority, in their order.
std::vector<const JobRecord*> LineOf(const Draft& draft, const JobRecord& job) {
  std::vector<const JobRecord*> line;
  draft.base().live_jobs().ForEach([&](const JobPtr& base) {
    const JobRecord* other = draft.Now(base);
    const bool waits = other->state == JobState::kQueued || other->state == JobState::kPaused;
    if (waits && other->priority == job.priority && other->details->project == job.details->project &&
        other->details->owner == job.details->owner)
      line.push_back(other);
  });
  std::sort(line.begin(), line.end(), [](const JobRecord* a, const JobRecord* b) { return PlaceOf(*a) < PlaceOf(*b); });
  return line;
}

// Spreads the line out, so that there is room between neighbours again.
void Renumber(Draft& draft, const std::vector<const JobRecord*>& line) {
  std::vector<std::string> ids;
  for (const JobRecord* job : line) ids.push_back(job->id);
  int64_t key = line.front()->order_key;
  for (const std::string& id : ids) draft.EditJob(id).order_key = key += DefaultOrderKey(1);
}

std::string DescribeLabels(const std::map<std::string, std::string>& labels) {
  return absl::StrCat("labels ", absl::StrJoin(labels, ",", absl::PairFormatter("=")));
}

}  // namespace

absl::Status Handle(Draft& draft, const UpdateJob& command) {
  const JobRecord* job = draft.Job(command.job);
  if (job == nullptr) return JobNotFound(command.job);
  if (command.priority.has_value() && IsTerminal(job->state)) {
    return Error(ErrorReason::kJobStateForbids,
                 absl::StrCat("job \"", job->id, "\" is ", JobStateName(job->state), " and has no priority any more"));
  }
  draft.set_answer(JobName(command.job));
  std::vector<std::string> before, after;
  JobRecord edited = *job;
  if (command.priority.has_value() && edited.priority != *command.priority) {
    before.push_back(absl::StrCat("priority ", edited.priority));
    edited.priority = *command.priority;
    after.push_back(absl::StrCat("priority ", edited.priority));
  }
  std::map<std::string, std::string> labels = job->details->labels;
  for (const auto& [key, value] : command.set_labels) labels[key] = value;
  for (const std::string& key : command.erase_labels) labels.erase(key);
  if (labels.size() > kMaxLabels) {
    return Error(ErrorReason::kLimitReached, absl::StrCat("job \"", job->id, "\" would have ", labels.size(),
                                                          " labels; at most ", kMaxLabels, ": take some away"));
  }
  if (labels != job->details->labels) {
    before.push_back(DescribeLabels(job->details->labels));
    after.push_back(DescribeLabels(labels));
    edited.details.Edit().labels = std::move(labels);
  }
  if (command.note.has_value() && edited.details->note != *command.note) {
    before.push_back(absl::StrCat("note \"", edited.details->note, "\""));
    edited.details.Edit().note = *command.note;
    after.push_back(absl::StrCat("note \"", edited.details->note, "\""));
  }
  if (before.empty()) return absl::OkStatus();
  const bool moved = edited.priority != job->priority;
  edited.update_time = draft.now().wall;
  draft.EditJob(command.job) = std::move(edited);
  draft.Event(JobName(command.job), "JOB_UPDATED", absl::StrJoin(after, ", "), command.info.actor,
              absl::StrJoin(before, ", "), absl::StrJoin(after, ", "));
  if (!moved) return absl::OkStatus();
  // It may stand elsewhere now: what was reserved for it was found for its old place.
  if (draft.base().reservations().count(command.job) > 0) draft.Mutate(EraseReservation{command.job});
  draft.RequestPass();
  return absl::OkStatus();
}

absl::Status Handle(Draft& draft, const MoveJob& command) {
  using Where = MoveJob::Where;
  const JobRecord* job = draft.Job(command.job);
  if (job == nullptr) return JobNotFound(command.job);
  if (job->state != JobState::kQueued && job->state != JobState::kPaused) {
    return Error(ErrorReason::kJobStateForbids,
                 absl::StrCat("job \"", job->id, "\" is ", JobStateName(job->state), " and stands in no queue"));
  }
  draft.set_answer(JobName(command.job));
  const bool beside = command.where == Where::kBefore || command.where == Where::kAfter;
  for (const bool renumbered : {false, true}) {
    std::vector<const JobRecord*> line = LineOf(draft, *draft.Job(command.job));
    std::erase_if(line, [&](const JobRecord* other) { return other->id == command.job; });
    size_t place = command.where == Where::kFirst ? 0 : line.size();
    if (beside) {
      const auto other =
          std::find_if(line.begin(), line.end(), [&](const JobRecord* it) { return it->id == command.other; });
      if (other == line.end()) {
        return Error(
            ErrorReason::kPreconditionFailed,
            absl::StrCat("job \"", command.other, "\" does not wait in the line of \"", command.job,
                         "\": the queued jobs of owner ", draft.Job(command.job)->details->owner, " in project ",
                         draft.Job(command.job)->details->project, " at priority ", draft.Job(command.job)->priority,
                         "; between owners fair share decides (`p2ctl queue describe`)"));
      }
      place = static_cast<size_t>(other - line.begin()) + (command.where == Where::kAfter ? 1 : 0);
    }
    if (line.empty()) return absl::OkStatus();
    int64_t key;
    if (place == line.size()) {
      key = DefaultOrderKey(draft.NextCreateOrder());  // Behind all that are there, before all that come.
    } else if (place == 0) {
      key = line.front()->order_key - DefaultOrderKey(1);
    } else {
      const int64_t low = line[place - 1]->order_key, high = line[place]->order_key;
      key = low + (high - low) / 2;
      if (key == low && !renumbered) {
        Renumber(draft, line);
        continue;
      }
    }
    draft.EditJob(command.job).order_key = key;
    break;
  }
  draft.Event(JobName(command.job), "JOB_MOVED",
              command.where == Where::kFirst ? "to the front of its line"
              : command.where == Where::kLast
                  ? "to the end of its line"
                  : absl::StrCat(command.where == Where::kBefore ? "before" : "after", " job ", command.other),
              command.info.actor);
  if (draft.base().reservations().count(command.job) > 0) draft.Mutate(EraseReservation{command.job});
  draft.RequestPass();
  return absl::OkStatus();
}

absl::Status Handle(Draft& draft, const SetQueue& command) {
  QueueRecord queue = command.queue;
  const auto known = draft.base().queues().find(queue.id);
  const bool exists = queue.id == kDefaultQueue || known != draft.base().queues().end();
  if (command.create && exists) {
    return Error(ErrorReason::kQueueExists,
                 absl::StrCat("queue \"", queue.id, "\" exists; `p2ctl queue update` changes it"));
  }
  if (!command.create && !exists) {
    return Error(ErrorReason::kQueueNotFound,
                 absl::StrCat("queue \"", queue.id, "\" not found; `p2ctl queue list` shows them"));
  }
  if (queue.id == kDefaultQueue && !queue.selector.empty()) {
    return Error(ErrorReason::kPreconditionFailed, "queue \"default\" has all workers; make another for some of them");
  }
  queue.create_time = known == draft.base().queues().end() ? draft.now().wall : known->second->create_time;
  draft.Event(absl::StrCat("queues/", queue.id), command.create ? "QUEUE_CREATED" : "QUEUE_UPDATED", queue.description,
              command.info.actor, known == draft.base().queues().end() ? "" : DescribeLabels(known->second->selector),
              DescribeLabels(queue.selector));
  draft.set_answer(absl::StrCat("queues/", queue.id));
  draft.Mutate(PutQueue{std::make_shared<const QueueRecord>(std::move(queue))});
  draft.RequestPass();
  return absl::OkStatus();
}

absl::Status Handle(Draft& draft, const DeleteQueue& command) {
  if (draft.base().queues().count(command.queue) == 0) {
    return Error(ErrorReason::kQueueNotFound,
                 absl::StrCat("queue \"", command.queue, "\" not found; `p2ctl queue list` shows them"));
  }
  for (const JobRecord* job : draft.LiveJobs()) {
    if (job->details->queue != command.queue) continue;
    return Error(ErrorReason::kQueueInUse,
                 absl::StrCat("queue \"", command.queue, "\" has live jobs, \"", job->id, "\" among them"));
  }
  draft.Event(absl::StrCat("queues/", command.queue), "QUEUE_DELETED", "", command.info.actor);
  draft.set_answer(absl::StrCat("queues/", command.queue));
  draft.Mutate(EraseQueue{command.queue});
  return absl::OkStatus();
}

namespace {

std::string DescribeQuota(const QuotaRecord& quota) {
  const auto limit = [](const std::optional<int>& value) { return value.has_value() ? absl::StrCat(*value) : "any"; };
  return absl::StrCat("devices ", limit(quota.devices), ", borrow ",
                      quota.borrow < 0 ? "any" : absl::StrCat(quota.borrow), ", queued jobs ",
                      limit(quota.queued_jobs));
}

}  // namespace

absl::Status Handle(Draft& draft, const SetQuota& command) {
  const QuotaRecord& quota = command.quota;
  const auto known = draft.base().quotas().find(quota.id);
  draft.Event(absl::StrCat("quotas/", quota.id), "QUOTA_SET", DescribeQuota(quota), command.info.actor,
              known == draft.base().quotas().end() ? "" : DescribeQuota(known->second), DescribeQuota(quota));
  draft.set_answer(absl::StrCat("quotas/", quota.id));
  if (quota.devices.has_value() || quota.queued_jobs.has_value()) {
    draft.Mutate(PutQuota{quota});
  } else {
    draft.Mutate(EraseQuota{quota.id});
  }
  draft.RequestPass();
  return absl::OkStatus();
}

absl::Status Handle(Draft& draft, const SetWeight& command) {
  ShareRecord share = draft.base().ShareOf(command.share);
  draft.Event(absl::StrCat("shares/", command.share), "WEIGHT_SET", absl::StrCat("weight ", command.weight),
              command.info.actor, absl::StrCat("weight ", share.weight), absl::StrCat("weight ", command.weight));
  draft.set_answer(absl::StrCat("shares/", command.share));
  share.weight = command.weight;
  share.usage = UsageAt(share, draft.now().mono, draft.options().share_half_life);
  share.as_of_mono = draft.now().mono;
  draft.Mutate(PutShare{std::move(share), /*durable=*/true});
  draft.RequestPass();
  return absl::OkStatus();
}

}  // namespace p2::scheduler
