// Watches of jobs and events: every change in order, without gaps, from a revision on.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/scheduler/types.h"

namespace p2::coordinator {

struct JobChange {
  int64_t revision = 0;
  std::string job;           // ID.
  scheduler::JobPtr record;  // Null: deleted.
};

struct EventChange {
  int64_t revision = 0;
  scheduler::EventRecord event;
};

// A reader's queue. Thread-safe. Destroy it to end the watch.
template <typename Change>
class Watch {
 public:
  // Next change, waiting at most `timeout` (real time); empty: nothing changed, the watch lives. UNAVAILABLE: the
  // reader was too slow (the message names resume_revision), or p2d stops. What was queued before comes first; then
  // every call returns the error again.
  absl::StatusOr<std::optional<Change>> Next(absl::Duration timeout);
  // First revision that Next has not returned.
  int64_t resume_revision() const;
  // Once, for readers that do not wait in Next: `ready` is called when Next has something to return again, on any
  // thread, under the hub's locks: it must be quick and call neither hub nor watch.
  void OnReady(std::function<void()> ready);

 private:
  friend class WatchHub;
  // `resume`: the revision that the first change will not be before.
  Watch(size_t limit, std::deque<Change> initial, int64_t resume)
      : limit_(limit + initial.size()), queue_(std::move(initial)), resume_revision_(resume) {}
  bool Push(const Change& change);  // False once cut off.
  void Close(absl::Status status);

  // Constant after construction.
  const size_t limit_;

  mutable absl::Mutex mutex_;
  std::deque<Change> queue_ ABSL_GUARDED_BY(mutex_);
  int64_t resume_revision_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> closed_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> ready_ ABSL_GUARDED_BY(mutex_);
};
using JobWatch = Watch<JobChange>;
using EventWatch = Watch<EventChange>;

// Thread-safe. The coordinator publishes after each synced batch; a slow reader costs the others nothing.
class WatchHub {
 public:
  struct Options {
    size_t history = 10000;       // Changes kept for readers that resume.
    size_t reader_buffer = 1000;  // Changes that a reader may be behind.
  };
  explicit WatchHub(Options options) : options_(options) {}

  // Jobs named in `ids` (empty: all). start_revision 0: only new changes. Else every change from that revision on:
  // OUT_OF_RANGE if it is no longer kept or was never given.
  absl::StatusOr<std::shared_ptr<JobWatch>> WatchJobs(std::set<std::string> ids, int64_t start_revision);
  // Events of `resource` (empty: all). start_revision 0: only new ones. Older ones than those kept: OUT_OF_RANGE (the
  // caller may read them from the store first).
  absl::StatusOr<std::shared_ptr<EventWatch>> WatchEvents(std::string resource, int64_t start_revision);

  // For readers that then look into the store: from now on `ready` is called whenever something of the job was stored
  // (metrics, log bytes, artifacts, its record), until its end or until what is returned is gone. On any thread, under
  // the hub's lock: it must be quick and call no hub.
  std::shared_ptr<const std::function<void()>> WatchActivity(absl::string_view job, std::function<void()> ready);

  int64_t job_revision() const;
  int watchers() const;

  // --- For the coordinator. ---
  void Reset(int64_t job_revision, int64_t event_revision);
  void Publish(std::vector<JobChange> jobs, std::vector<EventChange> events, const std::set<std::string>& active_jobs);
  // Ends every watch with UNAVAILABLE.
  void Stop();

 private:
  struct JobReader {
    std::set<std::string> ids;
    std::weak_ptr<JobWatch> watch;
  };
  struct EventReader {
    std::string resource;
    std::weak_ptr<EventWatch> watch;
  };

  using ActivityReaders = std::vector<std::weak_ptr<const std::function<void()>>>;

  void TellActivity(absl::string_view job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Constant after construction.
  const Options options_;

  mutable absl::Mutex mutex_;
  std::deque<JobChange> job_history_ ABSL_GUARDED_BY(mutex_);
  std::deque<EventChange> event_history_ ABSL_GUARDED_BY(mutex_);
  // Changes up to here are not kept.
  int64_t job_floor_ ABSL_GUARDED_BY(mutex_) = 0, event_floor_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t job_revision_ ABSL_GUARDED_BY(mutex_) = 0, event_revision_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<JobReader> job_readers_ ABSL_GUARDED_BY(mutex_);
  std::vector<EventReader> event_readers_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, ActivityReaders> activity_readers_ ABSL_GUARDED_BY(mutex_);  // By job.
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace p2::coordinator
