#include "worker/trainer/rank_monitor.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace p2::trainer {
namespace {

constexpr absl::Duration kLook = absl::Milliseconds(50);     // At signals, commands and the store.
constexpr absl::Duration kReport = absl::Milliseconds(500);  // Between Progress events.
constexpr absl::Duration kRateMemory = absl::Seconds(10);    // Of the smoothed images a second.
constexpr char kStopKey[] = "stop";

std::string LastKey(int rank) { return absl::StrCat("stop/", rank); }

}  // namespace

RankMonitor::RankMonitor(Options options, EventSink& sink)
    : options_(std::move(options)), sink_(sink), thread_([this] { Loop(); }) {}

RankMonitor::~RankMonitor() {
  done_.Ring();
  thread_.join();
}

void RankMonitor::Completed(int64_t images_seen, int64_t trained) {
  Tick();
  images_seen_ = images_seen;
  absl::MutexLock lock(&mutex_);
  const absl::Time now = Clock::Real().Monotonic();
  if (rate_time_ != absl::InfinitePast()) {
    const double seconds = std::max(absl::ToDoubleSeconds(now - rate_time_), 1e-6);
    const double keep = images_per_second_ == 0 ? 0 : std::exp(-seconds / absl::ToDoubleSeconds(kRateMemory));
    images_per_second_ = keep * images_per_second_ + (1 - keep) * static_cast<double>(trained) / seconds;
  }
  rate_time_ = now;
}

absl::Status RankMonitor::Formed(dist::ProcessGroup& group) {
  P2_ASSIGN_OR_RETURN(auto store, group.NewStore());
  absl::MutexLock lock(&mutex_);
  rank_ = group.rank();
  world_size_ = group.world_size();
  store_ = std::move(store);
  forming_ = false;
  return absl::OkStatus();
}

void RankMonitor::Left() {
  absl::MutexLock lock(&store_mutex_);
  left_ = true;
}

absl::StatusOr<bool> RankMonitor::MayEnqueue(int64_t n) {
  absl::MutexLock lock(&mutex_);
  if (published_ && !last_) {
    const auto settled = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return last_.has_value() || !failure_.ok(); };
    if (!mutex_.AwaitWithTimeout(absl::Condition(&settled), options_.stop_deadline)) {
      return absl::UnavailableError(
          absl::StrCat("not every rank answered the stop within ", absl::FormatDuration(options_.stop_deadline)));
    }
    P2_RETURN_IF_ERROR(failure_);
  }
  if (last_ && n > *last_) return false;
  enqueued_ = n;
  return true;
}

bool RankMonitor::StopAsked() {
  if (options_.stop != nullptr && *options_.stop) return true;
  if (options_.command_fd < 0 || !commands_open_) return false;
  pollfd readable{options_.command_fd, POLLIN, 0};
  if (::poll(&readable, 1, 0) <= 0) return false;
  char bytes[4096];
  const ssize_t n = ::read(options_.command_fd, bytes, sizeof(bytes));
  if (n < 0) return errno != EINTR && errno != EAGAIN;
  if (n == 0) {
    P2_LOG(kWarning) << "the agent is gone: checkpointing and stopping";
    commands_open_ = false;
    return true;
  }
  commands_.append(bytes, static_cast<size_t>(n));
  return options_.is_stop == nullptr || options_.is_stop(commands_);
}

absl::Status RankMonitor::AgreeOnStop() {
  absl::MutexLock talking(&store_mutex_);
  if (left_) return absl::OkStatus();
  dist::JobStore* store = nullptr;
  int rank = 0, world_size = 0;
  bool settled = false;
  {
    absl::MutexLock lock(&mutex_);
    store = store_.get();
    rank = rank_;
    world_size = world_size_;
    settled = last_.has_value() || !failure_.ok();
  }
  if (store == nullptr || settled) return absl::OkStatus();
  if (asked_ && !posted_) {
    P2_RETURN_IF_ERROR(store->Set(kStopKey, absl::StrCat(rank)));
    posted_ = true;
  }
  P2_ASSIGN_OR_RETURN(const bool stop, store->Has({kStopKey}));
  if (!stop) return absl::OkStatus();
  stopping_ = true;

  int64_t mine = 0;
  bool publish = false;
  {
    absl::MutexLock lock(&mutex_);
    publish = !published_;
    published_ = true;  // From here on MayEnqueue waits: `mine` stays the last.
    mine = enqueued_;
  }
  if (publish) {
    P2_RETURN_IF_ERROR(store->Set(LastKey(rank), absl::StrCat(mine)));
    if (options_.on_stopping) options_.on_stopping();
  }
  std::vector<std::string> keys;
  for (int r = 0; r < world_size; ++r) keys.push_back(LastKey(r));
  P2_ASSIGN_OR_RETURN(const bool all, store->Has(keys));
  if (!all) return absl::OkStatus();
  int64_t last = 0;
  for (const std::string& key : keys) {
    P2_ASSIGN_OR_RETURN(const std::string text, store->Get(key, kReport));
    int64_t enqueued = 0;
    if (!absl::SimpleAtoi(text, &enqueued)) return absl::InternalError(absl::StrCat(key, " holds \"", text, "\""));
    last = std::max(last, enqueued);
  }
  absl::MutexLock lock(&mutex_);
  last_ = last + 1;
  return absl::OkStatus();
}

void RankMonitor::Report() {
  Progress progress{phase_, images_seen_, tick_, 0};
  dist::JobStore* store = nullptr;
  {
    absl::MutexLock lock(&mutex_);
    progress.images_per_second = images_per_second_;
    if (rank_ == 0 && world_size_ > 1) store = store_.get();
  }
  sink_.Emit(progress);
  const bool others_wait =
      progress.phase == Phase::kSave || progress.phase == Phase::kStop || progress.phase == Phase::kStart;
  // A store that fails here fails for rank 0's main thread, too, which tells.
  absl::MutexLock talking(&store_mutex_);
  if (store != nullptr && others_wait && !left_) (void)store->Set(kRankZeroTickKey, absl::StrCat(progress.tick));
}

void RankMonitor::Loop() {
  absl::Time next_report = absl::InfinitePast();
  for (;;) {
    if (const absl::Time now = Clock::Real().Monotonic(); now >= next_report) {
      Report();
      next_report = now + kReport;
    }
    asked_ = asked_ || StopAsked();
    if (asked_) {
      stopping_ = true;
      if (forming_ && options_.leave_while_forming) options_.leave_while_forming();
    }
    if (absl::Status status = AgreeOnStop(); !status.ok()) {
      absl::MutexLock lock(&mutex_);
      failure_.Update(status);
    }
    if (done_.WaitFor(kLook)) return;
  }
}

}  // namespace p2::trainer
