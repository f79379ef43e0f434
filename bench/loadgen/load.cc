#include "bench/loadgen/load.h"

#include <sys/prctl.h>

#include <algorithm>
#include <random>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "bench/loadgen/quantile.h"

namespace p2::loadgen {
namespace {

// What the threads of a run write down.
class Record {
 public:
  Record(absl::Time begin, const LoadOptions& options)
      : measured_from_(begin + options.warm_up), end_(measured_from_ + options.duration) {}

  absl::Time end() const { return end_; }

  // The index of a call that begins.
  int64_t Begin() {
    absl::MutexLock lock(&mutex_);
    return BeginLocked();
  }

  void End(absl::Time due, absl::Time now, const absl::Status& status) {
    absl::MutexLock lock(&mutex_);
    EndLocked(due, now, status);
  }

  // The same, and the index of the call that the client makes next; -1 if the time is over, or the call failed.
  int64_t EndAndBegin(absl::Time due, absl::Time now, const absl::Status& status) {
    absl::MutexLock lock(&mutex_);
    EndLocked(due, now, status);
    return status.ok() && now < end_ ? BeginLocked() : -1;
  }

  void AwaitQuiet() {
    absl::MutexLock lock(&mutex_);
    const auto quiet = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return in_flight_ == 0; };
    mutex_.Await(absl::Condition(&quiet));
  }

  LoadResult Result() {
    absl::MutexLock lock(&mutex_);
    std::sort(latencies_.begin(), latencies_.end());
    return {.rate_per_s = static_cast<double>(answered_) / absl::ToDoubleSeconds(end_ - measured_from_),
            .p50_ms = Quantile(latencies_, 0.5),
            .p99_ms = Quantile(latencies_, 0.99),
            .p999_ms = Quantile(latencies_, 0.999),
            .max_ms = Quantile(latencies_, 1),
            .calls = next_index_,
            .errors = errors_,
            .most_in_flight = most_in_flight_,
            .first_error = first_error_};
  }

 private:
  int64_t BeginLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    most_in_flight_ = std::max(most_in_flight_, ++in_flight_);
    return next_index_++;
  }

  void EndLocked(absl::Time due, absl::Time now, const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!status.ok()) {
      if (++errors_ == 1) first_error_ = status.ToString();
    } else {
      if (now >= measured_from_ && now < end_) ++answered_;
      if (due >= measured_from_ && due < end_) latencies_.push_back(absl::ToDoubleMilliseconds(now - due));
    }
    --in_flight_;
  }

  // Constant after construction.
  const absl::Time measured_from_, end_;

  absl::Mutex mutex_;
  int64_t next_index_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t in_flight_ ABSL_GUARDED_BY(mutex_) = 0, most_in_flight_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t answered_ ABSL_GUARDED_BY(mutex_) = 0, errors_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<double> latencies_ ABSL_GUARDED_BY(mutex_);  // ms
  std::string first_error_ ABSL_GUARDED_BY(mutex_);
};

// Call `index` of a client, and those that follow it.
void GoOn(Record& record, const Begin& begin, int64_t index) {
  const absl::Time due = absl::Now();
  begin(index, [&record, &begin, due](const absl::Status& status) {
    const int64_t next = record.EndAndBegin(due, absl::Now(), status);
    if (next >= 0) GoOn(record, begin, next);
  });
}

void RunArrivals(Record& record, const LoadOptions& options, const Begin& begin) {
  prctl(PR_SET_TIMERSLACK, 1);  // Else a sleep is 50 us too long.
  std::mt19937_64 random(options.seed);
  std::exponential_distribution<double> gap(options.rate);
  for (absl::Time due = absl::Now() + absl::Seconds(gap(random)); due < record.end();
       due += absl::Seconds(gap(random))) {
    absl::SleepFor(due - absl::Now());
    begin(record.Begin(), [&record, due](const absl::Status& status) { record.End(due, absl::Now(), status); });
  }
}

}  // namespace

nlohmann::ordered_json LoadResult::ToJson() const {
  nlohmann::ordered_json json = {
      {"rate_per_s", rate_per_s}, {"p50_ms", p50_ms}, {"p99_ms", p99_ms}, {"p999_ms", p999_ms},
      {"max_ms", max_ms},         {"calls", calls},   {"errors", errors}, {"most_in_flight", most_in_flight}};
  if (!first_error.empty()) json["first_error"] = first_error;
  return json;
}

LoadResult RunLoad(const LoadOptions& options, const Begin& begin) {
  Record record(absl::Now(), options);
  if (options.rate > 0) {
    RunArrivals(record, options, begin);
  } else {
    for (int i = 0; i < options.clients; ++i) GoOn(record, begin, record.Begin());
  }
  record.AwaitQuiet();
  return record.Result();
}

LoadResult RunBlockingLoad(const LoadOptions& options, const Call& call) {
  Record record(absl::Now(), options);
  std::vector<std::thread> threads;
  for (int client = 0; client < options.clients; ++client) {
    threads.emplace_back([&record, &call, client] {
      for (int64_t index = record.Begin(); index >= 0;) {
        const absl::Time due = absl::Now();
        const absl::Status status = call(client, index);
        index = record.EndAndBegin(due, absl::Now(), status);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return record.Result();
}

}  // namespace p2::loadgen
