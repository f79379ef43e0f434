// Some jobs, kept up to date in the background.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "p2/client.h"

namespace p2::ctl {

// Streams changes of state and the values of one metric; asks for progress where the stream brings none. Its methods
// are for one thread.
class JobMonitor {
 public:
  struct Watched {
    v1::Job job;
    bool deleted = false;
    std::vector<double> values;    // Of the metric, oldest first.
    bool values_complete = false;  // The job has ended and `values` are all.
  };

  // `jobs`: as just read. `metric`: empty for none. `client` must outlive this.
  JobMonitor(Client& client, const std::vector<v1::Job>& jobs, std::string metric);
  ~JobMonitor();
  JobMonitor(const JobMonitor&) = delete;
  JobMonitor& operator=(const JobMonitor&) = delete;

  // Returns when something changed, or after `timeout`. Also asks for the progress of live jobs, at most once a second
  // each.
  void WaitForChange(absl::Duration timeout);

  // By resource name.
  std::map<std::string, Watched> Snapshot();
  // Of the streams, once they have given up.
  absl::Status error();
  // The last question for progress met no server; the streams still try.
  bool server_away() const { return server_away_; }
  // Wakes WaitForChange. From any thread.
  void Wake();

 private:
  void Watch();
  void ReadMetric(const std::string& name, Stream<v1::StreamMetricsResponse>& stream);
  void Refresh();
  void Fail(const absl::Status& status);

  // Constant after construction.
  Client& client_;
  const std::string metric_;
  std::unique_ptr<Stream<v1::WatchJobsResponse>> watch_;
  std::map<std::string, std::unique_ptr<Stream<v1::StreamMetricsResponse>>> metrics_;
  std::vector<std::thread> threads_;

  // Confined to the caller's thread.
  std::map<std::string, absl::Time> refreshed_;
  bool server_away_ = false;

  absl::Mutex mutex_;
  bool changed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status error_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Watched> watched_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace p2::ctl
