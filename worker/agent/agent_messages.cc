// What the agent says to the coordinator and does at its word.
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/resource_name.h"
#include "common/status_macros.h"
#include "worker/agent/agent.h"

namespace p2::agent {

using p2::v1::ConnectRequest;
using p2::v1::ConnectResponse;

void Agent::Send(ConnectRequest message) {
  if (stream_ != 0) session_->Send(stream_, std::move(message));
}

void Agent::OnOpen(uint64_t stream) {
  stream_ = stream;
  opened_ = clock_.Monotonic();
  ConnectRequest message;
  p2::v1::Hello& hello = *message.mutable_hello();
  hello.set_worker(options_.name);
  hello.set_instance(instance_);
  hello.set_protocol_version(kProtocolVersion);
  hello.set_version(P2_VERSION);
  char host[256] = {};
  gethostname(host, sizeof(host) - 1);
  hello.set_host(host);
  hello.set_data_address(data_address_);
  hello.mutable_slots()->Add(slots_.begin(), slots_.end());
  hello.mutable_roots()->Add(roots_.begin(), roots_.end());
  hello.mutable_labels()->insert(options_.labels.begin(), options_.labels.end());
  for (const auto& [key, attempt] : attempts_)
    if (attempt->state() != Attempt::State::kEnded) *hello.add_running() = attempt->Describe();
  hello.set_spool_id(spool_->id());
  hello.set_spool_last(spool_->last());
  hello.set_spool_first(spool_->first_kept());
  Send(std::move(message));
}

void Agent::OnClosed(uint64_t stream, const absl::Status& why) {
  if (stream != stream_) return;
  P2_LOG(kWarning) << "the stream to " << options_.coordinator
                   << " ended: " << why.ToString(absl::StatusToStringMode::kWithNoExtraData);
  stream_ = 0;
  if (welcomed_.exchange(false)) cut_off_since_ = clock_.Monotonic();
  metrics_.OnConnected(false);
}

void Agent::OnMessage(uint64_t stream, ConnectResponse message) {
  if (stream != stream_) return;
  SettleEnded();  // The report of an end has told the coordinator that the slots are free.
  switch (message.message_case()) {
    case ConnectResponse::kWelcome:
      return OnWelcome(message.welcome());
    case ConnectResponse::kPrepare:
      return OnPrepare(message.prepare());
    case ConnectResponse::kStart:
      return OnStart(message.start());
    case ConnectResponse::kStop:
      return OnStop(message.stop());
    case ConnectResponse::kSpoolAck:
      return OnSpoolAck(message.spool_ack().sequence());
    case ConnectResponse::kDelete:
      return OnDelete(message.delete_());
    case ConnectResponse::MESSAGE_NOT_SET:
      P2_LOG(kWarning) << "the coordinator sent a message that this version does not know; update p2-worker";
  }
}

void Agent::OnWelcome(const p2::v1::Welcome& welcome) {
  P2_LOG(kInfo) << "welcomed by the coordinator at " << options_.coordinator << ", version " << welcome.version();
  session_->Welcomed();
  welcomed_ = true;
  cut_off_since_ = absl::InfiniteFuture();
  metrics_.OnConnected(true);
  heartbeat_interval_ = options_.heartbeat_interval;
  if (welcome.heartbeat_interval_ms() > 0)
    heartbeat_interval_ = std::min(heartbeat_interval_, absl::Milliseconds(welcome.heartbeat_interval_ms()));
  sender_->Restart(welcome.spool_acked());
  OnSpoolAck(welcome.spool_acked());
  Heartbeat();
}

void Agent::OnSpoolAck(uint64_t sequence) {
  if (spool_->AckDrops(sequence)) {
    // The journals take over what the dropped segment knows; they may say only what is synced.
    FlushSpool();
    if (spool_->dirty()) return;
    for (const auto& [key, attempt] : attempts_) {
      if (attempt->state() != Attempt::State::kRunning && attempt->state() != Attempt::State::kEnding) continue;
      if (const absl::Status saved = attempt->SaveJournal(); !saved.ok()) {
        P2_LOG(kError) << "journal: " << saved.message();
        return;
      }
    }
  }
  if (const absl::Status acked = spool_->Ack(sequence); !acked.ok()) return Fail(acked);
  sender_->Acked(sequence);
  FlushSpool();
  RemoveAcked();
}

void Agent::Heartbeat() {
  last_heartbeat_ = clock_.Monotonic();
  ConnectRequest message;
  p2::v1::Heartbeat& heartbeat = *message.mutable_heartbeat();
  heartbeat.mutable_roots()->Add(roots_.begin(), roots_.end());
  for (const auto& [key, fault] : device_faults_) *heartbeat.add_device_faults() = fault;
  for (const auto& [key, attempt] : attempts_) {
    const std::optional<p2::trainer::v1::Progress> slowest = attempt->SlowestProgress();
    if (!slowest.has_value() || attempt->state() == Attempt::State::kEnded) continue;
    p2::v1::AttemptProgress& progress = *heartbeat.add_progress();
    progress.set_job(key.first);
    progress.set_epoch(key.second);
    *progress.mutable_progress() = *slowest;
  }
  Send(std::move(message));
}

Attempt* Agent::Find(const std::string& job, int64_t epoch) {
  const auto found = attempts_.find({job, epoch});
  return found == attempts_.end() ? nullptr : found->second.get();
}

void Agent::Reply(const p2::v1::Prepare& prepare, const absl::Status& status, int32_t master_port) {
  if (!status.ok()) {
    P2_LOG(kWarning) << "job " << prepare.job() << " epoch " << prepare.epoch() << " refused: " << status.message();
  }
  ConnectRequest message;
  p2::v1::PrepareReply& reply = *message.mutable_prepare_reply();
  reply.set_job(prepare.job());
  reply.set_epoch(prepare.epoch());
  reply.set_ok(status.ok());
  reply.set_source_missing(absl::IsNotFound(status));
  reply.set_message(std::string(status.message()));
  if (master_port != 0) {
    reply.set_master_address(data_address_);
    reply.set_master_port(master_port);
  }
  Send(std::move(message));
}

absl::StatusOr<std::vector<p2::v1::Slot>> Agent::ClaimSlots(const p2::v1::Prepare& prepare) {
  if (stopping_) return absl::FailedPreconditionError("the worker is stopping; place the gang elsewhere");
  if (!IsResourceId(prepare.job()))
    return absl::InvalidArgumentError(absl::StrCat("\"", prepare.job(), "\" is no job ID"));
  const auto highest = highest_epoch_.find(prepare.job());
  const auto ended = ended_epoch_.find(prepare.job());
  if (prepare.epoch() < 1 || (highest != highest_epoch_.end() && prepare.epoch() < highest->second))
    return absl::FailedPreconditionError(absl::StrCat("epoch ", prepare.epoch(), " is stale: this worker has seen ",
                                                      highest == highest_epoch_.end() ? 1 : highest->second));
  if (ended != ended_epoch_.end() && prepare.epoch() <= ended->second)
    return absl::FailedPreconditionError(
        absl::StrCat("epoch ", prepare.epoch(), " has ended here already; start a higher one"));
  if (prepare.ranks().empty() || prepare.world_size() < prepare.ranks_size())
    return absl::InvalidArgumentError(
        absl::StrCat(prepare.ranks_size(), " ranks of a world of ", prepare.world_size()));

  std::set<std::string> taken;
  for (const auto& [key, attempt] : attempts_)
    for (const p2::v1::Slot& slot : attempt->slots()) taken.insert(slot.id());
  std::vector<p2::v1::Slot> claimed;
  for (const p2::v1::PlacedRank& rank : prepare.ranks()) {
    const auto slot =
        std::find_if(slots_.begin(), slots_.end(), [&](const p2::v1::Slot& s) { return s.id() == rank.slot(); });
    if (slot == slots_.end())
      return absl::FailedPreconditionError(
          absl::StrCat("there is no slot ", rank.slot(), "; --devices gives this worker ", options_.devices));
    if (rank.rank() < 0 || rank.rank() >= prepare.world_size() || rank.local_rank() < 0)
      return absl::InvalidArgumentError(absl::StrCat("rank ", rank.rank(), " of a world of ", prepare.world_size()));
    if (!taken.insert(slot->id()).second) {
      const auto holder = std::find_if(attempts_.begin(), attempts_.end(), [&](const auto& item) {
        const auto& slots = item.second->slots();
        return std::any_of(slots.begin(), slots.end(), [&](const p2::v1::Slot& s) { return s.id() == slot->id(); });
      });
      return absl::FailedPreconditionError(absl::StrCat(
          "slot ", slot->id(), " is held by ",
          holder == attempts_.end() ? "another rank of this gang"
                                    : absl::StrCat("job ", holder->first.first, " epoch ", holder->first.second),
          "; try again when it is free"));
    }
    claimed.push_back(*slot);
  }
  return claimed;
}

void Agent::FenceOlder(const p2::v1::Prepare& prepare) {
  std::erase_if(attempts_, [&](const auto& item) {
    if (item.first.first != prepare.job() || item.first.second >= prepare.epoch()) return false;
    Attempt& older = *item.second;
    if (older.state() == Attempt::State::kPrepared || older.state() == Attempt::State::kChecking) return true;
    if (older.state() != Attempt::State::kEnded)
      older.KillNow(absl::StrCat("ended because epoch ", prepare.epoch(), " of the job begins"));
    return false;
  });
}

void Agent::OnPrepare(const p2::v1::Prepare& prepare) {
  if (Attempt* known = Find(prepare.job(), prepare.epoch());
      known != nullptr && known->state() != Attempt::State::kEnded) {
    if (known->state() != Attempt::State::kChecking) Reply(prepare, absl::OkStatus(), known->master_port());
    return;
  }
  if (IsResourceId(prepare.job())) FenceOlder(prepare);
  absl::StatusOr<std::vector<p2::v1::Slot>> slots = ClaimSlots(prepare);
  if (!slots.ok()) return Reply(prepare, slots.status(), 0);
  highest_epoch_[prepare.job()] = prepare.epoch();
  const Attempt::Context context{options_, data_address_, loop_, *spool_, clock_, [this] { FlushSpool(); }};
  attempts_[{prepare.job(), prepare.epoch()}] = std::make_unique<Attempt>(context, prepare, *std::move(slots));
  const auto checked = std::make_shared<absl::StatusOr<JobDirectories>>(absl::UnknownError(""));
  loop_.InPool([this, prepare, checked] { *checked = CheckStorage(prepare, options_.roots); },
               [this, prepare, checked] {
                 Attempt* attempt = Find(prepare.job(), prepare.epoch());
                 if (attempt == nullptr || attempt->state() != Attempt::State::kChecking) return;
                 absl::Status held = checked->status();
                 if (held.ok()) held = attempt->Hold(**std::move(checked));
                 Reply(prepare, held, attempt->master_port());
                 if (!held.ok()) attempts_.erase({prepare.job(), prepare.epoch()});
               });
}

void Agent::ReportNotStarted(const p2::v1::Start& start, const std::string& why) {
  P2_LOG(kWarning) << "job " << start.job() << " epoch " << start.epoch() << " not started: " << why;
  highest_epoch_[start.job()] = ended_epoch_[start.job()] = start.epoch();
  p2::v1::SpoolRecord record;
  record.set_job(start.job());
  record.set_epoch(start.epoch());
  record.set_attempt(start.launch().attempt());
  record.mutable_ended()->set_worker_stopped(true);
  record.mutable_ended()->set_log_tail(why);
  spool_->Append(std::move(record));
  FlushSpool();
}

void Agent::OnStart(const p2::v1::Start& start) {
  Attempt* attempt = Find(start.job(), start.epoch());
  if (attempt != nullptr) {
    if (attempt->state() == Attempt::State::kPrepared) attempt->Start(start);
    return;
  }
  const auto ended = ended_epoch_.find(start.job());
  const auto highest = highest_epoch_.find(start.job());
  if ((ended != ended_epoch_.end() && start.epoch() <= ended->second) ||
      (highest != highest_epoch_.end() && start.epoch() < highest->second)) {
    P2_LOG(kWarning) << "job " << start.job() << ": Start of epoch " << start.epoch() << " comes too late";
    return;
  }
  if (!IsResourceId(start.job()) || start.epoch() < 1) return;
  ReportNotStarted(start, "its slots are not held any more: the hold ran out or the worker was restarted");
}

void Agent::OnStop(const p2::v1::StopAttempt& stop) {
  Attempt* attempt = Find(stop.job(), stop.epoch());
  if (attempt == nullptr || attempt->state() == Attempt::State::kEnded) return;
  if (attempt->state() == Attempt::State::kPrepared || attempt->state() == Attempt::State::kChecking) {
    TidyStorage(*attempt);
    attempts_.erase({stop.job(), stop.epoch()});
  } else if (stop.mode() == p2::v1::StopAttempt::KILL) {
    attempt->KillNow("killed on request");
  } else {
    attempt->Stop(/*worker_stopped=*/false);
  }
}

void Agent::OnDelete(const p2::v1::DeletePath& request) {
  const auto deleted = std::make_shared<absl::StatusOr<int64_t>>(0);
  loop_.InPool([this, request, deleted] { *deleted = DeleteFromRoot(request, options_.roots); },
               [this, request, deleted] {
                 if (deleted->ok()) metrics_.OnDeleted(**deleted);
                 ConnectRequest message;
                 p2::v1::DeleteDone& done = *message.mutable_delete_done();
                 done.set_root_id(request.root_id());
                 done.set_path(request.path());
                 done.set_error(std::string(deleted->status().message()));
                 Send(std::move(message));
               });
}

}  // namespace p2::agent
