#include "server/coordinator/watch_hub.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/error_reason.h"

namespace p2::coordinator {

template <typename Change>
absl::StatusOr<std::optional<Change>> Watch<Change>::Next(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !queue_.empty() || closed_.has_value(); };
  mutex_.AwaitWithTimeout(absl::Condition(&ready), timeout);
  if (queue_.empty()) {
    if (closed_.has_value()) return *closed_;
    return std::optional<Change>();
  }
  std::optional<Change> change = std::move(queue_.front());
  queue_.pop_front();
  resume_revision_ = change->revision + 1;
  return change;
}

template <typename Change>
int64_t Watch<Change>::resume_revision() const {
  absl::MutexLock lock(&mutex_);
  return resume_revision_;
}

template <typename Change>
void Watch<Change>::OnReady(std::function<void()> ready) {
  absl::MutexLock lock(&mutex_);
  ready_ = std::move(ready);
  if (!queue_.empty() || closed_.has_value()) ready_();
}

template <typename Change>
bool Watch<Change>::Push(const Change& change) {
  absl::MutexLock lock(&mutex_);
  if (closed_.has_value()) return false;
  if (queue_.size() < limit_) {
    queue_.push_back(change);
    if (queue_.size() == 1 && ready_) ready_();
    return true;
  }
  closed_ = Error(ErrorReason::kReaderTooSlow,
                  absl::StrCat("the reader is ", queue_.size(),
                               " changes behind and was cut off; resume from revision ", queue_.back().revision + 1));
  return false;
}

template <typename Change>
void Watch<Change>::Close(absl::Status status) {
  absl::MutexLock lock(&mutex_);
  if (closed_.has_value()) return;
  closed_ = std::move(status);
  if (queue_.empty() && ready_) ready_();
}

template class Watch<JobChange>;
template class Watch<EventChange>;

namespace {

absl::Status Stopping() { return Error(ErrorReason::kShuttingDown, "p2d is stopping; try again"); }

// Whether every change from `start` on is still kept: those up to `floor` are not, and `newest` was given last.
absl::Status CheckStart(int64_t start, int64_t floor, int64_t newest) {
  if (start <= floor) {
    return absl::OutOfRangeError(absl::StrCat("revision ", start, " is no longer kept (the oldest is ", floor + 1,
                                              "); read the present state and watch from there"));
  }
  if (start > newest + 1) {
    return absl::OutOfRangeError(absl::StrCat("revision ", start, " was never given (the newest is ", newest,
                                              "); read the present state and watch from there"));
  }
  return absl::OkStatus();
}

// Keeps the newest `limit` changes and raises the floor over what is dropped.
template <typename Change>
void Trim(std::deque<Change>& history, size_t limit, int64_t& floor) {
  while (history.size() > limit) {
    floor = history.front().revision;
    history.pop_front();
  }
}

bool Matches(const std::set<std::string>& ids, const std::string& id) { return ids.empty() || ids.count(id) > 0; }

}  // namespace

absl::StatusOr<std::shared_ptr<JobWatch>> WatchHub::WatchJobs(std::set<std::string> ids, int64_t start_revision) {
  absl::MutexLock lock(&mutex_);
  if (stopped_) return Stopping();
  std::deque<JobChange> initial;
  if (start_revision != 0) {
    if (absl::Status status = CheckStart(start_revision, job_floor_, job_revision_); !status.ok()) return status;
    for (const JobChange& change : job_history_) {
      if (change.revision >= start_revision && Matches(ids, change.job)) initial.push_back(change);
    }
  }
  const int64_t resume = start_revision == 0 ? job_revision_ + 1 : start_revision;
  std::shared_ptr<JobWatch> watch(new JobWatch(options_.reader_buffer, std::move(initial), resume));
  job_readers_.push_back({std::move(ids), watch});
  return watch;
}

absl::StatusOr<std::shared_ptr<EventWatch>> WatchHub::WatchEvents(std::string resource, int64_t start_revision) {
  absl::MutexLock lock(&mutex_);
  if (stopped_) return Stopping();
  std::deque<EventChange> initial;
  if (start_revision != 0) {
    if (absl::Status status = CheckStart(start_revision, event_floor_, event_revision_); !status.ok()) return status;
    for (const EventChange& change : event_history_) {
      const bool matches = resource.empty() || change.event.resource == resource;
      if (change.revision >= start_revision && matches) initial.push_back(change);
    }
  }
  const int64_t resume = start_revision == 0 ? event_revision_ + 1 : start_revision;
  std::shared_ptr<EventWatch> watch(new EventWatch(options_.reader_buffer, std::move(initial), resume));
  event_readers_.push_back({std::move(resource), watch});
  return watch;
}

std::shared_ptr<const std::function<void()>> WatchHub::WatchActivity(absl::string_view job,
                                                                     std::function<void()> ready) {
  auto reader = std::make_shared<const std::function<void()>>(std::move(ready));
  absl::MutexLock lock(&mutex_);
  ActivityReaders& readers = activity_readers_[job];
  std::erase_if(readers, [](const auto& other) { return other.expired(); });
  readers.push_back(reader);
  return reader;
}

void WatchHub::TellActivity(absl::string_view job) {
  const auto found = activity_readers_.find(job);
  if (found == activity_readers_.end()) return;
  std::erase_if(found->second, [](const auto& weak) {
    const auto reader = weak.lock();
    if (reader != nullptr) (*reader)();
    return reader == nullptr;
  });
  if (found->second.empty()) activity_readers_.erase(found);
}

int64_t WatchHub::job_revision() const {
  absl::MutexLock lock(&mutex_);
  return job_revision_;
}

int WatchHub::watchers() const {
  absl::MutexLock lock(&mutex_);
  auto alive = [](const auto& reader) { return !reader.watch.expired(); };
  return static_cast<int>(std::count_if(job_readers_.begin(), job_readers_.end(), alive) +
                          std::count_if(event_readers_.begin(), event_readers_.end(), alive));
}

void WatchHub::Reset(int64_t job_revision, int64_t event_revision) {
  absl::MutexLock lock(&mutex_);
  job_floor_ = job_revision_ = job_revision;
  event_floor_ = event_revision_ = event_revision;
}

void WatchHub::Publish(std::vector<JobChange> jobs, std::vector<EventChange> events,
                       const std::set<std::string>& active_jobs) {
  absl::MutexLock lock(&mutex_);
  for (const std::string& job : active_jobs) TellActivity(job);
  for (JobChange& change : jobs) {
    if (active_jobs.count(change.job) == 0) TellActivity(change.job);
    if (change.record == nullptr || scheduler::IsTerminal(change.record->state)) activity_readers_.erase(change.job);
    job_revision_ = change.revision;
    std::erase_if(job_readers_, [&](JobReader& reader) {
      const std::shared_ptr<JobWatch> watch = reader.watch.lock();
      return watch == nullptr || (Matches(reader.ids, change.job) && !watch->Push(change));
    });
    job_history_.push_back(std::move(change));
  }
  for (EventChange& change : events) {
    event_revision_ = change.revision;
    std::erase_if(event_readers_, [&](EventReader& reader) {
      const std::shared_ptr<EventWatch> watch = reader.watch.lock();
      const bool matches = reader.resource.empty() || reader.resource == change.event.resource;
      return watch == nullptr || (matches && !watch->Push(change));
    });
    event_history_.push_back(std::move(change));
  }
  Trim(job_history_, options_.history, job_floor_);
  Trim(event_history_, options_.history, event_floor_);
}

void WatchHub::Stop() {
  absl::MutexLock lock(&mutex_);
  stopped_ = true;
  for (JobReader& reader : job_readers_) {
    if (auto watch = reader.watch.lock()) watch->Close(Stopping());
  }
  for (EventReader& reader : event_readers_) {
    if (auto watch = reader.watch.lock()) watch->Close(Stopping());
  }
}

}  // namespace p2::coordinator
