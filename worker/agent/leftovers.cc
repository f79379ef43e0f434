#include "worker/agent/leftovers.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "common/utf8.h"
#include "worker/agent/files.h"
#include "worker/agent/framing.h"
#include "worker/agent/journal.h"

namespace p2::agent {
namespace {

constexpr int64_t kMaxEventLogBytes = int64_t{1} << 32;
constexpr int64_t kLogTailBytes = 8192;

struct Leftover {
  std::string dir;
  JournalEntry journal;
};

std::string KeyOf(const std::string& job, int64_t epoch) { return AttemptDirName(job, epoch); }

// Waits until `process` has ended or `deadline` (monotonic) has passed; then SIGKILLs its group and waits for that.
void AwaitEnd(const ProcessId& process, absl::Time deadline, const Clock& clock) {
  const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, process.pid, 0)));
  // The pid is looked at again once the descriptor pins it.
  if (!pidfd.ok() || ReadProcess(process.pid).value_or(ProcessId()) != process) return;
  pollfd item = {pidfd.get(), POLLIN, 0};
  const int64_t left_ms = std::max<int64_t>(0, absl::ToInt64Milliseconds(deadline - clock.Monotonic()));
  P2_LOG(kInfo) << "process " << process.pid << " of an earlier p2-worker still runs; it has " << left_ms
                << " ms to end";
  if (poll(&item, 1, static_cast<int>(left_ms)) == 1) return;
  P2_LOG(kWarning) << "process " << process.pid << " of an earlier p2-worker did not end in time and is killed";
  kill(-process.pid, SIGKILL);
  poll(&item, 1, -1);
}

// Relays the rank's event log; its Finished, if there is one.
std::optional<p2::trainer::v1::Finished> ReplayEvents(const std::string& path, RankRelay& relay) {
  std::optional<p2::trainer::v1::Finished> finished;
  const absl::StatusOr<std::string> bytes = ReadFile(path, kMaxEventLogBytes);
  if (!bytes.ok()) {
    if (!absl::IsNotFound(bytes.status())) {
      P2_LOG(kError) << "event log: " << bytes.status().message();
    }
    return finished;
  }
  FrameReader frames;
  for (absl::string_view unread = *bytes;;) {
    const absl::StatusOr<std::optional<std::string>> frame = frames.Next();
    p2::trainer::v1::TrainerEvent event;
    if (!frame.ok() || (frame->has_value() && !event.ParseFromString(**frame))) {
      P2_LOG(kError) << path << " is damaged; what follows event " << relay.event_sequence() << " is not reported";
      return finished;
    }
    if (!frame->has_value()) {
      if (unread.empty()) return finished;
      frames.Append(unread.substr(0, kMaxFrameBytes));
      unread.remove_prefix(std::min(unread.size(), kMaxFrameBytes));
      continue;
    }
    if (event.has_finished()) finished = event.finished();
    relay.Relay(event);
  }
}

uint64_t Report(const Leftover& leftover, Spool& spool) {
  const JournalEntry& journal = leftover.journal;
  const AttemptKey key{journal.job, journal.epoch, journal.attempt};
  p2::v1::SpoolRecord record;
  record.set_job(key.job);
  record.set_epoch(key.epoch);
  record.set_attempt(key.attempt);
  p2::v1::AttemptEnded& ended = *record.mutable_ended();
  ended.set_worker_stopped(true);
  for (const JournalRank& rank : journal.ranks) {
    RankRelay relay(key, leftover.dir, rank, spool);
    const std::optional<p2::trainer::v1::Finished> finished =
        ReplayEvents(RankFile(leftover.dir, rank.rank, "events"), relay);
    relay.TailLog(/*final=*/true);
    p2::v1::RankExit& exit = *ended.add_ranks();
    exit.set_rank(rank.rank);
    exit.set_exit_code(finished.has_value() ? finished->exit_code() : 128 + SIGKILL);
    exit.set_message(finished.has_value() ? finished->message()
                                          : "ended without a report after its p2-worker had died");
    if (!finished.has_value() && ended.log_tail().empty())
      ended.set_log_tail(ToValidUtf8(relay.LogTail(kLogTailBytes)));
  }
  return spool.Append(std::move(record));
}

}  // namespace

absl::StatusOr<std::vector<EndedAttempt>> RecoverLeftovers(const std::string& attempts_dir, Spool& spool,
                                                           const Clock& clock) {
  std::vector<Leftover> leftovers;
  std::error_code error;
  std::filesystem::create_directories(attempts_dir, error);
  for (const auto& entry : std::filesystem::directory_iterator(attempts_dir, error)) {
    absl::StatusOr<JournalEntry> journal = ReadJournal(entry.path().string());
    if (journal.ok()) {
      leftovers.push_back({entry.path().string(), *std::move(journal)});
    } else {
      P2_LOG(kError) << "left as it is: " << journal.status().message();
    }
  }
  if (error) return absl::InternalError(absl::StrCat(attempts_dir, ": ", error.message()));
  std::sort(leftovers.begin(), leftovers.end(), [](const Leftover& a, const Leftover& b) { return a.dir < b.dir; });

  // What the spool still knows is newer than the journal.
  std::map<std::string, Leftover*> by_key;
  for (Leftover& leftover : leftovers) by_key[KeyOf(leftover.journal.job, leftover.journal.epoch)] = &leftover;
  P2_RETURN_IF_ERROR(spool.ForEach([&](const p2::v1::SpoolRecord& record) {
    const auto found = by_key.find(KeyOf(record.job(), record.epoch()));
    if (found == by_key.end()) return;
    JournalEntry& journal = found->second->journal;
    if (record.has_ended()) journal.ended_sequence = record.sequence();
    for (JournalRank& rank : journal.ranks) {
      if (rank.rank != record.rank()) continue;
      if (record.has_trainer_event())
        rank.event_sequence = std::max(rank.event_sequence, record.trainer_event().sequence());
      if (record.has_log())
        rank.log_offset =
            std::max(rank.log_offset, record.log().offset() + static_cast<int64_t>(record.log().data().size()));
    }
  }));

  const absl::Time start = clock.Monotonic();
  const std::string boot_id = BootId();
  std::vector<EndedAttempt> ended;
  for (Leftover& leftover : leftovers) {
    JournalEntry& journal = leftover.journal;
    if (journal.ended_sequence == 0) {
      if (journal.boot_id == boot_id)
        for (JournalRank& rank : journal.ranks) {
          if (rank.process.pid == 0)
            rank.process = FindProcess(RankFile(leftover.dir, rank.rank, "launch")).value_or(ProcessId());
          if (rank.process.pid > 0) AwaitEnd(rank.process, start + journal.stop_deadline, clock);
        }
      journal.ended_sequence = Report(leftover, spool);
      P2_LOG(kInfo) << "job " << journal.job << " epoch " << journal.epoch << " ended while no p2-worker watched it";
    }
    ended.push_back({{journal.job, journal.epoch, journal.attempt}, leftover.dir, journal.ended_sequence});
  }
  P2_RETURN_IF_ERROR(spool.Flush());
  return ended;
}

}  // namespace p2::agent
