// Speaks the trainer's side of the pipes without training. What it does stands in the spec's description, as a list of
// `RANK:ACTION` or `*:ACTION`, separated by ';':
//   done=N     ends well after N steps           exit=CODE  ends with CODE after 3 steps
//   hang       heartbeats without advancing      freeze     stops itself (SIGSTOP) after 3 steps
//   deaf       ignores Stop and SIGTERM          garbage    writes no frame on the event pipe
//   artifact   writes an artifact first          env        prints its environment first
//   log=N      prints N lines first              linger=MS  takes so long to stop
//   from=N     resumes at N images
// Without one it steps every 10 ms until it is asked to stop, saves a checkpoint (rank 0), and ends with 40.
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "p2/trainer/v1/pipes.pb.h"
#include "p2/v1/launch.pb.h"
#include "worker/agent/files.h"
#include "worker/agent/framing.h"

namespace {

using namespace p2::trainer::v1;

std::atomic<bool> g_stop = false;

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

class Stub {
 public:
  explicit Stub(const p2::v1::Launch& launch)
      : launch_(launch),
        rank_(std::atoi(Variable("RANK").c_str())),
        event_fd_(std::atoi(Variable("P2_EVENT_FD").c_str())),
        command_fd_(std::atoi(Variable("P2_COMMAND_FD").c_str())),
        event_log_(open(Variable("P2_EVENT_LOG").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) {}

  int Run() {
    if (Has("env")) PrintEnvironment();
    for (int i = 0; i < Number("log").value_or(0); ++i) std::cout << "line " << i << "\n";
    std::cout << "rank " << rank_ << " begins" << std::endl;
    if (Has("garbage")) return write(event_fd_, "\xff\xff\xff\xff\xff\xff", 6) == 6 ? (pause(), 1) : 1;
    const int64_t from = Number("from").value_or(0);
    TrainerEvent starting;
    starting.mutable_progress()->set_phase(Progress::START);
    Send(starting);
    if (rank_ == 0) {
      TrainerEvent event;
      event.mutable_started()->set_images_seen(from);
      Send(event);
      if (Has("artifact")) WriteArtifact();
    }
    for (int64_t step = 1;; ++step) {
      if (WaitForStop() && !Has("deaf")) return EndStopped(step);
      TrainerEvent event;
      event.mutable_progress()->set_phase(Progress::STEP);
      event.mutable_progress()->set_tick(static_cast<uint64_t>(Has("hang") ? 1 : step));
      event.mutable_progress()->set_images_seen(from + (Has("hang") ? 8 : step * 8));
      Send(event);
      if (rank_ == 0 && !Has("hang")) {
        TrainerEvent metrics;
        metrics.mutable_metrics()->set_images_seen(from + step * 8);
        metrics.mutable_metrics()->set_step(step);
        (*metrics.mutable_metrics()->mutable_values())["loss"] = 1.0 / static_cast<double>(step);
        Send(metrics);
      }
      if (step == 3 && Has("freeze")) raise(SIGSTOP);
      if (step == 3 && Number("exit").has_value()) {
        std::cout << "rank " << rank_ << " fails" << std::endl;
        return Finish(Finished::FAILED, *Number("exit"), step, "told to fail");
      }
      if (step == Number("done")) {
        SaveCheckpoint(step);
        return Finish(Finished::DONE, 0, step, "");
      }
    }
  }

 private:
  // The action's text after "RANK:" or "*:".
  std::optional<std::string> Action(const std::string& name) const {
    for (const absl::string_view item : absl::StrSplit(launch_.spec().description(), ';'))
      for (const std::string& prefix : {absl::StrCat(rank_, ":", name), absl::StrCat("*:", name)})
        if (item == prefix || absl::StartsWith(item, absl::StrCat(prefix, "=")))
          return std::string(item.substr(prefix.size()));
    return std::nullopt;
  }
  bool Has(const std::string& name) const { return Action(name).has_value(); }
  std::optional<int> Number(const std::string& name) const {
    const std::optional<std::string> text = Action(name);
    return text.has_value() && !text->empty() ? std::optional<int>(std::atoi(text->c_str() + 1)) : std::nullopt;
  }

  // A step's time; true once a Stop, SIGTERM or the end of the command pipe came.
  bool WaitForStop() {
    pollfd item = {stopped_ ? -1 : command_fd_, POLLIN, 0};
    if (poll(&item, 1, 10) == 1) stopped_ = true;
    return stopped_ || g_stop;
  }

  void Send(TrainerEvent& event) {
    event.set_sequence(++sequence_);
    const std::string frame = p2::agent::EncodeFrame(event);
    if (!p2::WriteAll(event_log_, "event log", frame).ok()) std::_Exit(55);
    (void)p2::WriteAll(event_fd_, "event pipe", frame).ok();  // The agent may be gone.
  }

  void SaveCheckpoint(int64_t step) {
    if (rank_ != 0) return;
    TrainerEvent event;
    event.mutable_checkpoint()->set_images_seen(step * 8);
    event.mutable_checkpoint()->set_path(absl::StrCat("jobs/", launch_.job_id(), "/checkpoints/", step * 8));
    Send(event);
  }

  int Finish(Finished::Outcome outcome, int exit_code, int64_t step, const std::string& message) {
    TrainerEvent event;
    event.mutable_finished()->set_outcome(outcome);
    event.mutable_finished()->set_exit_code(exit_code);
    event.mutable_finished()->set_images_seen(step * 8);
    event.mutable_finished()->set_message(message);
    Send(event);
    return exit_code;
  }

  int EndStopped(int64_t step) {
    if (const std::optional<int> linger = Number("linger")) poll(nullptr, 0, *linger);
    SaveCheckpoint(step);
    return Finish(Finished::STOPPED, 40, step, "");
  }

  void WriteArtifact() {
    std::ofstream(launch_.work_dir() + "/grid.png", std::ios::binary) << std::string(600'000, 'p');
    TrainerEvent event;
    event.mutable_artifact()->set_file_name("grid.png");
    event.mutable_artifact()->set_kind("samples");
    event.mutable_artifact()->set_content_type("image/png");
    Send(event);
  }

  static void PrintEnvironment() {
    for (char** entry = environ; *entry != nullptr; ++entry) std::cout << *entry << "\n";
    sockaddr_in address = {};
    socklen_t size = sizeof(address);
    int listening = 0;
    socklen_t listening_size = sizeof(listening);
    const int store = std::atoi(Variable("P2_STORE_FD").c_str());
    if (store > 0 && getsockname(store, reinterpret_cast<sockaddr*>(&address), &size) == 0 &&
        getsockopt(store, SOL_SOCKET, SO_ACCEPTCONN, &listening, &listening_size) == 0 && listening == 1)
      std::cout << "store listens on " << ntohs(address.sin_port) << "\n";
  }

  const p2::v1::Launch& launch_;
  const int rank_;
  const int event_fd_;
  const int command_fd_;
  const int event_log_;
  bool stopped_ = false;
  uint64_t sequence_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGTERM, [](int) { g_stop = true; });
  p2::v1::Launch launch;
  if (argc != 3 || std::string(argv[1]) != "--launch") return 64;
  std::ifstream file(argv[2], std::ios::binary);
  if (!launch.ParseFromString(std::string(std::istreambuf_iterator<char>(file), {}))) return 64;
  return Stub(launch).Run();
}
