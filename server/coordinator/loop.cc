#include "server/coordinator/loop.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "common/error_reason.h"
#include "common/failpoint.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "server/coordinator/spool_bytes.h"
#include "server/coordinator/worker_messages.h"

namespace p2::coordinator {
namespace {

using scheduler::Event;
using scheduler::Mutation;

constexpr size_t kSpecsKept = 64;
constexpr int kMaxPasses = 100;     // A batch; the next one goes on.
constexpr size_t kMaxBatch = 1024;  // Items a round: bounds how long an answer waits for those behind it.
constexpr absl::Duration kThinningBudget = absl::Milliseconds(2);  // A tick: bounds what the loop then has to write.
constexpr absl::Duration kThinningPause = absl::Minutes(1);        // Once nothing was due.

absl::Status Stopping() { return Error(ErrorReason::kShuttingDown, "p2d is stopping; try again"); }

// The job that a command is about; empty if none.
template <typename Command>
absl::string_view JobOf(const Command& command) {
  if constexpr (requires { command.job; }) {
    return command.job;
  } else {
    return "";
  }
}

}  // namespace

Loop::Loop(const Coordinator::Options& options, ReadView& view, WatchHub& hub)
    : options_(options), view_(view), hub_(hub), ids_(options.id_seed) {}

scheduler::Moment Loop::Now() const { return {options_.clock->Now(), options_.clock->Monotonic()}; }

absl::Status Loop::LoadState() {
  P2_ASSIGN_OR_RETURN(store::PersistedState stored, options_.store->Load());
  for (auto& worker : stored.workers) state_.Apply(scheduler::PutWorker{std::move(worker)});
  for (auto& dataset : stored.datasets) state_.Apply(scheduler::PutDataset{std::move(dataset)});
  for (auto& job : stored.jobs) state_.Apply(scheduler::PutJob{std::move(job)});
  for (auto& checkpoint : stored.checkpoints) state_.Apply(scheduler::PutCheckpoint{std::move(checkpoint)});
  for (auto& queue : stored.queues) state_.Apply(scheduler::PutQueue{std::move(queue)});
  for (auto& share : stored.shares) state_.Apply(scheduler::PutShare{std::move(share)});
  for (auto& quota : stored.quotas) state_.Apply(scheduler::PutQuota{std::move(quota)});
  for (auto& deletion : stored.deletions) state_.Apply(scheduler::PutDeletion{std::move(deletion)});
  state_.Apply(stored.counters);
  hub_.Reset(stored.counters.job_revision, stored.counters.event_revision);
  return absl::OkStatus();
}

absl::Status Loop::Recover() {
  P2_RETURN_IF_ERROR(LoadState());
  {
    Batch batch;
    P2_RETURN_IF_ERROR(Step(batch, scheduler::Recovered{}).status());
    P2_RETURN_IF_ERROR(options_.store->Apply(batch.mutations));
  }
  // In a batch of its own: both change every job that waits, and a batch holds what it changed.
  Batch batch;
  Schedule(batch);
  P2_RETURN_IF_ERROR(options_.store->Apply(batch.mutations));
  view_.Reset(state_);
  hub_.Reset(state_.counters().job_revision, state_.counters().event_revision);
  return absl::OkStatus();
}

void Loop::Run() {
  const Clock& clock = Clock::Real();
  absl::Time next_tick = clock.Monotonic() + options_.tick_interval;
  absl::Time last_look = clock.Monotonic();  // When the loop was last seen to run.
  while (true) {
    inbox_bell_.WaitFor(next_tick - clock.Monotonic());
    std::vector<Item> items;
    {
      absl::MutexLock lock(&mutex_);
      if (stopped_) break;
      if (inbox_.size() <= kMaxBatch) {
        items.swap(inbox_);
      } else {
        items.assign(std::make_move_iterator(inbox_.begin()), std::make_move_iterator(inbox_.begin() + kMaxBatch));
        inbox_.erase(inbox_.begin(), inbox_.begin() + kMaxBatch);
        inbox_bell_.Ring();
      }
    }
    const absl::Time now = clock.Monotonic();
    if (now >= next_tick) {
      // What came meanwhile may still wait in sockets: workers are not silent because p2d did not listen.
      const absl::Duration stalled = now - last_look - 2 * options_.tick_interval;
      items.push_back(Command{scheduler::Tick{std::max(absl::ZeroDuration(), stalled)}, nullptr});
      next_tick = now + options_.tick_interval;
    }
    last_look = now;
    if (!items.empty()) RunBatch(std::move(items));
  }
  for (auto& [worker, session] : sessions_) session->Close(Stopping());
}

absl::Status Loop::Push(Item&& item) {
  absl::MutexLock lock(&mutex_);
  if (stopped_) return Stopping();
  inbox_.push_back(std::move(item));
  inbox_bell_.Ring();
  return absl::OkStatus();
}

void Loop::Stop() {
  std::vector<Item> waiting;
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
    inbox_bell_.Ring();
    waiting.swap(inbox_);
  }
  for (Item& item : waiting) {
    if (auto* command = std::get_if<Command>(&item); command != nullptr && command->done) command->done(Stopping());
    if (auto* greeting = std::get_if<Greeting>(&item)) greeting->done(Stopping());
    if (auto* message = std::get_if<Message>(&item)) message->session->Close(Stopping());
    if (auto* inquiry = std::get_if<Inquiry>(&item)) inquiry->done(Stopping());
  }
}

void Loop::RunBatch(std::vector<Item> items) {
  if (failed_) return;
  Batch batch;
  step_time_ = absl::ZeroDuration();
  for (Item& item : items) {
    std::visit([&](auto& it) { Take(batch, it); }, item);
    if (failed_) return;
  }
  Schedule(batch);
  if (!Commit(batch)) return;
  if (absl::Status status = P2_FAILPOINT("loop.before_publish"); !status.ok()) return Fail(status);
  Publish(batch);
  if (absl::Status status = P2_FAILPOINT("loop.before_answer"); !status.ok()) return Fail(status);
  for (const auto& tell : batch.after) tell();
  if (absl::Status status = P2_FAILPOINT("loop.before_ack"); !status.ok()) return Fail(status);
  for (const std::string& worker : batch.spools) {
    auto session = sessions_.find(worker);
    if (session == sessions_.end()) continue;
    v1::ConnectResponse ack;
    ack.mutable_spool_ack()->set_sequence(state_.FindWorker(worker)->spool_acked);
    session->second->Send(std::move(ack));
  }
  state_.DropFinished();
  if (batch.ticked) ThinMetrics();
}

void Loop::ThinMetrics() {
  const scheduler::Moment now = Now();
  if (options_.metrics_raw_for == absl::InfiniteDuration() || state_.disk_full() || now.mono < next_thinning_) return;
  if (std::exchange(thinning_, true)) return;
  thinning_is_stale_ = false;
  if (thinner_ == nullptr) {
    thinner_ = std::make_unique<ThinningThread>(
        *options_.store, [this](auto chunks) { Push(Thinned{std::move(chunks)}).IgnoreError(); });
  }
  thinner_->Begin(now.wall - options_.metrics_raw_for, kThinningBudget);
}

void Loop::Take(Batch&, Thinned& thinned) {
  thinning_ = false;
  const absl::Status& read = thinned.chunks.status();
  if (absl::IsDataLoss(read)) {  // `admin check` tells more.
    P2_LOG(kWarning) << "old metrics are not thinned: " << read.message();
  } else if (!read.ok()) {
    return Fail(read);
  } else if (thinning_is_stale_ || state_.disk_full()) {
    return;
  } else if (absl::Status written = options_.store->CommitThinning(*thinned.chunks); !written.ok()) {
    return Fail(written);
  }
  if (!read.ok() || thinned.chunks->empty()) next_thinning_ = Now().mono + kThinningPause;
}

void Loop::Schedule(Batch& batch) {
  for (int passes = 0; state_.pass_due() && passes < kMaxPasses; ++passes)
    Step(batch, scheduler::SchedulePass{}).IgnoreError();  // It has no errors.
}

void Loop::Take(Batch& batch, Command& command) {
  absl::StatusOr<std::string> answer;
  if (absl::Status prepared = PrepareCommand(batch, command.event); !prepared.ok()) {
    answer = prepared;
  } else {
    answer = Step(batch, command.event);
  }
  batch.ticked |= std::holds_alternative<scheduler::Tick>(command.event);
  if (command.done) {
    const bool may_be_gone = std::holds_alternative<scheduler::DeleteJob>(command.event) ||
                             std::holds_alternative<scheduler::ControlJobs>(command.event) ||
                             std::holds_alternative<scheduler::CreateJobs>(command.event);
    // The records as they stand when the batch is done: a job may have got its devices in it.
    batch.after.push_back([this, may_be_gone, done = std::move(command.done), answer = std::move(answer)] {
      if (!answer.ok()) return done(answer.status());
      Coordinator::Answer found = AnswerOf(*answer);
      if (!may_be_gone && found.job == nullptr && absl::StartsWith(*answer, "jobs/")) {
        // A request of before that job's end, asked again.
        return done(Error(ErrorReason::kJobNotFound,
                          absl::StrCat("job \"", absl::StripPrefix(*answer, "jobs/"),
                                       "\", which this request ID was answered with, has been deleted")));
      }
      done(std::move(found));
    });
  }
}

void Loop::Take(Batch& batch, Greeting& greeting) {
  const std::string worker = greeting.event.hello.id;
  greeting.event.hello.session = ++last_session_;
  for (const scheduler::RunningAttempt& running : greeting.event.running) Load(batch, running.job);
  // The session is there before the step, so that its first messages find it; the welcome goes before them.
  auto session = std::make_shared<WorkerSession>(worker, last_session_);
  SessionPtr previous = std::exchange(sessions_[worker], session);
  const size_t welcome = batch.after.size();
  batch.after.emplace_back();
  if (absl::Status status = Step(batch, greeting.event).status(); !status.ok()) {
    sessions_[worker] = previous;
    batch.after[welcome] = [done = std::move(greeting.done), status] { done(status); };
    return;
  }
  if (previous != nullptr) previous->Close(absl::UnavailableError("a newer stream of this worker took over"));
  batch.after[welcome] = [this, session, worker, done = std::move(greeting.done)] {
    session->Send(Welcome(worker));
    done(session);
  };
}

void Loop::Take(Batch& batch, Message& item) {
  const SessionPtr& session = item.session;
  session->MessageTaken();
  if (!session->status().ok()) return;
  absl::Status status;
  switch (item.message.message_case()) {
    case v1::ConnectRequest::kHeartbeat:
      status = Step(batch, FromHeartbeat(item.message.heartbeat(), session->worker(), session->id())).status();
      break;
    case v1::ConnectRequest::kPrepareReply:
      status = Step(batch, FromPrepareReply(item.message.prepare_reply(), session->worker())).status();
      break;
    case v1::ConnectRequest::kDeleteDone:
      status = Step(batch, FromDeleteDone(item.message.delete_done(), session->worker())).status();
      break;
    case v1::ConnectRequest::kSpool:
      return TakeSpool(batch, session, item.message.spool());
    default:
      status = absl::InvalidArgumentError("a message of no known kind, or a second Hello");
  }
  if (!status.ok()) session->Close(status);
}

void Loop::Take(Batch& batch, Farewell& farewell) {
  farewell.session->Close(absl::CancelledError("the stream has ended"));
  auto current = sessions_.find(farewell.session->worker());
  if (current != sessions_.end() && current->second == farewell.session) sessions_.erase(current);
  Step(batch, scheduler::WorkerDisconnected{farewell.session->worker(), farewell.session->id()}).IgnoreError();
}

void Loop::Take(Batch& batch, Inquiry& inquiry) {
  Load(batch, inquiry.job);
  batch.after.push_back([this, look = std::move(inquiry.look), done = std::move(inquiry.done)] {
    look({state_, Now(), options_.step});
    done(absl::OkStatus());
  });
}

void Loop::TakeSpool(Batch& batch, const SessionPtr& session, const v1::SpoolRecord& record) {
  const scheduler::WorkerPtr worker = state_.FindWorker(session->worker());
  scheduler::SpoolReport report = FromSpool(record, session->worker(), worker->spool_id);
  Load(batch, record.job());
  const scheduler::JobPtr job = state_.FindJob(record.job());
  // Bytes of the next record only; a stale attempt may add to its own log, but never replaces an artifact.
  const bool next = record.sequence() == worker->spool_acked + 1;
  const bool wanted = job != nullptr && (record.has_log() || (record.has_artifact() && record.epoch() == job->epoch));
  if (next && wanted) {
    absl::StatusOr<scheduler::SpoolBody> body = StoreBytes(*options_.blobs, record);
    if (!body.ok()) return Fail(body.status());
    report.body = *std::move(body);
    batch.bytes_written = true;
    batch.active_jobs.insert(record.job());
  } else if (next && (record.has_log() || record.has_artifact()) && options_.observer != nullptr) {
    options_.observer->OnRefused(session->worker(),
                                 absl::StrCat("bytes of job ", record.job(), " at epoch ", record.epoch()));
  }
  if (absl::Status status = Step(batch, report).status(); !status.ok()) return session->Close(status);
  batch.spools.insert(session->worker());
}

absl::StatusOr<std::string> Loop::Step(Batch& batch, const Event& event) {
  const absl::Time begin = absl::Now();
  absl::StatusOr<scheduler::StepResult> result = scheduler::Step(state_, event, Now(), options_.step);
  if (!result.ok()) return result.status();
  for (Mutation& mutation : result->mutations) {
    state_.Apply(mutation);
    if (const auto* put = std::get_if<scheduler::PutRequest>(&mutation))
      batch.requests[put->request.request_id] = batch.mutations.size();
    if (const auto* erase = std::get_if<scheduler::EraseJob>(&mutation)) batch.erased_jobs.insert(erase->job);
    thinning_is_stale_ |= std::holds_alternative<scheduler::EraseJob>(mutation) ||
                          std::holds_alternative<scheduler::SupersedeMetrics>(mutation);
    batch.mutations.push_back(std::move(mutation));
  }
  for (const scheduler::Action& action : result->actions) {
    const auto session =
        sessions_.find(std::visit([](const auto& it) -> const std::string& { return it.worker; }, action));
    if (session == sessions_.end() || session->second == nullptr) continue;  // Issued again when the worker connects.
    batch.after.push_back([this, action, to = session->second] { Send(*to, action); });
  }
  if (!result->refused.empty() && options_.observer != nullptr) {
    const auto* report = std::get_if<scheduler::SpoolReport>(&event);
    options_.observer->OnRefused(report == nullptr ? "" : report->worker, result->refused);
  }
  step_time_ += absl::Now() - begin;
  return std::move(result->answer);
}

void Loop::Load(const Batch& batch, absl::string_view id) {
  if (id.empty() || state_.FindJob(id) != nullptr || batch.erased_jobs.count(std::string(id)) > 0) return;
  absl::StatusOr<scheduler::JobPtr> job = options_.store->GetJob(id);
  if (absl::IsNotFound(job.status()) || absl::IsInvalidArgument(job.status())) return;
  if (!job.ok()) return Fail(job.status());
  absl::StatusOr<std::vector<scheduler::CheckpointPtr>> checkpoints = options_.store->ListCheckpoints(id);
  if (!checkpoints.ok()) return Fail(checkpoints.status());
  state_.LoadFinished(*std::move(job), *checkpoints);
}

void Loop::PrepareNewJob(const Batch& batch, scheduler::CreateJob& job, std::set<std::string>& drawn) {
  Load(batch, job.needs.source.job);
  Load(batch, job.lineage.job);
  job.id = ids_.Draw(job.id, [&](const std::string& id) {
    return drawn.count(id) > 0 || state_.FindJob(id) != nullptr ||
           !absl::IsNotFound(options_.store->GetJob(id).status());
  });
  drawn.insert(job.id);
}

absl::Status Loop::PrepareCommand(Batch& batch, Event& event) {
  return std::visit(
      [&](auto& command) -> absl::Status {
        using Type = std::decay_t<decltype(command)>;
        std::set<std::string> drawn;
        Load(batch, JobOf(command));
        if constexpr (std::is_same_v<Type, scheduler::CreateJob>) PrepareNewJob(batch, command, drawn);
        if constexpr (std::is_same_v<Type, scheduler::CreateJobs>) {
          for (scheduler::CreateJob& job : command.jobs) PrepareNewJob(batch, job, drawn);
        }
        if constexpr (std::is_same_v<Type, scheduler::ControlJobs>) {
          for (const std::string& job : command.jobs) Load(batch, job);
        }
        if constexpr (requires { command.info; }) {
          scheduler::CommandInfo& info = command.info;
          if (!info.request_id.empty()) {
            if (auto it = batch.requests.find(info.request_id); it != batch.requests.end()) {
              info.previous = std::get<scheduler::PutRequest>(batch.mutations[it->second]).request;
            } else {
              P2_ASSIGN_OR_RETURN(info.previous, options_.store->GetRequest(info.request_id));
            }
          }
          if (info.previous.has_value()) {
            for (absl::string_view name : absl::StrSplit(info.previous->resource, ',', absl::SkipEmpty()))
              Load(batch, absl::StripPrefix(name, "jobs/"));
          }
        }
        return absl::OkStatus();
      },
      event);
}

Coordinator::Answer Loop::AnswerOf(const std::string& resources) const {
  Coordinator::Answer answer;
  for (absl::string_view id : absl::StrSplit(resources, ',', absl::SkipEmpty())) {
    answer.names.emplace_back(id);
    if (!absl::ConsumePrefix(&id, "jobs/")) continue;
    answer.job = view_.FindJob(id);
    if (answer.job == nullptr) answer.job = state_.FindJob(id);  // It has ended.
    if (answer.job != nullptr) answer.jobs.push_back(answer.job);
  }
  absl::string_view id = resources;
  if (absl::ConsumePrefix(&id, "workers/")) answer.worker = state_.FindWorker(id);
  if (absl::ConsumePrefix(&id, "datasets/")) answer.dataset = state_.FindDataset(id);
  return answer;
}

bool Loop::Commit(Batch& batch) {
  if (batch.bytes_written) {
    if (absl::Status status = options_.blobs->Sync(); !status.ok()) return Fail(status), false;
  }
  bool durable = false;
  for (const Mutation& mutation : batch.mutations) durable |= scheduler::IsDurable(mutation);
  absl::Duration write_time;
  if (durable) {
    const absl::Time begin = absl::Now();
    if (absl::Status status = options_.store->Apply(batch.mutations); !status.ok()) return Fail(status), false;
    write_time = absl::Now() - begin;
  }
  if (options_.observer != nullptr) options_.observer->OnCommit(state_, batch.mutations, step_time_, write_time);
  return true;
}

// One line for each job that is made, moves or goes: `jobs/tiny-1 JOB_STATE QUEUED -> STARTING (attempt 1, epoch 3)`.
void Loop::LogMove(const scheduler::EventRecord& event) const {
  if (event.reason == "WORKER_CORDONED") {
    P2_LOG(kWarning) << event.resource << " " << event.reason << " " << event.message;
  }
  if (!absl::StartsWith(event.reason, "JOB_")) return;
  const scheduler::JobPtr job = event.reason == "JOB_CREATED"
                                    ? nullptr  // It has no attempt yet.
                                    : state_.FindJob(absl::StripPrefix(event.resource, "jobs/"));
  const std::string attempt = job == nullptr || job->attempt_count == 0
                                  ? ""
                                  : absl::StrCat(" (attempt ", job->attempt_count, ", epoch ", job->epoch, ")");
  // What follows a line's end is the tail of a rank's log, which the event keeps.
  P2_LOG(kInfo) << event.resource << " " << event.reason << (event.message.empty() ? "" : " ")
                << event.message.substr(0, event.message.find('\n')) << attempt;
}

void Loop::Publish(Batch& batch) {
  const LogGroup one_write;
  view_.Apply(batch.mutations);
  std::vector<JobChange> jobs;
  std::vector<EventChange> events;
  for (Mutation& mutation : batch.mutations) {
    if (const auto* put = std::get_if<scheduler::PutJob>(&mutation)) {
      jobs.push_back({put->job->revision, put->job->id, put->job});
    } else if (const auto* erase = std::get_if<scheduler::EraseJob>(&mutation)) {
      jobs.push_back({erase->revision, erase->job, nullptr});
      if (absl::Status status = options_.blobs->DeleteJob(erase->job); !status.ok()) {
        P2_LOG(kWarning) << "logs and artifacts of deleted job " << erase->job << " are left: " << status.message();
      }
    } else if (auto* append = std::get_if<scheduler::AppendEvent>(&mutation)) {
      LogMove(append->event);
      events.push_back({append->event.revision, std::move(append->event)});
    }
  }
  hub_.Publish(std::move(jobs), std::move(events), batch.active_jobs);
}

void Loop::Send(WorkerSession& session, const scheduler::Action& action) {
  if (const auto* start = std::get_if<scheduler::StartGang>(&action)) {
    absl::StatusOr<v1::TrainingSpec> spec = SpecOf(start->spec_sha256);
    return spec.ok() ? session.Send(ToMessage(*start, *spec)) : Fail(spec.status());
  }
  if (const auto* prepare = std::get_if<scheduler::Prepare>(&action)) session.Send(ToMessage(*prepare));
  if (const auto* stop = std::get_if<scheduler::StopAttempt>(&action)) session.Send(ToMessage(*stop));
  if (const auto* path = std::get_if<scheduler::DeletePath>(&action)) session.Send(ToMessage(*path));
}

absl::StatusOr<v1::TrainingSpec> Loop::SpecOf(const std::string& sha256) {
  if (specs_.size() > kSpecsKept) specs_.clear();
  if (auto known = specs_.find(sha256); known != specs_.end()) return known->second;
  P2_ASSIGN_OR_RETURN(const std::string bytes, options_.store->GetSpec(sha256));
  v1::TrainingSpec spec;
  if (!spec.ParseFromString(bytes)) return absl::DataLossError(absl::StrCat("spec ", sha256, " cannot be parsed"));
  return specs_[sha256] = std::move(spec);
}

v1::ConnectResponse Loop::Welcome(const std::string& worker) const {
  v1::ConnectResponse message;
  v1::Welcome& welcome = *message.mutable_welcome();
  welcome.set_version(options_.version);
  welcome.set_spool_acked(state_.FindWorker(worker)->spool_acked);
  welcome.set_heartbeat_interval_ms(absl::ToInt64Milliseconds(options_.heartbeat_interval));
  welcome.set_lost_after_ms(absl::ToInt64Milliseconds(options_.step.lost_after));
  return message;
}

void Loop::Fail(const absl::Status& status) {
  failed_ = true;
  options_.fatal(status);
}

}  // namespace p2::coordinator
