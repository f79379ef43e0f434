// A cluster in a test: a state, a clock, and short words for what happens to it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/scheduler/step.h"

namespace p2::scheduler {

class Cluster {
 public:
  StepOptions options;
  ClusterState state;
  Moment now{absl::FromUnixSeconds(1'700'000'000), absl::FromUnixSeconds(1000)};
  std::vector<Action> actions;      // Of the last event.
  std::vector<Mutation> mutations;  // Of the last event.
  std::vector<EventRecord> events;  // Of all.
  std::string refused, answer;      // Of the last event.

  absl::Status Do(const Event& event) {
    actions.clear();
    mutations.clear();
    absl::StatusOr<StepResult> result = Step(state, event, now, options);
    if (!result.ok()) return result.status();
    refused = result->refused;
    answer = result->answer;
    Take(*result);
    while (state.pass_due()) Take(*Step(state, SchedulePass{}, now, options));
    return absl::OkStatus();
  }
  void Must(const Event& event) {
    const absl::Status status = Do(event);
    ASSERT_TRUE(status.ok()) << status;
  }

  void Wait(absl::Duration time) {
    now.wall += time;
    now.mono += time;
  }
  // Time passes while the workers named keep their heartbeats.
  void Pass(absl::Duration time, const std::vector<std::string>& alive = {}) {
    for (absl::Duration left = time; left > absl::ZeroDuration(); left -= absl::Seconds(1)) {
      Wait(std::min(left, absl::Duration(absl::Seconds(1))));
      for (const std::string& worker : alive) {
        Must(Heartbeat{worker, state.FindWorker(worker)->session, {}, state.FindWorker(worker)->roots});
      }
      Must(Tick{});
    }
  }

  static std::vector<SlotRecord> Slots(const std::string& kind, int count) {
    std::vector<SlotRecord> slots;
    for (int i = 0; i < count; ++i) slots.push_back({absl::StrCat(kind, ":", i), kind});
    return slots;
  }
  WorkerConnected Hello(const std::string& worker, std::vector<SlotRecord> slots, const std::string& instance = "i1",
                        std::vector<RunningAttempt> running = {}) {
    WorkerConnected event;
    event.hello.id = worker;
    event.hello.instance = instance;
    event.hello.slots = std::move(slots);
    event.hello.roots = {{"data", "root-data"}};
    event.hello.spool_id = absl::StrCat("spool-", worker);
    event.hello.session = ++last_session_;
    event.running = std::move(running);
    return event;
  }
  void Connect(const std::string& worker, std::vector<SlotRecord> slots) { Must(Hello(worker, std::move(slots))); }

  static CreateJob Submission(const std::string& id, int devices = 1) {
    CreateJob create;
    create.info.actor = "user:ann";
    create.id = id;
    create.needs.devices = devices;
    create.needs.kind = "cpu";
    create.needs.dataset_root = create.needs.checkpoint_root = "data";
    create.needs.dataset_root_id = create.needs.checkpoint_root_id = "root-data";
    create.needs.images_total = 1000;
    create.spec_sha256 = "spec-hash";
    create.spec_bytes = "spec";
    return create;
  }
  void Submit(const std::string& id, int devices = 1) { Must(Submission(id, devices)); }

  // A record of the worker's spool, about the job's present epoch.
  SpoolReport Record(const std::string& worker, const std::string& job, SpoolBody body, int rank = 0) {
    const JobPtr record = state.FindJob(job);
    return {worker,
            state.FindWorker(worker)->spool_id,
            state.FindWorker(worker)->spool_acked + 1,
            job,
            record == nullptr ? 1 : record->epoch,
            record == nullptr ? 1 : record->attempt_count,
            rank,
            std::move(body)};
  }
  void Report(const std::string& worker, const std::string& job, SpoolBody body, int rank = 0) {
    Must(Record(worker, job, std::move(body), rank));
  }

  std::vector<std::string> WorkersOf(const std::string& job) {
    std::vector<std::string> workers;
    for (const Member& member : state.FindJob(job)->attempts.back()->members) workers.push_back(member.worker);
    return workers;
  }
  void PrepareAll(const std::string& job) {
    for (const std::string& worker : WorkersOf(job)) {
      Must(PrepareReply{worker, job, state.FindJob(job)->epoch, true, "", "10.0.0.1", 7000});
    }
  }
  // From QUEUED with free devices to RUNNING.
  void Run(const std::string& job) {
    PrepareAll(job);
    for (const std::string& worker : WorkersOf(job)) Report(worker, job, AttemptStarted{});
    ASSERT_EQ(Job(job).state, JobState::kRunning);
  }
  void Commit(const std::string& worker, const std::string& job, int64_t images) {
    CheckpointReported reported;
    reported.checkpoint.images_seen = images;
    reported.checkpoint.id = absl::StrCat("ckpt-", images);
    reported.checkpoint.path = absl::StrCat(job, "/ckpt-", images);
    Report(worker, job, reported);
  }
  // The only rank of a one-worker gang ends.
  void EndRank(const std::string& worker, const std::string& job, int exit_code, const std::string& log_tail = "") {
    Report(worker, job, AttemptEnded{{{0, exit_code}}, false, log_tail});
  }

  const JobRecord& Job(const std::string& id) { return *state.FindJob(id); }
  const WorkerRecord& Worker(const std::string& id) { return *state.FindWorker(id); }

  template <typename T>
  std::vector<T> ActionsOf() const {
    std::vector<T> found;
    for (const Action& action : actions) {
      if (const T* it = std::get_if<T>(&action)) found.push_back(*it);
    }
    return found;
  }
  template <typename T>
  std::vector<T> MutationsOf() const {
    std::vector<T> found;
    for (const Mutation& mutation : mutations) {
      if (const T* it = std::get_if<T>(&mutation)) found.push_back(*it);
    }
    return found;
  }
  std::vector<std::string> EventReasons() const {
    std::vector<std::string> reasons;
    for (const EventRecord& event : events) reasons.push_back(event.reason);
    return reasons;
  }

 private:
  void Take(const StepResult& result) {
    actions.insert(actions.end(), result.actions.begin(), result.actions.end());
    for (const Mutation& mutation : result.mutations) {
      state.Apply(mutation);
      mutations.push_back(mutation);
      if (const auto* append = std::get_if<AppendEvent>(&mutation)) events.push_back(append->event);
    }
  }

  int64_t last_session_ = 0;
};

}  // namespace p2::scheduler
