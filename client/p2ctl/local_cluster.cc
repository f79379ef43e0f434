#include "client/p2ctl/local_cluster.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/p2ctl/units.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

namespace fs = std::filesystem;

constexpr absl::Duration kPoll = absl::Milliseconds(50);

std::string WithPort(const std::string& host_port, int port) {
  return absl::StrCat(host_port.substr(0, host_port.rfind(':')), ":", port);
}

// The last lines of what a log got from byte `start` on, for the reason why its program did not start.
std::string Tail(const std::string& path, uintmax_t start) {
  constexpr size_t kBytes = 1500;
  std::ifstream file(path, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(start));
  std::string text((std::istreambuf_iterator<char>(file)), {});
  if (text.size() > kBytes) text = text.substr(text.find('\n', text.size() - kBytes) + 1);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.empty() ? absl::StrCat("it wrote nothing to ", path) : text;
}

// The daemons end with p2ctl's classes: 2 for a wrong command line, 6 for an address or a directory in use.
absl::Status StartError(int exit_code, const std::string& message) {
  switch (exit_code) {
    case kUsage:
      return absl::InvalidArgumentError(message);
    case kConflict:
      return absl::FailedPreconditionError(message);
    default:
      return absl::InternalError(message);
  }
}

}  // namespace

LocalCluster::LocalCluster(Context& context, Interrupt& interrupt, LocalClusterOptions options)
    : context_(context),
      interrupt_(interrupt),
      options_(std::move(options)),
      server_("p2d", options_.data_dir + "/logs/p2d.log", options_.well_after),
      worker_("p2-worker", options_.data_dir + "/logs/p2-worker.log", options_.well_after) {}

absl::Status LocalCluster::Start(std::vector<LocalRoot> roots) {
  state_.pid = getpid();
  state_.process_started = ProcessStarted(getpid());
  state_.data_dir = options_.data_dir;
  state_.roots = std::move(roots);
  state_.address = options_.listen;
  state_.http_address = options_.http;
  state_.worker_http_address = options_.worker_http;
  P2_ASSIGN_OR_RETURN(const Json server, StartAndWait(server_, ServerArguments()));
  state_.address = server.value("grpc", state_.address);
  state_.http_address = server.value("http", state_.http_address);
  server_.set_argv(ServerArguments());  // A restart takes the same ports.
  P2_ASSIGN_OR_RETURN(const Json worker, StartAndWait(worker_, WorkerArguments()));
  state_.worker_http_address = WithPort(state_.worker_http_address, worker.value("http_port", 0));
  worker_.set_argv(WorkerArguments());
  return Publish();
}

void LocalCluster::Keep() {
  while (!interrupt_.WaitFor(kPoll)) {
    for (ChildProcess* child : {&server_, &worker_}) {
      const pid_t before = child->pid();
      child->RestartIfDead(absl::Now());
      if (before > 0 && child->pid() < 0) {
        context_.Say(absl::StrCat(child->name(), " ended (", child->how_it_ended(),
                                  "); starting it again. Log: ", child->log_path()));
      } else if (before != child->pid() && !Publish().ok()) {
        context_.Say(absl::StrCat("cannot update ", LocalStatePath()));
      }
    }
  }
}

bool LocalCluster::Stop() {
  const bool worker_ended = StopOne(worker_, options_.worker_stop_timeout);
  if (worker_ended) waiting_ = WaitingJobs();
  return StopOne(server_, options_.server_stop_timeout) && worker_ended;
}

std::vector<std::string> LocalCluster::ServerArguments() const {
  return {
      options_.program_dir + "/p2d", "--data-dir",   options_.data_dir + "/p2d", "--listen", state_.address, "--http",
      state_.http_address,           "--ready-file", ReadyFile(server_)};
}

std::vector<std::string> LocalCluster::WorkerArguments() const {
  std::vector<std::string> argv = {options_.program_dir + "/p2-worker",
                                   "--coordinator",
                                   state_.address,
                                   "--devices",
                                   options_.devices,
                                   "--data-dir",
                                   options_.data_dir + "/worker",
                                   "--http",
                                   state_.worker_http_address,
                                   "--ready-file",
                                   ReadyFile(worker_),
                                   "--name",
                                   "local"};
  for (const LocalRoot& root : state_.roots)
    argv.insert(argv.end(), {"--root", absl::StrCat(root.name, "=", root.path)});
  return argv;
}

std::string LocalCluster::ReadyFile(const ChildProcess& child) const {
  return absl::StrCat(options_.data_dir, "/", child.name(), ".ready");
}

absl::StatusOr<Json> LocalCluster::StartAndWait(ChildProcess& child, std::vector<std::string> argv) {
  const std::string ready_file = ReadyFile(child);
  std::error_code ignored;
  fs::remove(ready_file, ignored);
  const uintmax_t log_size = fs::file_size(child.log_path(), ignored);
  const uintmax_t log_start = log_size == static_cast<uintmax_t>(-1) ? 0 : log_size;  // No log yet.
  P2_RETURN_IF_ERROR(child.Start(std::move(argv), absl::Now()));
  const absl::Time deadline = absl::Now() + options_.ready_timeout;
  while (true) {
    if (std::ifstream file(ready_file); file) {
      if (Json json = Json::parse(file, nullptr, false); json.is_object()) return json;
    }
    if (!child.Running()) {
      return StartError(child.exit_code(), absl::StrCat(child.name(), " did not start (", child.how_it_ended(), "):\n",
                                                        Tail(child.log_path(), log_start)));
    }
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat(child.name(), " was not ready within ",
                                                      FormatShortDuration(options_.ready_timeout), ":\n",
                                                      Tail(child.log_path(), log_start)));
    }
    if (interrupt_.WaitFor(kPoll)) return absl::CancelledError("interrupted while starting");
  }
}

std::vector<std::string> LocalCluster::WaitingJobs() {
  std::vector<std::string> ids;
  if (!server_.Running()) return ids;
  const absl::StatusOr<std::unique_ptr<Client>> client =
      Client::Connect({.address = state_.address, .timeout = absl::Seconds(2), .max_attempts = 1});
  if (!client.ok()) return ids;
  v1::ListJobsRequest request;
  for (const v1::Job::State state : {v1::Job::QUEUED, v1::Job::STARTING, v1::Job::RUNNING}) request.add_states(state);
  const absl::StatusOr<v1::ListJobsResponse> response = (*client)->ListJobs(request);
  if (!response.ok()) return ids;
  for (const v1::Job& job : response->jobs()) ids.push_back(IdOf(job.name()));
  return ids;
}

absl::Status LocalCluster::Publish() {
  state_.server_pid = server_.pid();
  state_.worker_pid = worker_.pid();
  return WriteLocalState(state_, LocalStatePath());
}

bool LocalCluster::StopOne(ChildProcess& child, absl::Duration patience) {
  const absl::Time deadline = absl::Now() + patience;
  // A signal that killed the child before this one does not count again.
  const int kill_at = std::max(2, interrupt_.count() + 1);
  child.Signal(SIGTERM);
  while (!child.WaitForEnd(std::min(deadline, absl::Now() + kPoll))) {
    if (interrupt_.count() < kill_at && absl::Now() < deadline) continue;
    child.Signal(SIGKILL);
    child.WaitForEnd(absl::InfiniteFuture());
    return false;
  }
  return true;
}

}  // namespace p2::ctl
