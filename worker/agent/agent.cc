#include "worker/agent/agent.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include <algorithm>
#include <bit>
#include <filesystem>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/http/prometheus_text.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"
#include "worker/agent/device_inventory.h"
#include "worker/agent/network.h"

namespace p2::agent {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(50);
// A longer pause between two ticks means that this process did not run.
constexpr absl::Duration kPause = absl::Seconds(1);

std::string NewInstance() {
  uuid_t drawn;
  char text[37];
  uuid_generate(drawn);
  uuid_unparse_lower(drawn, text);
  return text;
}

}  // namespace

Agent::Agent(AgentOptions options, const Clock& clock)
    : options_(std::move(options)),
      clock_(clock),
      instance_(NewInstance()),
      metrics_(P2_VERSION),
      heartbeat_interval_(options_.heartbeat_interval) {}

Agent::~Agent() {
  session_.reset();
  fault_watch_.reset();
  if (http_ != nullptr) http_->Stop();
  attempts_.clear();
}

absl::StatusOr<std::unique_ptr<Agent>> Agent::Create(AgentOptions options, const Clock& clock) {
  std::unique_ptr<Agent> agent(new Agent(std::move(options), clock));
  P2_RETURN_IF_ERROR(agent->Open());
  return agent;
}

absl::Status Agent::Open() {
  signal(SIGPIPE, SIG_IGN);
  P2_ASSIGN_OR_RETURN(slots_, ListSlots(options_.devices, ProbeMachine(options_.nvml_library)));
  P2_ASSIGN_OR_RETURN(data_address_, DataAddress(options_.data_interface, options_.coordinator));
  for (const auto& [name, directory] : options_.roots) P2_RETURN_IF_ERROR(ReadRoot(name, directory).status());
  if (access(options_.trainer.c_str(), X_OK) != 0)
    return absl::FailedPreconditionError(
        absl::StrCat(ErrnoError(options_.trainer).message(), "; --trainer names p2-trainer's path"));

  std::error_code error;
  std::filesystem::create_directories(options_.data_dir, error);
  if (error)
    return absl::FailedPreconditionError(absl::StrCat("--data-dir ", options_.data_dir, ": ", error.message()));
  const std::string lock_file = absl::StrCat(options_.data_dir, "/lock");
  lock_.reset(open(lock_file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock_.ok()) return ErrnoError(lock_file);
  if (flock(lock_.get(), LOCK_EX | LOCK_NB) != 0)
    return absl::AlreadyExistsError(absl::StrCat(
        "--data-dir ", options_.data_dir, " is in use by another p2-worker; stop it, or name another directory"));
  P2_ASSIGN_OR_RETURN(spool_, Spool::Open({.dir = absl::StrCat(options_.data_dir, "/spool"),
                                           .limit_bytes = options_.spool_limit_bytes}));
  sender_ = std::make_unique<SpoolSender>(*spool_);
  return ServeHttp();
}

absl::Status Agent::ServeHttp() {
  if (options_.http == "off") return absl::OkStatus();
  http::HttpServerOptions server;
  const size_t colon = options_.http.rfind(':');
  if (colon == std::string::npos || !absl::SimpleAtoi(options_.http.substr(colon + 1), &server.port))
    return absl::InvalidArgumentError(absl::StrCat("--http \"", options_.http, "\" is not host:port or off"));
  server.address = options_.http.substr(0, colon);
  const auto alive = [this] {
    const int64_t last_tick_ns = last_tick_ns_;  // 0: leftovers are still being settled.
    const absl::Duration silent = clock_.Monotonic() - absl::FromUnixNanos(last_tick_ns);
    return last_tick_ns == 0 || silent < options_.stuck_after
               ? absl::OkStatus()
               : absl::UnavailableError(absl::StrCat("the loop has not run for ", absl::FormatDuration(silent)));
  };
  const auto ready = [this] {
    return welcomed_
               ? absl::OkStatus()
               : absl::UnavailableError(absl::StrCat("not connected to the coordinator at ", options_.coordinator));
  };
  P2_ASSIGN_OR_RETURN(http_, http::HttpServer::Start(server, {{"/metrics", http::MetricsHandler({metrics_.registry()})},
                                                              {"/livez", http::HealthHandler(alive)},
                                                              {"/readyz", http::HealthHandler(ready)}}));
  return absl::OkStatus();
}

absl::Status Agent::WriteReadyFile() const {
  if (options_.ready_file.empty()) return absl::OkStatus();
  const nlohmann::json ready = {
      {"pid", getpid()}, {"worker", options_.name}, {"http_port", http_ == nullptr ? 0 : http_->port()}};
  return ReplaceFile(options_.ready_file, ready.dump(), 0600);
}

absl::Status Agent::Run() {
  // A first signal while leftovers are awaited ends the process: they are settled by the next one.
  P2_ASSIGN_OR_RETURN(ended_, RecoverLeftovers(absl::StrCat(options_.data_dir, "/attempts"), *spool_, clock_));
  for (const EndedAttempt& ended : ended_) {
    int64_t& epoch = ended_epoch_[ended.key.job];
    epoch = std::max(epoch, ended.key.epoch);
    highest_epoch_[ended.key.job] = epoch;
  }
  std::vector<std::string> problems;
  roots_ = ReadRoots(options_.roots, problems);
  last_tick_ = last_second_ = last_heartbeat_ = last_roots_ = last_logs_ = clock_.Monotonic();
  loop_.OnSignal(SIGTERM, [this] { OnSignal(); });
  loop_.OnSignal(SIGINT, [this] { OnSignal(); });
  loop_.Every(kTick, [this] { Tick(); });
  session_ = std::make_unique<CoordinatorSession>(
      options_.coordinator, options_.reconnect_max, options_.connection_timeout,
      CoordinatorSession::Callbacks{
          .on_open = [this](uint64_t stream) { loop_.Post([this, stream] { OnOpen(stream); }); },
          .on_message =
              [this](uint64_t stream, p2::v1::ConnectResponse message) {
                loop_.Post(
                    [this, stream, message = std::move(message)]() mutable { OnMessage(stream, std::move(message)); });
              },
          .on_closed =
              [this](uint64_t stream, absl::Status why) {
                loop_.Post([this, stream, why = std::move(why)] { OnClosed(stream, why); });
              }});
  WatchFaults();
  P2_RETURN_IF_ERROR(WriteReadyFile());
  P2_LOG(kInfo) << "worker " << options_.name << " offers " << slots_.size() << " slots (" << options_.devices
                << "), coordinator " << options_.coordinator;
  loop_.Run();
  session_.reset();
  return fatal_;
}

void Agent::Tick() {
  const absl::Time now = clock_.Monotonic();
  const absl::Duration pause = now - last_tick_;
  last_tick_ = now;
  last_tick_ns_ = absl::ToUnixNanos(now);
  if (pause > kPause)
    for (const auto& [key, attempt] : attempts_) attempt->Forgive(pause);
  for (const auto& [key, attempt] : attempts_) attempt->Tick();
  for (const auto& [key, attempt] : attempts_) attempt->CutOffFor(now - cut_off_since_);
  std::erase_if(attempts_, [](const auto& item) {
    if (!item.second->hold_expired()) return false;
    P2_LOG(kWarning) << "job " << item.first.first << ": no Start came, its slots are free again";
    return true;
  });
  if (now - last_logs_ >= options_.log_interval) {
    last_logs_ = now;
    for (const auto& [key, attempt] : attempts_)
      if (attempt->state() != Attempt::State::kEnded) attempt->TailLogs();
    FlushSpool();
  }
  SettleEnded();
  if (stream_ != 0 && !welcomed_ && now - opened_ > options_.welcome_timeout) {
    P2_LOG(kWarning) << "the coordinator did not answer Hello within "
                     << absl::FormatDuration(options_.welcome_timeout);
    session_->Drop(stream_);
  }
  if (welcomed_ && now - last_heartbeat_ >= heartbeat_interval_) Heartbeat();
  if (now - last_roots_ >= options_.roots_interval) RefreshRoots();
  if (const absl::Duration elapsed = now - last_second_; elapsed >= absl::Seconds(1)) {
    last_second_ = now;
    OnSecond(elapsed);
  }
  if (stopping_) ContinueStop(now);
}

void Agent::OnSecond(absl::Duration elapsed) {
  std::map<std::string, std::string> use_of;
  for (const auto& [key, attempt] : attempts_) {
    const bool running = attempt->state() == Attempt::State::kRunning || attempt->state() == Attempt::State::kEnding;
    for (const p2::v1::Slot& slot : attempt->slots()) use_of[slot.id()] = running ? "busy" : "held";
    CountImages(*attempt);
  }
  std::vector<std::string> uses;
  for (const p2::v1::Slot& slot : slots_) uses.push_back(use_of.contains(slot.id()) ? use_of[slot.id()] : "free");
  metrics_.OnDevices(slots_, uses, elapsed);
  metrics_.OnSpool(spool_->unacked_bytes());
}

void Agent::CountImages(const Attempt& attempt) {
  const std::optional<p2::trainer::v1::Progress> progress = attempt.SlowestProgress();
  if (!attempt.trains() || !attempt.first_images_seen().has_value() ||
      progress->phase() == p2::trainer::v1::Progress::START)
    return;
  const p2::v1::Prepare& prepare = attempt.prepare();
  int64_t& counted =
      counted_images_.emplace(Key(prepare.job(), prepare.epoch()), *attempt.first_images_seen()).first->second;
  const double share = static_cast<double>(attempt.slots().size()) / std::max(1, prepare.world_size());
  metrics_.OnImages(std::max(0.0, static_cast<double>(progress->images_seen() - counted) * share));
  counted = progress->images_seen();
}

void Agent::SettleEnded() {
  for (auto item = attempts_.begin(); item != attempts_.end();) {
    Attempt& attempt = *item->second;
    if (attempt.state() != Attempt::State::kEnded) {
      ++item;
      continue;
    }
    const p2::v1::Prepare& prepare = attempt.prepare();
    ended_.push_back({{prepare.job(), prepare.epoch(), prepare.attempt()}, attempt.dir(), attempt.ended_sequence()});
    int64_t& epoch = ended_epoch_[prepare.job()];
    epoch = std::max(epoch, prepare.epoch());
    CountImages(attempt);
    counted_images_.erase(item->first);
    TidyStorage(attempt);
    item = attempts_.erase(item);
  }
  RemoveAcked();
}

void Agent::TidyStorage(const Attempt& attempt) {
  if (attempt.checkpoint_root().empty()) return;
  const auto work = [root = attempt.checkpoint_root(), job = attempt.prepare().job()] {
    if (const absl::Status removed = RemoveEmptyJobDirectories(root, job); !removed.ok()) {
      P2_LOG(kWarning) << "empty directories of job " << job << " are left: " << removed.message();
    }
  };
  loop_.InPool(work, [] {});
}

void Agent::RemoveAcked() {
  std::erase_if(ended_, [this](const EndedAttempt& ended) {
    if (ended.ended_sequence > spool_->acked()) return false;
    std::error_code error;
    std::filesystem::remove_all(ended.dir, error);
    if (error) {
      P2_LOG(kWarning) << ended.dir << ": " << error.message();
    }
    return true;
  });
}

void Agent::OnSignal() {
  if (stopping_) {
    P2_LOG(kWarning) << "second signal: ranks are killed";
    for (const auto& [key, attempt] : attempts_) attempt->KillNow("killed: the worker got a second signal");
    return;
  }
  P2_LOG(kInfo) << "stopping: ranks checkpoint and end";
  stopping_ = true;
  std::erase_if(attempts_, [](const auto& item) {
    return item.second->state() == Attempt::State::kPrepared || item.second->state() == Attempt::State::kChecking;
  });
  for (const auto& [key, attempt] : attempts_) attempt->Stop(/*worker_stopped=*/true);
}

void Agent::ContinueStop(absl::Time now) {
  if (!attempts_.empty()) return;
  if (give_up_ == absl::InfiniteFuture()) give_up_ = now + options_.flush_timeout;
  const bool all_taken = spool_->acked() == spool_->last();
  if (!all_taken && now < give_up_) return;
  P2_LOG(kInfo) << "stopped; " << (all_taken ? "the coordinator has everything" : "what it lacks is in the spool");
  loop_.Quit();
}

void Agent::RefreshRoots() {
  if (reading_roots_) return;  // Storage hangs; its roots stay as they were.
  reading_roots_ = true;
  last_roots_ = clock_.Monotonic();
  struct Result {
    std::vector<p2::v1::StorageRoot> roots;
    std::vector<std::string> problems;
  };
  const auto result = std::make_shared<Result>();
  loop_.InPool([this, result] { result->roots = ReadRoots(options_.roots, result->problems); },
               [this, result] {
                 reading_roots_ = false;
                 roots_ = std::move(result->roots);
                 std::set<std::string> problems(result->problems.begin(), result->problems.end());
                 for (const std::string& problem : problems) {
                   if (!root_problems_.contains(problem)) {
                     P2_LOG(kWarning) << problem;
                   }
                 }
                 root_problems_ = std::move(problems);
               });
}

void Agent::WatchFaults() {
  if (std::none_of(slots_.begin(), slots_.end(), [](const p2::v1::Slot& slot) { return slot.kind() == "cuda"; }))
    return;
  fault_watch_ = std::make_unique<FaultWatch>(slots_, options_.nvml_library, [this](p2::v1::DeviceFault fault) {
    loop_.Post([this, fault = std::move(fault)] {
      p2::v1::DeviceFault& known = device_faults_.try_emplace({fault.slot(), fault.xid()}, fault).first->second;
      known.set_count(known.count() + 1);
      // A device may report one error without end.
      if (std::has_single_bit(static_cast<uint64_t>(known.count()))) {
        P2_LOG(kWarning) << "the driver reports XID " << fault.xid() << " on " << fault.slot() << ", " << known.count()
                         << " in all";
      }
      if (known.count() == 1 && welcomed_) Heartbeat();  // Further ones go with the next.
    });
  });
}

void Agent::FlushSpool() {
  const absl::Status flushed = spool_->Flush();
  if (!flushed.ok() && !absl::IsResourceExhausted(flushed)) return Fail(flushed);
  if (!flushed.ok() && !disk_full_) {
    P2_LOG(kError) << "the spool waits for space: " << flushed.message();
  }
  disk_full_ = !flushed.ok();
  if (!welcomed_) return;
  if (const absl::Status sent = sender_->Pump([this](p2::v1::ConnectRequest message) { Send(std::move(message)); });
      !sent.ok())
    Fail(sent);
}

void Agent::Fail(const absl::Status& status) {
  if (fatal_.ok()) fatal_ = status;
  loop_.Quit();
}

}  // namespace p2::agent
