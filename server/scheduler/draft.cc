#include "server/scheduler/draft.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <set>

#include "absl/strings/str_cat.h"
#include "server/scheduler/shares.h"

namespace p2::scheduler {
namespace {

// The working copy under `id`, made from `original` at first use.
template <typename Map, typename Ptr>
auto& WorkingCopy(Map& changed, absl::string_view id, const Ptr& original, bool durable) {
  const auto [it, added] = changed.try_emplace(std::string(id));
  if (added) {
    if (original == nullptr) Bug("edit of a record that does not exist");
    it->second.record = std::make_shared<std::remove_const_t<typename Ptr::element_type>>(*original);
  }
  it->second.durable |= durable;
  return *it->second.record;
}

}  // namespace

void Bug(absl::string_view message) {
  std::fprintf(stderr, "p2 scheduler: %.*s\n", static_cast<int>(message.size()), message.data());
  std::abort();
}

Draft::Draft(const ClusterState& state, const Moment& now, const StepOptions& options)
    : state_(state),
      now_(now),
      options_(options),
      counters_(state.counters()),
      last_asked_(state.last_asked()),
      pass_need_(state.pass_need()) {}

const JobRecord* Draft::Job(absl::string_view id) const {
  if (auto it = jobs_.find(id); it != jobs_.end()) return it->second.record.get();
  return state_.FindJob(id).get();
}

const WorkerRecord* Draft::Worker(absl::string_view id) const {
  if (auto it = workers_.find(id); it != workers_.end()) return it->second.record.get();
  return state_.FindWorker(id).get();
}

JobRecord& Draft::ChangeJob(absl::string_view id, const JobPtr& base, bool durable) {
  if (base != nullptr) changed_bases_.insert(base.get());
  return WorkingCopy(jobs_, id, base, durable);
}

JobRecord& Draft::EditJob(absl::string_view id) { return ChangeJob(id, state_.FindJob(id), true); }
JobRecord& Draft::TouchJob(const JobPtr& base) { return ChangeJob(base->id, base, false); }
JobRecord& Draft::TouchJob(absl::string_view id) { return ChangeJob(id, state_.FindJob(id), false); }
WorkerRecord& Draft::EditWorker(absl::string_view id) { return WorkingCopy(workers_, id, state_.FindWorker(id), true); }
WorkerRecord& Draft::TouchWorker(absl::string_view id) {
  return WorkingCopy(workers_, id, state_.FindWorker(id), false);
}

void Draft::AddJob(JobRecord job) {
  ++added_by_[absl::StrCat("projects/", job.details->project)];
  ++added_by_[absl::StrCat("users/", job.details->owner)];
  if (!state_.job_values().Lend(job)) added_values_.Unify(job);
  auto record = std::make_shared<JobRecord>(std::move(job));
  jobs_[record->id] = {record, true};
}

int Draft::AddedBy(absl::string_view account) const {
  const auto it = added_by_.find(account);
  return it == added_by_.end() ? 0 : it->second;
}

void Draft::AddWorker(WorkerRecord worker) {
  const std::string id = worker.id;
  workers_[id] = {std::make_shared<WorkerRecord>(std::move(worker)), true};
}

void Draft::EraseJob(const std::string& id) {
  jobs_.erase(id);
  erased_jobs_.push_back(id);
}

std::vector<const JobRecord*> Draft::LiveJobs() const {
  std::vector<const JobRecord*> live;
  auto changed = jobs_.begin();
  auto take_changed = [&] {
    if (!IsTerminal(changed->second.record->state)) live.push_back(changed->second.record.get());
    ++changed;
  };
  for (const JobPtr& job : state_.live_jobs().Sorted()) {
    while (changed != jobs_.end() && changed->first < job->id) take_changed();
    if (changed != jobs_.end() && changed->first == job->id) {
      take_changed();
    } else {
      live.push_back(job.get());
    }
  }
  while (changed != jobs_.end()) take_changed();
  return live;
}

std::vector<const WorkerRecord*> Draft::Workers() const {
  std::map<absl::string_view, const WorkerRecord*> all;
  for (const auto& [id, worker] : state_.workers()) all[id] = worker.get();
  for (const auto& [id, changed] : workers_) all[id] = changed.record.get();
  std::vector<const WorkerRecord*> workers;
  for (const auto& [id, worker] : all) workers.push_back(worker);
  return workers;
}

std::vector<const JobRecord*> Draft::JobsOn(absl::string_view worker) const {
  std::set<std::string> ids = state_.JobsOn(worker);
  for (const auto& [id, changed] : jobs_) ids.insert(id);
  std::vector<const JobRecord*> jobs;
  for (const std::string& id : ids) {
    const JobRecord* job = Job(id);
    const Attempt* attempt = job == nullptr ? nullptr : job->live_attempt();
    if (attempt != nullptr && attempt->FindMember(worker) != nullptr) jobs.push_back(job);
  }
  return jobs;
}

const ClusterState::Checkpoints& Draft::CheckpointsOf(absl::string_view job) const {
  const auto it = checkpoints_.find(job);
  return it == checkpoints_.end() ? state_.CheckpointsOf(job) : it->second;
}

void Draft::PutCheckpoint(CheckpointRecord checkpoint) {
  const auto [it, added] = checkpoints_.try_emplace(checkpoint.job);
  if (added) it->second = state_.CheckpointsOf(checkpoint.job);
  CheckpointPtr& slot = it->second[KeyOf(checkpoint)];
  slot = std::make_shared<const CheckpointRecord>(std::move(checkpoint));
}

void Draft::Event(std::string resource, absl::string_view reason, std::string message, absl::string_view actor,
                  std::string before, std::string after) {
  events_.push_back({++counters_.event_revision, now_.wall, std::move(resource), std::string(reason),
                     std::move(message), std::string(actor), request_id_, std::move(before), std::move(after)});
}

void Draft::ChargeShares() {
  std::map<std::string, int> taken;
  std::set<std::string> durable;
  for (const auto& [id, changed] : jobs_) {
    const JobRecord& job = *changed.record;
    const JobPtr& base = state_.FindJob(id);
    const int after = HeldDevices(job), more = after - (base == nullptr ? 0 : HeldDevices(*base));
    const bool saved = checkpoints_.count(id) > 0 && after > 0;
    if (more == 0 && !saved) continue;
    for (const std::string& share :
         {ProjectShare(job.details->project), OwnerShare(job.details->project, job.details->owner)}) {
      taken[share] += more;
      if (more < 0 || saved) durable.insert(share);
    }
  }
  for (const auto& [id, more] : taken) {
    ShareRecord share = state_.ShareOf(id);
    share.usage = UsageAt(share, now_.mono, options_.share_half_life);
    share.as_of_mono = now_.mono;
    share.devices += more;
    others_.push_back(PutShare{std::move(share), durable.count(id) > 0});
  }
}

StepResult Draft::Finish() && {
  ChargeShares();
  result_.mutations.reserve(jobs_.size() + workers_.size() + others_.size() + events_.size() + 8);
  for (auto& [id, changed] : jobs_) {
    changed.record->revision = ++counters_.job_revision;
    result_.mutations.push_back(PutJob{std::move(changed.record), changed.durable});
  }
  for (auto& [id, changed] : workers_) {
    result_.mutations.push_back(PutWorker{std::move(changed.record), changed.durable});
  }
  for (const auto& [job, of_job] : checkpoints_) {
    const ClusterState::Checkpoints& before = state_.CheckpointsOf(job);
    for (const auto& [key, checkpoint] : of_job) {
      const auto was = before.find(key);
      if (was == before.end() || was->second != checkpoint)
        result_.mutations.push_back(scheduler::PutCheckpoint{checkpoint});
    }
  }
  for (Mutation& other : others_) result_.mutations.push_back(std::move(other));
  for (const std::string& id : erased_jobs_) {
    result_.mutations.push_back(scheduler::EraseJob{id, ++counters_.job_revision});
  }
  for (EventRecord& event : events_) result_.mutations.push_back(AppendEvent{std::move(event)});
  if (!(counters_ == state_.counters())) {
    result_.mutations.push_back(SetCounters{counters_.job_revision, counters_.event_revision, counters_.create_order});
  }
  if (pass_need_ != state_.pass_need()) result_.mutations.push_back(SetPassDue{pass_need_});
  return std::move(result_);
}

}  // namespace p2::scheduler
