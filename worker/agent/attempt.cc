#include "worker/agent/attempt.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "common/failpoint.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "common/utf8.h"
#include "worker/agent/files.h"

namespace p2::agent {

using p2::trainer::v1::Progress;
using p2::trainer::v1::TrainerEvent;

constexpr int64_t kLogTailBytes = 8192;

Attempt::Attempt(const Context& context, p2::v1::Prepare prepare, std::vector<p2::v1::Slot> slots)
    : context_(context),
      prepare_(std::move(prepare)),
      slots_(std::move(slots)),
      key_{prepare_.job(), prepare_.epoch(), prepare_.attempt()},
      dir_(absl::StrCat(context.options.data_dir, "/attempts/", AttemptDirName(key_.job, key_.epoch))) {}

absl::Status Attempt::Hold(JobDirectories directories) {
  for (const p2::v1::PlacedRank& rank : prepare_.ranks()) {
    if (rank.rank() != 0) continue;
    P2_ASSIGN_OR_RETURN(Listener listener, ListenOn(context_.data_address));
    store_ = std::move(listener.fd);
    master_port_ = listener.port;
  }
  directories_ = std::move(directories);
  hold_until_ = context_.clock.Monotonic() + context_.options.hold_timeout;
  state_ = State::kPrepared;
  return absl::OkStatus();
}

void Attempt::Start(const p2::v1::Start& start) {
  state_ = State::kRunning;
  if (const absl::Status started = StartRanks(start); !started.ok()) {
    P2_LOG(kError) << "job " << key_.job << " epoch " << key_.epoch << ": " << started.message();
    for (const auto& rank : ranks_) {
      if (!rank->exited) rank->complaint = std::string(started.message());
      // What does not run will not exit.
      if (rank->process == nullptr && !rank->exited) {
        rank->exited = true;
        rank->exit.set_exit_code(127);
        rank->exit.set_message(rank->complaint);
      }
    }
    state_ = State::kEnding;
    KillAll();
    if (std::all_of(ranks_.begin(), ranks_.end(), [](const auto& rank) { return rank->exited; })) Finish();
    return;
  }
  p2::v1::SpoolRecord record;
  record.set_job(key_.job);
  record.set_epoch(key_.epoch);
  record.set_attempt(key_.attempt);
  record.mutable_started();
  context_.spool.Append(std::move(record));
  context_.flush();
  P2_LOG(kInfo) << "job " << key_.job << " epoch " << key_.epoch << ": " << ranks_.size() << " ranks started";
}

absl::Status Attempt::StartRanks(const p2::v1::Start& start) {
  std::vector<int32_t> numbers;
  for (int i = 0; i < prepare_.ranks_size(); ++i) {
    auto rank = std::make_unique<Rank>();
    rank->placed = prepare_.ranks(i);
    rank->slot = slots_[static_cast<size_t>(i)];
    rank->exit.set_rank(rank->placed.rank());
    rank->relay = std::make_unique<RankRelay>(key_, dir_, JournalRank{.rank = rank->placed.rank()}, context_.spool);
    numbers.push_back(rank->placed.rank());
    ranks_.push_back(std::move(rank));
  }
  deadlines_ = ResolveDeadlines(start.launch().spec().deadlines(), context_.options.watchdog_scale,
                                context_.options.silence_timeout);
  watchdog_.emplace(deadlines_, numbers, context_.clock.Monotonic());

  std::error_code error;
  std::filesystem::create_directories(WorkDir(dir_), error);
  if (error) return absl::InternalError(absl::StrCat(dir_, ": ", error.message()));
  P2_RETURN_IF_ERROR(SaveJournal());
  p2::v1::Launch launch = start.launch();
  launch.set_job_id(key_.job);
  launch.set_attempt(key_.attempt);
  launch.set_epoch(key_.epoch);
  launch.set_dataset_dir(directories_.dataset_dir);
  launch.set_dataset_fingerprint(prepare_.dataset_fingerprint());
  launch.set_checkpoint_root(directories_.checkpoint_root);
  launch.set_checkpoint_dir(directories_.checkpoint_dir);
  launch.set_work_dir(WorkDir(dir_));
  launch.set_source(directories_.source);
  launch.set_output_dir(directories_.output_dir);
  trains_ = !launch.has_task();
  for (const auto& rank : ranks_) {
    P2_RETURN_IF_ERROR(P2_FAILPOINT("agent.before_spawn"));
    P2_RETURN_IF_ERROR(StartRank(*rank, launch, start));
    P2_RETURN_IF_ERROR(P2_FAILPOINT("agent.after_spawn"));
    P2_RETURN_IF_ERROR(SaveJournal());
  }
  store_.reset();
  return absl::OkStatus();
}

absl::Status Attempt::StartRank(Rank& rank, p2::v1::Launch launch, const p2::v1::Start& start) {
  const int32_t number = rank.placed.rank();
  const bool cuda = rank.slot.kind() == "cuda";
  const int local_world_size = prepare_.ranks_size();
  if (launch.threads() == 0) launch.set_threads(rank.slot.threads());
  const std::string launch_file = RankFile(dir_, number, "launch");
  P2_RETURN_IF_ERROR(ReplaceFile(launch_file, launch.SerializeAsString(), 0600));

  TrainerCommandLine command;
  command.program = context_.options.trainer;
  command.arguments = {"--launch", launch_file};
  if (context_.options.enable_failpoints) command.arguments.push_back("--enable-failpoints");
  command.log_path = RankFile(dir_, number, "log");
  command.environment = InheritedEnvironment(environ);
  const std::vector<std::pair<std::string, std::string>> variables = {
      {"RANK", absl::StrCat(number)},
      {"LOCAL_RANK", absl::StrCat(rank.placed.local_rank())},
      {"WORLD_SIZE", absl::StrCat(prepare_.world_size())},
      {"LOCAL_WORLD_SIZE", absl::StrCat(local_world_size)},
      // The node's number, if ranks are dealt to nodes in equal blocks.
      {"GROUP_RANK", absl::StrCat((number - rank.placed.local_rank()) / local_world_size)},
      {"MASTER_ADDR", start.master_address()},
      {"MASTER_PORT", absl::StrCat(start.master_port())},
      {"TORCHELASTIC_RUN_ID", AttemptDirName(key_.job, key_.epoch)},
      {"TORCHELASTIC_RESTART_COUNT", absl::StrCat(std::max(0, key_.attempt - 1))},
      // A process that sees one GPU calls it cuda:0; one on a CPU slot sees none.
      {"CUDA_VISIBLE_DEVICES", rank.slot.uuid()},
      {"P2_DEVICE", cuda ? "cuda:0" : "cpu"},
      {"P2_EVENT_FD", absl::StrCat(kEventFd)},
      {"P2_COMMAND_FD", absl::StrCat(kCommandFd)},
      {"P2_EVENT_LOG", RankFile(dir_, number, "events")},
      {"P2_DATA_INTERFACE", context_.data_address}};
  for (const auto& [name, value] : variables) command.environment.push_back(absl::StrCat(name, "=", value));
  if (number == 0) {
    command.store_fd = store_.get();
    command.environment.push_back(absl::StrCat("P2_STORE_FD=", kStoreFd));
  }
  P2_ASSIGN_OR_RETURN(
      rank.process, TrainerProcess::Spawn(context_.loop, command,
                                          {.on_bytes = [this, &rank](absl::string_view bytes) { OnBytes(rank, bytes); },
                                           .on_exit = [this, &rank](int exit_code) { OnExit(rank, exit_code); }}));
  return absl::OkStatus();
}

void Attempt::OnBytes(Rank& rank, absl::string_view bytes) {
  if (!rank.complaint.empty()) return;
  rank.frames.Append(bytes);
  while (true) {
    absl::StatusOr<std::optional<std::string>> frame = rank.frames.Next();
    absl::Status status = frame.status();
    if (status.ok() && !frame->has_value()) return;
    if (status.ok()) status = OnFrame(rank, **frame);
    if (!status.ok()) {
      rank.complaint =
          absl::StrCat("rank ", rank.placed.rank(), " wrote garbage on its event pipe: ", status.message());
      if (first_bad_ == nullptr) first_bad_ = &rank;
      KillNow(rank.complaint);
      return;
    }
  }
}

absl::Status Attempt::OnFrame(Rank& rank, const std::string& frame) {
  TrainerEvent event;
  if (!event.ParseFromString(frame)) return absl::InvalidArgumentError("a frame is no TrainerEvent");
  if (event.sequence() <= rank.relay->event_sequence())
    return absl::InvalidArgumentError(
        absl::StrCat("sequence ", event.sequence(), " comes after ", rank.relay->event_sequence()));
  watchdog_->OnEvent(rank.placed.rank(), event, context_.clock.Monotonic());
  if (event.has_progress()) {
    rank.progress = event.progress();
    // Where rank 0, which says Started, is elsewhere. While a rank starts it has not loaded its state yet and says 0.
    if (rank.progress->phase() != Progress::START && !first_images_seen_.has_value())
      first_images_seen_ = rank.progress->images_seen();
  }
  if (event.has_started()) first_images_seen_ = event.started().images_seen();
  if (event.has_finished()) {
    rank.exit.set_message(event.finished().message());
    if (rank.progress.has_value())
      rank.progress->set_images_seen(std::max(rank.progress->images_seen(), event.finished().images_seen()));
  }
  if (rank.relay->Relay(event)) context_.flush();
  return absl::OkStatus();
}

void Attempt::OnExit(Rank& rank, int exit_code) {
  rank.process.reset();
  rank.exited = true;
  rank.exit.set_exit_code(exit_code);
  watchdog_->OnExit(rank.placed.rank());
  if (rank.frames.partial() && rank.complaint.empty() && EndedWell(exit_code))
    rank.complaint = "its event pipe ended inside a frame";
  if (!rank.complaint.empty()) {
    rank.exit.set_message(rank.complaint);
  } else if (kill_sent_ && exit_code == 128 + SIGKILL) {
    rank.exit.set_message(kill_reason_);
    rank.exit.set_killed(true);
  }
  P2_LOG(kInfo) << "job " << key_.job << " epoch " << key_.epoch << ": rank " << rank.placed.rank() << " ended with "
                << exit_code;

  const bool good = EndedWell(exit_code) && rank.complaint.empty();
  if (!good && first_bad_ == nullptr) first_bad_ = &rank;
  if (std::all_of(ranks_.begin(), ranks_.end(), [](const auto& r) { return r->exited; })) return Finish();
  if (good) return;
  if (state_ == State::kRunning)
    kill_reason_ = absl::StrCat("ended because rank ", rank.placed.rank(), " ended with ", exit_code);
  state_ = State::kEnding;
  kill_at_ = std::min(kill_at_, context_.clock.Monotonic() + context_.options.gang_grace);
}

void Attempt::Stop(bool worker_stopped) {
  worker_stopped_ |= worker_stopped;
  if (state_ != State::kRunning) return;
  state_ = State::kEnding;
  kill_reason_ = absl::StrCat("did not end within ", absl::FormatDuration(deadlines_.stop), ", its stop deadline");
  kill_at_ = context_.clock.Monotonic() + deadlines_.stop;
  for (const auto& rank : ranks_)
    if (rank->process != nullptr) rank->process->SendStop();
}

void Attempt::CutOffFor(absl::Duration duration) {
  if (state_ != State::kRunning || duration < deadlines_.fence_after) return;
  P2_LOG(kWarning) << "job " << key_.job << " epoch " << key_.epoch << ": no coordinator for "
                   << absl::FormatDuration(duration) << " (deadlines.fence_after is "
                   << absl::FormatDuration(deadlines_.fence_after) << "): its ranks checkpoint and end";
  fenced_ = true;
  Stop(/*worker_stopped=*/true);
}

void Attempt::KillNow(const std::string& why) {
  state_ = State::kEnding;
  kill_reason_ = why;
  kill_at_ = absl::InfiniteFuture();
  KillAll();
}

void Attempt::KillAll() {
  kill_sent_ = true;
  for (const auto& rank : ranks_)
    if (rank->process != nullptr) rank->process->Kill();
}

void Attempt::Tick() {
  if (state_ != State::kRunning && state_ != State::kEnding) return;
  const absl::Time now = context_.clock.Monotonic();
  if (now > kill_at_) KillNow(kill_reason_);
  const std::vector<Watchdog::Frozen> frozen = watchdog_->Check(now);
  if (frozen.empty()) return;
  for (const Watchdog::Frozen& found : frozen)
    for (const auto& rank : ranks_) {
      if (rank->placed.rank() != found.rank) continue;
      rank->exit.set_frozen(true);
      if (rank->complaint.empty()) rank->complaint = found.why;
      if (first_bad_ == nullptr) first_bad_ = rank.get();
      watchdog_->OnExit(found.rank);
      P2_LOG(kWarning) << "job " << key_.job << " epoch " << key_.epoch << ": rank " << found.rank
                       << " is frozen: " << found.why;
    }
  KillNow(absl::StrCat("ended because rank ", frozen.front().rank, " is frozen: ", frozen.front().why));
}

void Attempt::TailLogs() {
  for (const auto& rank : ranks_) rank->relay->TailLog(/*final=*/false);
}

void Attempt::Forgive(absl::Duration pause) {
  hold_until_ += pause;
  kill_at_ += pause;
  if (watchdog_.has_value()) watchdog_->Forgive(pause);
}

void Attempt::Finish() {
  p2::v1::SpoolRecord record;
  record.set_job(key_.job);
  record.set_epoch(key_.epoch);
  record.set_attempt(key_.attempt);
  p2::v1::AttemptEnded& ended = *record.mutable_ended();
  for (const auto& rank : ranks_) {
    rank->relay->TailLog(/*final=*/true);
    *ended.add_ranks() = rank->exit;
  }
  ended.set_worker_stopped(worker_stopped_);
  ended.set_fenced(fenced_);
  if (first_bad_ != nullptr) ended.set_log_tail(ToValidUtf8(first_bad_->relay->LogTail(kLogTailBytes)));
  ended_sequence_ = context_.spool.Append(std::move(record));
  state_ = State::kEnded;
  store_.reset();
  context_.flush();
  if (const absl::Status saved = SaveJournal(); !saved.ok()) {
    P2_LOG(kError) << "journal: " << saved.message();
  }
}

absl::Status Attempt::SaveJournal() const {
  JournalEntry entry{.job = key_.job,
                     .epoch = key_.epoch,
                     .attempt = key_.attempt,
                     .boot_id = BootId(),
                     .stop_deadline = deadlines_.stop,
                     .ended_sequence = ended_sequence_};
  for (const auto& rank : ranks_)
    entry.ranks.push_back({.rank = rank->placed.rank(),
                           .process = rank->process == nullptr ? ProcessId() : rank->process->id(),
                           .event_sequence = rank->relay->event_sequence(),
                           .log_offset = rank->relay->log_offset()});
  return WriteJournal(dir_, entry);
}

p2::v1::RunningAttempt Attempt::Describe() const {
  p2::v1::RunningAttempt running;
  running.set_job(key_.job);
  running.set_epoch(key_.epoch);
  running.set_attempt(key_.attempt);
  for (const p2::v1::PlacedRank& rank : prepare_.ranks()) running.add_ranks(rank.rank());
  running.set_prepared(state_ == State::kPrepared || state_ == State::kChecking);
  if (const std::optional<Progress> progress = SlowestProgress()) running.set_images_seen(progress->images_seen());
  return running;
}

std::optional<Progress> Attempt::SlowestProgress() const {
  std::optional<Progress> slowest;
  for (const auto& rank : ranks_) {
    if (!rank->progress.has_value()) continue;
    const auto key = [](const Progress& p) { return std::make_pair(p.images_seen(), p.tick()); };
    if (!slowest.has_value() || key(*rank->progress) < key(*slowest)) slowest = rank->progress;
  }
  return slowest;
}

}  // namespace p2::agent
