#include "bench/loadgen/running_jobs.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/loadgen/submitter.h"
#include "common/status_macros.h"

namespace p2::loadgen {
namespace {

constexpr absl::Duration kStartTimeout = absl::Seconds(60);

}  // namespace

struct RunningJobs::Running {
  Seat& seat;
  const p2::v1::Start start;
  int64_t position = 0;  // Guarded by the seat's mutex.
};

// A worker, and who waits for its acknowledgements.
class RunningJobs::Seat : public Gang {
 public:
  explicit Seat(RunningJobs& jobs) : jobs_(jobs) {}

  absl::Status Connect(const FakeWorkerOptions& options) {
    P2_ASSIGN_OR_RETURN(worker_, FakeWorker::Connect(options, *this));
    return absl::OkStatus();
  }

  int64_t Report(Running& running, const std::map<std::string, double>& values, Done done);
  FakeWorker& worker() { return *worker_; }

 private:
  void OnStart(FakeWorker&, const p2::v1::Start& start) override { jobs_.OnStart(*this, start); }
  void OnAck(uint64_t sequence) override { Answer(sequence, absl::OkStatus()); }
  void OnEnd() override {
    {
      absl::MutexLock lock(&mutex_);
      ended_ = true;
    }
    Answer(UINT64_MAX, absl::UnavailableError("the worker's stream has ended"));
  }

  void Answer(uint64_t sequence, const absl::Status& status) {
    std::vector<Done> answered;
    {
      absl::MutexLock lock(&mutex_);
      for (; !waiting_.empty() && waiting_.front().first <= sequence; waiting_.pop_front())
        answered.push_back(std::move(waiting_.front().second));
    }
    for (const Done& done : answered) done(status);
  }

  RunningJobs& jobs_;

  absl::Mutex mutex_;
  std::deque<std::pair<uint64_t, Done>> waiting_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;

  std::unique_ptr<FakeWorker> worker_;  // Last: its threads call this object.
};

absl::StatusOr<std::unique_ptr<RunningJobs>> RunningJobs::Start(const RunningJobsOptions& options, Client& client) {
  std::unique_ptr<RunningJobs> jobs(new RunningJobs);
  for (int i = 0; i < options.workers; ++i) {
    jobs->seats_.push_back(std::make_unique<Seat>(*jobs));
    P2_RETURN_IF_ERROR(jobs->seats_.back()->Connect(
        {.address = options.address, .name = absl::StrCat("running-", i), .slots = options.jobs_per_worker}));
  }
  P2_RETURN_IF_ERROR(RegisterDataset(client));
  const int count = options.workers * options.jobs_per_worker;
  for (int i = 0; i < count; ++i) {
    P2_RETURN_IF_ERROR(
        client.CreateJob(JobRequest(options.seed, kHoldingJob + 1 + i, {"resources.devices=1"})).status());
  }
  absl::MutexLock lock(&jobs->mutex_);
  const auto all = [&jobs, count] { return jobs->size() == count; };
  if (!jobs->mutex_.AwaitWithTimeout(absl::Condition(&all), kStartTimeout)) {
    return absl::DeadlineExceededError(absl::StrCat(jobs->size(), " of ", count, " jobs were started"));
  }
  return jobs;
}

RunningJobs::~RunningJobs() = default;

void RunningJobs::OnStart(Seat& seat, const p2::v1::Start& start) {
  p2::v1::SpoolRecord record = seat.worker().EventOf(start);
  record.mutable_trainer_event()->mutable_started();
  seat.worker().Spool(std::move(record));
  absl::MutexLock lock(&mutex_);
  jobs_.push_back(std::unique_ptr<Running>(new Running{seat, start}));
}

std::string RunningJobs::name(int job) const { return "jobs/" + jobs_[static_cast<size_t>(job)]->start.job(); }

int64_t RunningJobs::Report(int job, const std::map<std::string, double>& values, Done done) {
  Running& running = *jobs_[static_cast<size_t>(job)];
  return running.seat.Report(running, values, std::move(done));
}

int64_t RunningJobs::Seat::Report(Running& running, const std::map<std::string, double>& values, Done done) {
  absl::MutexLock lock(&mutex_);  // Events go out in the order of their sequences.
  p2::v1::SpoolRecord record = worker_->EventOf(running.start);
  p2::trainer::v1::MetricPoints& points = *record.mutable_trainer_event()->mutable_metrics();
  const int64_t position = ++running.position;
  points.set_images_seen(position);
  points.set_step(position);
  points.mutable_values()->insert(values.begin(), values.end());
  const uint64_t sequence = worker_->Spool(std::move(record));
  if (ended_) {
    done(absl::UnavailableError("the worker's stream has ended"));
  } else {
    waiting_.emplace_back(sequence, std::move(done));
  }
  return position;
}

std::map<std::string, double> ValuesOf(int count) {
  std::map<std::string, double> values;
  for (const char* name : {"loss", "mse", "mse_weighted", "vb", "grad_norm", "images_per_second"}) values[name] = 0.25;
  for (int bin = 0; static_cast<int>(values.size()) < count; ++bin)
    values[absl::StrFormat("loss_snr_%02d", bin)] = 0.25;
  return values;
}

}  // namespace p2::loadgen
