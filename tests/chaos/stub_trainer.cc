// A p2-trainer without LibTorch for the chaos tests: steps of about 1 ms and "weights" that anyone can compute, but the
// real launch file, pipes, event log, checkpoint writer and reader. One that did a step twice, left one out, or went on
// from other weights than its position says, ends in other weights for ever:
//
//   w_i <- (1103 w_i + s (i + 1) + seed) mod 2^20   at step s = 1, 2, …; w_i starts at (31 seed + 7919 i) mod 2^20
//
// as floats that hold whole numbers; the reported loss is w_0 / 2^20 behind the step. Ranks meet at rank 0's socket and
// pass a barrier a step, over which a stop of one reaches all: a killed peer is seen at once (50), a frozen one never.
// P2_TRAINER_STUB_STEP_US sets the length of a step.
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/failpoint.h"
#include "common/file_util.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/checkpoint/checkpoint_reader.h"
#include "worker/checkpoint/checkpoint_writer.h"
#include "worker/checkpoint/tensor_set.h"
#include "worker/trainer/event_pipe.h"
#include "worker/trainer/exit_code.h"
#include "worker/trainer/launch_env.h"
#include "worker/trainer/spec_seam.h"

namespace p2::trainer {
namespace {

constexpr int64_t kWeights = 64;
constexpr double kModulus = 1 << 20;

std::atomic<bool> g_stop = false;

std::optional<std::string> Environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? std::nullopt : std::make_optional<std::string>(value);
}

// What the run computes.
class Weights {
 public:
  explicit Weights(const TrainSpec& spec) : spec_(spec) {
    model_ = tensors_[checkpoint::kModelFile].Add("weight", {kWeights});
    for (int64_t i = 0; i < kWeights; ++i) model_[i] = Reduce(31.0 * static_cast<double>(spec.seed) + 7919.0 * i);
    for (const EmaProfile& profile : spec.emas) {
      averages_.push_back(tensors_[checkpoint::EmaFile(profile.name)].Add("weight", {kWeights}));
      std::copy(model_.begin(), model_.end(), averages_.back().begin());
    }
    checkpoint::TensorSet& optimizer = tensors_[checkpoint::kOptimizerFile];
    moment_ = optimizer.Add("exp_avg.weight", {kWeights});
    optimizer.Add("exp_avg_sq.weight", {kWeights});
    steps_ = optimizer.Add("step", {});
  }

  int64_t steps() const { return static_cast<int64_t>(steps_[0]); }
  int64_t images_seen() const { return steps() * spec_.batch; }
  double loss() const { return model_[0] / kModulus; }

  void Step() {
    const double step = ++steps_[0];
    for (int64_t i = 0; i < kWeights; ++i) {
      model_[i] = Reduce(1103.0 * model_[i] + step * static_cast<double>(i + 1) + static_cast<double>(spec_.seed));
      for (absl::Span<float> average : averages_) average[i] = average[i] * 0.99f + model_[i] * 0.01f;
      moment_[i] = moment_[i] * 0.9f + model_[i] * 0.1f;
    }
  }

  absl::Status Load(const checkpoint::Checkpoint& from) {
    for (auto& [file, tensors] : tensors_) P2_RETURN_IF_ERROR(from.Read(file, tensors.views()));
    if (images_seen() == from.state().images_seen) return absl::OkStatus();
    return absl::InternalError(absl::StrCat(from.directory(), " holds the weights of ", images_seen(), " images"));
  }

  checkpoint::Snapshot TakeSnapshot(const TrainOptions& options) const {
    checkpoint::Snapshot snapshot;
    snapshot.epoch = options.epoch;
    snapshot.attempt = options.attempt;
    snapshot.spec_json = options.spec_json;
    for (const EmaProfile& profile : spec_.emas) snapshot.ema_profiles.push_back(profile.name);
    for (const auto& [file, tensors] : tensors_) snapshot.tensors.push_back({file, tensors.const_views()});
    snapshot.state = {.images_seen = images_seen(),
                      .step = steps(),
                      .updates = steps(),
                      .seed = spec_.seed,
                      .batch = spec_.batch,
                      .dataset_fingerprint = options.dataset_fingerprint};
    return snapshot;
  }

 private:
  static float Reduce(double value) { return static_cast<float>(std::fmod(value, kModulus)); }

  const TrainSpec& spec_;
  std::map<std::string, checkpoint::TensorSet> tensors_;  // By file.
  absl::Span<float> model_, moment_, steps_;
  std::vector<absl::Span<float>> averages_;
};

// The ranks' meeting place: one connection from every other rank to rank 0.
class Gang {
 public:
  static absl::StatusOr<Gang> Form(const Place& place) {
    Gang gang;
    if (place.world_size == 1) return gang;
    if (place.rank == 0) {
      const int listener = place.store_fd.value_or(-1);
      while (static_cast<int>(gang.peers_.size()) + 1 < place.world_size) {
        UniqueFd peer(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
        if (!peer.ok()) return Lost("accept");
        gang.peers_.push_back(std::move(peer));
      }
      return gang;
    }
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(place.master_port));
    inet_pton(AF_INET, place.master_address.c_str(), &address.sin_addr);
    gang.leader_.reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (connect(gang.leader_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0)
      return Lost("connect");
    return gang;
  }

  // The sum over the ranks, on every rank, once all have come.
  absl::StatusOr<int64_t> Sum(int64_t mine) {
    for (const UniqueFd& peer : peers_) {
      int64_t theirs = 0;
      if (recv(peer.get(), &theirs, sizeof(theirs), MSG_WAITALL) != sizeof(theirs)) return Lost("recv");
      mine += theirs;
    }
    if (leader_.ok() && (send(leader_.get(), &mine, sizeof(mine), MSG_NOSIGNAL) != sizeof(mine) ||
                         recv(leader_.get(), &mine, sizeof(mine), MSG_WAITALL) != sizeof(mine)))
      return Lost("exchange");
    for (const UniqueFd& peer : peers_)
      if (send(peer.get(), &mine, sizeof(mine), MSG_NOSIGNAL) != sizeof(mine)) return Lost("send");
    return mine;
  }

 private:
  static absl::Status Lost(const char* what) { return absl::UnavailableError(absl::StrCat(what, ": a peer left")); }

  std::vector<UniqueFd> peers_;  // Rank 0's.
  UniqueFd leader_;              // Everybody else's.
};

// Says Progress and looks for a stop, whatever the rank is waiting for.
class Monitor {
 public:
  Monitor(EventSink& sink, int command_fd) : sink_(sink), command_fd_(command_fd), thread_([this] { Run(); }) {}
  ~Monitor() {
    {
      const std::lock_guard lock(mutex_);
      done_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }
  void At(Phase phase, int64_t images_seen) {
    phase_ = phase;
    images_seen_ = images_seen;
    ++tick_;
  }

 private:
  void Run() {
    std::string commands;
    for (int beat = 0;; ++beat) {
      pollfd item = {command_fd_, POLLIN, 0};
      if (command_fd_ >= 0 && poll(&item, 1, 0) == 1) {
        char buffer[256];
        const ssize_t n = read(command_fd_, buffer, sizeof(buffer));
        if (n > 0) commands.append(buffer, static_cast<size_t>(n));
        if (n == 0 || HoldsStop(commands)) {
          g_stop = true;
          command_fd_ = -1;
        }
      }
      if (beat % 10 == 0) sink_.Emit(Progress{phase_, images_seen_, tick_, 0});
      std::unique_lock lock(mutex_);
      if (wake_.wait_for(lock, std::chrono::milliseconds(20), [this] { return done_; })) return;
    }
  }

  EventSink& sink_;
  int command_fd_;  // -1 once there is nothing more to read.
  std::atomic<Phase> phase_ = Phase::kStart;
  std::atomic<int64_t> images_seen_ = 0;
  std::atomic<uint64_t> tick_ = 0;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool done_ = false;
  std::thread thread_;
};

// One rank, from its launch to its end.
class Run {
 public:
  Run(const TrainOptions& options, EventSink& sink, Monitor& monitor)
      : options_(options),
        sink_(sink),
        monitor_(monitor),
        weights_(options.spec),
        writer_(options.checkpoint_dir, nullptr, [this](const auto& written) { OnWritten(written); }) {}

  // The position at the end, and whether it was the run's.
  absl::StatusOr<bool> ToTheEnd() {
    P2_ASSIGN_OR_RETURN(gang_, Gang::Form(options_.place));
    P2_RETURN_IF_ERROR(Load());
    const TrainSpec& spec = options_.spec;
    const int step_us = std::atoi(Environment("P2_TRAINER_STUB_STEP_US").value_or("1000").c_str());
    const auto passes = [&](int64_t every) { return every > 0 && images() / every > (images() - spec.batch) / every; };
    while (images() < spec.images) {
      P2_ASSIGN_OR_RETURN(const int64_t stops, gang_.Sum(g_stop ? 1 : 0));
      if (stops > 0) {
        monitor_.At(Phase::kStop, images());
        P2_RETURN_IF_ERROR(Save(/*durable=*/true));
        return false;
      }
      weights_.Step();
      std::this_thread::sleep_for(std::chrono::microseconds(step_us));
      monitor_.At(Phase::kStep, images());
      if (leads() && passes(spec.log_every_images))
        sink_.Emit(MetricPoints{images(), weights_.steps(), {{"loss", weights_.loss()}}});
      if (passes(spec.checkpoint_every_images)) P2_RETURN_IF_ERROR(Save(/*durable=*/false));
    }
    monitor_.At(Phase::kSave, images());
    P2_RETURN_IF_ERROR(Save(/*durable=*/true));
    if (leads()) P2_RETURN_IF_ERROR(WriteArtifact());
    return true;
  }

  int64_t images() const { return weights_.images_seen(); }

 private:
  bool leads() const { return options_.place.rank == 0; }

  absl::Status Load() {
    std::string from;
    if (leads() && !options_.resume_candidates.empty()) {
      checkpoint::RemoveStaleTemporaries(options_.checkpoint_dir, options_.epoch);
      absl::StatusOr<checkpoint::FirstGood> good =
          checkpoint::OpenFirstGood(options_.checkpoint_dir, options_.resume_candidates);
      if (!good.ok()) return WithExit(ExitCode::kStorage, good.status());
      for (const absl::Status& why : good->passed_over)
        sink_.Emit(Notice{"CHECKPOINT_CORRUPT", std::string(why.message()), {}});
      if (good->checkpoint == nullptr)
        return WithExit(ExitCode::kStorage, absl::DataLossError("no candidate is a good checkpoint"));
      P2_RETURN_IF_ERROR(weights_.Load(*good->checkpoint));
      from = good->checkpoint->directory();
    }
    // The other ranks take rank 0's weights by computing them.
    P2_ASSIGN_OR_RETURN(const int64_t steps, gang_.Sum(leads() ? weights_.steps() : 0));
    while (weights_.steps() < steps) weights_.Step();
    if (leads()) sink_.Emit(Started{images(), from, {{"stub", "1"}}, kWeights});
    return absl::OkStatus();
  }

  absl::Status Save(bool durable) {
    if (!leads()) return absl::OkStatus();
    writer_.Wait().IgnoreError();  // Its failure was a notice.
    if (saved_ == images()) return absl::OkStatus();
    // The views look into weights that the next step changes, so training waits for the files.
    writer_.Start(weights_.TakeSnapshot(options_));
    const absl::Status written = writer_.Wait();
    return durable ? WithExit(ExitCode::kStorage, written) : absl::OkStatus();
  }

  absl::Status WriteArtifact() {
    const std::string name = absl::StrCat("weights-", images(), ".txt");
    std::string text;
    while (text.size() < 4000) absl::StrAppend(&text, weights_.loss(), "\n");
    P2_RETURN_IF_ERROR(ReplaceFile(absl::StrCat(options_.work_dir, "/", name), text));
    sink_.Emit(ArtifactWritten{name, "samples", "text/plain", images()});
    return absl::OkStatus();
  }

  void OnWritten(const absl::StatusOr<checkpoint::WrittenCheckpoint>& written) {
    if (!written.ok()) return sink_.Emit(Notice{"CHECKPOINT_FAILED", std::string(written.status().message()), {}});
    const checkpoint::Manifest& manifest = written->manifest;
    saved_ = manifest.images_seen;
    const std::filesystem::path path = std::filesystem::path(options_.checkpoint_dir) / written->name;
    sink_.Emit(CheckpointSaved{manifest.images_seen, path.lexically_relative(options_.checkpoint_root).string(),
                               manifest.files, manifest.ema_profiles, written->manifest_sha256});
  }

  const TrainOptions& options_;
  EventSink& sink_;
  Monitor& monitor_;
  Gang gang_;
  Weights weights_;
  int64_t saved_ = -1;
  checkpoint::BackgroundWriter writer_;
};

int Main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  signal(SIGTERM, [](int) { g_stop = true; });
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  InitLogging("p2-stub-trainer", LogLevel::kInfo);
  std::string launch;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--launch" && i + 1 < argc) launch = argv[++i];
    if (flag != "--enable-failpoints") continue;
    if (const absl::Status status = failpoint::Enable(std::getenv("P2_TRAINER_FAILPOINTS")); !status.ok()) {
      std::fprintf(stderr, "%s\n", status.ToString().c_str());
      return static_cast<int>(ExitCode::kBadSpec);
    }
  }
  int event_fd = -1, command_fd = -1;
  FdFromEnvironment(Environment, "P2_EVENT_FD", &event_fd).IgnoreError();
  FdFromEnvironment(Environment, "P2_COMMAND_FD", &command_fd).IgnoreError();
  EventPipe sink(event_fd, Environment("P2_EVENT_LOG").value_or(""), EncodeEvent);
  absl::StatusOr<TrainOptions> options = OptionsFromLaunchFile(launch);
  if (options.ok()) {
    const absl::Status placed = PlaceFromEnvironment(Environment, &options->place);
    if (!placed.ok()) options = placed;
  }
  absl::Status status = options.status();
  Finished finished;
  if (options.ok()) {
    Monitor monitor(sink, command_fd);
    Run run(*options, sink, monitor);
    const absl::StatusOr<bool> done = run.ToTheEnd();
    status = done.status();
    finished.images_seen = run.images();
    if (done.ok()) {
      finished.outcome = *done ? Finished::Outcome::kDone : Finished::Outcome::kStopped;
      finished.exit_code = static_cast<int>(*done ? ExitCode::kDone : ExitCode::kStopped);
    }
  }
  if (!status.ok()) {
    finished.exit_code = static_cast<int>(ExitCodeOf(status));
    finished.message = std::string(status.message());
    P2_LOG(kError) << finished.message;
  }
  sink.Emit(finished);
  return finished.exit_code;
}

}  // namespace
}  // namespace p2::trainer

int main(int argc, char** argv) { return p2::trainer::Main(argc, argv); }
