// The daemons that `p2ctl local` runs.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/p2ctl/child_process.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/interrupt.h"
#include "client/p2ctl/local_state.h"

namespace p2::ctl {

struct LocalClusterOptions {
  std::string program_dir;  // Holds p2d and p2-worker.
  std::string data_dir;     // Holds `p2d`, `worker` and `logs`.
  std::string devices;
  std::string listen, http, worker_http;  // host:port; 0: any port.
  absl::Duration ready_timeout;
  // The worker's ranks checkpoint within the stop deadlines of their jobs; p2d has nothing to wait for.
  absl::Duration worker_stop_timeout, server_stop_timeout;
  // A daemon that lived for so long is well again: its next restart comes soon.
  absl::Duration well_after;
};

// p2d and p2-worker, in the order in which they start; they stop in the other one. Confined to one thread.
class LocalCluster {
 public:
  // `context` and `interrupt`, which takes two signals, must outlive this.
  LocalCluster(Context& context, Interrupt& interrupt, LocalClusterOptions options);

  // CANCELLED: interrupted before both were ready. INVALID_ARGUMENT, FAILED_PRECONDITION: a daemon ended with 2 or 6.
  // Call Stop in any case.
  absl::Status Start(std::vector<LocalRoot> roots);
  // Restarts what dies, until the first signal.
  void Keep();
  // The worker first: its ranks checkpoint and report while p2d still listens. False: one was killed, by a second
  // signal or because it took too long.
  bool Stop();

  // Written to LocalStatePath() too, whenever it changes.
  const LocalState& state() const { return state_; }
  // Jobs that go on at the next start; known once Stop has returned.
  const std::vector<std::string>& waiting() const { return waiting_; }

 private:
  std::vector<std::string> ServerArguments() const;
  std::vector<std::string> WorkerArguments() const;
  std::string ReadyFile(const ChildProcess& child) const;
  // What it says in its ready file.
  absl::StatusOr<Json> StartAndWait(ChildProcess& child, std::vector<std::string> argv);
  // IDs of those that p2d holds without a worker; none if it does not answer at once.
  std::vector<std::string> WaitingJobs();
  absl::Status Publish();
  bool StopOne(ChildProcess& child, absl::Duration patience);

  Context& context_;
  Interrupt& interrupt_;
  const LocalClusterOptions options_;
  LocalState state_;
  std::vector<std::string> waiting_;
  ChildProcess server_;
  ChildProcess worker_;
};

}  // namespace p2::ctl
