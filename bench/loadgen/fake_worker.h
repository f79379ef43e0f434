// A worker without trainers: it speaks WorkerService as p2-worker does, so that p2d is measured and nothing else.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/doorbell.h"
#include "grpcpp/grpcpp.h"
#include "p2/v1/worker_service.grpc.pb.h"

namespace p2::loadgen {

// Of the only root that fake workers show.
inline constexpr char kRootName[] = "loadgen", kRootId[] = "00000000-0000-4000-8000-00000000006c";

class FakeWorker;

// What the trainers of workers would do. Called on the workers' reading threads.
class Gang {
 public:
  virtual ~Gang() = default;
  // The ranks of this worker have started, and p2d was told.
  virtual void OnStart(FakeWorker& worker, const p2::v1::Start& start) = 0;
  // Everything up to `sequence` of the worker's spool is durable at p2d.
  virtual void OnAck(uint64_t) {}
  // The stream has ended; nothing more comes.
  virtual void OnEnd() {}
};

struct FakeWorkerOptions {
  std::string address;  // p2d's.
  std::string name;
  int slots = 1;
};

// Accepts every gang. Sends heartbeats. Send and Spool are thread-safe.
class FakeWorker {
 public:
  // `gang` must outlive it. UNAVAILABLE, or why p2d refused it.
  static absl::StatusOr<std::unique_ptr<FakeWorker>> Connect(const FakeWorkerOptions& options, Gang& gang);
  // Ends the stream.
  ~FakeWorker();

  // Sends `record` under the next sequence of the spool, and returns that.
  uint64_t Spool(p2::v1::SpoolRecord record);
  // Its ranks of the attempt, which has not been finished.
  std::vector<p2::v1::PlacedRank> RanksOf(const p2::v1::Start& start);
  // Its ranks of the attempt have ended well; where rank 0 is among them, it reports the job done first.
  void Finish(const p2::v1::Start& start);

  // A record of the attempt, with its job, epoch and number.
  p2::v1::SpoolRecord RecordOf(const p2::v1::Start& start) const;
  // One that holds the next event of rank 0's trainer, to be filled in.
  p2::v1::SpoolRecord EventOf(const p2::v1::Start& start);
  // The stream has ended without our doing.
  bool broken() const { return broken_; }

 private:
  using Stream = grpc::ClientReaderWriter<p2::v1::ConnectRequest, p2::v1::ConnectResponse>;
  explicit FakeWorker(Gang& gang) : gang_(gang) {}
  void Send(const p2::v1::ConnectRequest& message);
  void Write(const p2::v1::ConnectRequest& message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Read();
  void Beat(absl::Duration interval);
  void OnPrepare(const p2::v1::Prepare& prepare);

  // Constant after Connect.
  Gang& gang_;
  grpc::ClientContext context_;
  std::unique_ptr<p2::v1::WorkerService::Stub> stub_;
  std::unique_ptr<Stream> stream_;
  std::thread reader_, heart_;
  Doorbell stop_;

  std::atomic<bool> broken_ = false;

  absl::Mutex mutex_;  // One writer at a time.
  uint64_t sequence_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, p2::v1::Prepare> prepared_ ABSL_GUARDED_BY(mutex_);   // By job.
  std::map<std::string, uint64_t> trainer_sequence_ ABSL_GUARDED_BY(mutex_);  // By job, of its present attempt.
};

}  // namespace p2::loadgen
