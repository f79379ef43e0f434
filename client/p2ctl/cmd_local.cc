// local: a server and a worker on this machine, kept running until Ctrl-C.
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/interrupt.h"
#include "client/p2ctl/local_cluster.h"
#include "client/p2ctl/local_state.h"
#include "client/p2ctl/storage_root.h"
#include "client/p2ctl/units.h"
#include "common/resource_name.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string devices = "auto";
  std::vector<std::string> roots;
  std::string data_dir;
  std::string listen = "127.0.0.1:7250";
  std::string http = "127.0.0.1:7251";
  std::string worker_http;  // Empty: 7252, or any port where --http takes any.
  std::string ready_timeout = "60s", worker_stop_timeout = "15m", server_stop_timeout = "30s", well_after = "30s";
};

std::string DefaultDataDir() {
  const char* data_home = std::getenv("XDG_DATA_HOME");
  if (data_home != nullptr && data_home[0] == '/') return absl::StrCat(data_home, "/p2");
  const char* home = std::getenv("HOME");
  return absl::StrCat(home != nullptr ? home : "/tmp", "/.local/share/p2");
}

// "0" and "7250" are ports on loopback.
std::string HostPort(const std::string& text) {
  return text.find(':') == std::string::npos ? absl::StrCat("127.0.0.1:", text) : text;
}
std::string WorkerHttp(const Options& options) {
  if (!options.worker_http.empty()) return HostPort(options.worker_http);
  return HostPort(absl::EndsWith(HostPort(options.http), ":0") ? "0" : "7252");
}

absl::StatusOr<std::vector<LocalRoot>> MakeRoots(const Options& options, const std::string& data_dir) {
  std::vector<LocalRoot> roots;
  for (const std::string& text : options.roots) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(text, absl::MaxSplits('=', 1));
    if (!IsDottedId(parts.first) || parts.second.empty()) {
      return UsageError(absl::StrCat("--root \"", text, "\": write NAME=DIR, NAME of [a-z0-9][a-z0-9._-]{0,62}"));
    }
    const std::string path = fs::weakly_canonical(parts.second).string();
    P2_ASSIGN_OR_RETURN(std::string id, ReadRootId(path));
    roots.push_back({parts.first, std::move(id), path});
  }
  if (roots.empty()) {
    const std::string path = absl::StrCat(data_dir, "/root");
    P2_ASSIGN_OR_RETURN(std::string id, InitRoot(path));
    roots.push_back({"local", std::move(id), path});
  }
  return roots;
}

absl::StatusOr<LocalClusterOptions> MakeOptions(const Options& options, const std::string& data_dir) {
  LocalClusterOptions made;
  made.program_dir = fs::read_symlink("/proc/self/exe").parent_path().string();
  made.data_dir = data_dir;
  made.devices = options.devices;
  made.listen = HostPort(options.listen);
  made.http = HostPort(options.http);
  made.worker_http = WorkerHttp(options);
  P2_ASSIGN_OR_RETURN(made.ready_timeout, ParseDuration(options.ready_timeout));
  P2_ASSIGN_OR_RETURN(made.worker_stop_timeout, ParseDuration(options.worker_stop_timeout));
  P2_ASSIGN_OR_RETURN(made.server_stop_timeout, ParseDuration(options.server_stop_timeout));
  P2_ASSIGN_OR_RETURN(made.well_after, ParseDuration(options.well_after));
  return made;
}

absl::Status MakeDirectories(const std::string& data_dir) {
  for (const char* below : {"/p2d", "/worker", "/logs"}) {
    std::error_code error;
    fs::create_directories(data_dir + below, error);
    if (error) return absl::InvalidArgumentError(absl::StrCat("cannot make ", data_dir, below, ": ", error.message()));
  }
  return absl::OkStatus();
}

// An open file that is held for as long as this process lives. FAILED_PRECONDITION with `busy`, if another holds it.
absl::StatusOr<int> Lock(const std::string& path, const std::function<std::string()>& busy) {
  std::error_code ignored;
  fs::create_directories(fs::path(path).parent_path(), ignored);
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  close(fd);
  return WithReason(absl::FailedPreconditionError(busy()), "LOCAL_RUNS_ALREADY");
}

// One a person: it is what other commands find by themselves.
std::string RunsAlready(const std::string& state_path) {
  const absl::StatusOr<std::optional<LocalState>> other = ReadLocalState(state_path);
  const bool known = other.ok() && other->has_value();
  return absl::StrCat("another p2ctl local runs",
                      known ? absl::StrCat(" (pid ", (*other)->pid, ", ", (*other)->address, ")") : "",
                      "; stop it first, or give this one its own XDG_STATE_HOME");
}

void PrintReady(Context& context, const LocalState& state, const std::string& devices, const std::string& state_path) {
  if (context.style().format == OutputFormat::kJson || context.style().format == OutputFormat::kJsonLines) {
    std::ifstream file(state_path);
    context.PrintText(Json::parse(file).dump() + "\n");
    return;
  }
  const auto name = [](std::string* out, const LocalRoot& root) { absl::StrAppend(out, root.name, "=", root.path); };
  context.PrintText(absl::StrCat("p2 is ready at ", state.address, "\n  devices  ", devices, "\n  roots    ",
                                 absl::StrJoin(state.roots, "\n           ", name), "\n  metrics  http://",
                                 state.http_address, "/metrics, http://", state.worker_http_address,
                                 "/metrics\n  logs     ", state.data_dir, "/logs\nCtrl-C checkpoints and stops\n"));
}

absl::StatusOr<int> Run(Context& context, const Options& options) {
  const std::string state_path = LocalStatePath();
  P2_ASSIGN_OR_RETURN(const int lock, Lock(state_path + ".lock", [&state_path] { return RunsAlready(state_path); }));
  const auto unlock = absl::MakeCleanup([lock] { close(lock); });
  const std::string data_dir =
      fs::absolute(options.data_dir.empty() ? DefaultDataDir() : options.data_dir).lexically_normal().string();
  P2_ASSIGN_OR_RETURN(LocalClusterOptions cluster_options, MakeOptions(options, data_dir));
  P2_RETURN_IF_ERROR(MakeDirectories(data_dir));
  P2_ASSIGN_OR_RETURN(const int data_lock, Lock(data_dir + "/local.lock", [&data_dir] {
                        return absl::StrCat("another p2ctl local uses ", data_dir,
                                            "; stop it first, or give this one another --data-dir");
                      }));
  const auto unlock_data = absl::MakeCleanup([data_lock] { close(data_lock); });
  P2_ASSIGN_OR_RETURN(std::vector<LocalRoot> roots, MakeRoots(options, data_dir));
  Interrupt interrupt(/*taken=*/2);
  LocalCluster cluster(context, interrupt, std::move(cluster_options));
  const absl::Status started = cluster.Start(std::move(roots));
  const auto forget = absl::MakeCleanup([&state_path] { unlink(state_path.c_str()); });
  if (started.ok()) {
    PrintReady(context, cluster.state(), options.devices, state_path);
    cluster.Keep();
    context.Say("stopping: running jobs checkpoint first; Ctrl-C again kills");
  }
  const bool clean = cluster.Stop();
  if (!started.ok() && !absl::IsCancelled(started)) return WithReason(started, "LOCAL_DID_NOT_START");
  const std::string go_on = absl::StrJoin(cluster.waiting(), " ");
  context.Say(
      absl::StrCat(clean ? "stopped" : "killed", go_on.empty() ? "" : "; these jobs go on at the next start: ", go_on));
  return clean && interrupt.signal_number() == SIGTERM ? kOk : kInterrupted;
}

}  // namespace

void AddLocal(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = AddVerb(
      app, context, "local", "Run a server and a worker on this machine until Ctrl-C",
      "  p2ctl local\n"
      "  p2ctl local --devices cpu:2 --data-dir /data/p2\n"
      "  p2ctl local --devices cuda:0,1 --root fast=/nvme/p2 --listen 0 --http 0\n"
      "Other commands find it by themselves. The first Ctrl-C checkpoints what runs and stops, the second kills.\n"
      "Exit: 130 after Ctrl-C, 0 after SIGTERM that all ended by, 2 or 6 if a daemon refused its flags or its "
      "directory.",
      options, Run);
  verb->add_option("--devices", options->devices, "cpu:N, cuda:0,1 or auto (all GPUs, else CPU slots)")
      ->capture_default_str();
  verb->add_option("--root", options->roots,
                   "Storage root to offer; repeatable. Default: local=DATA-DIR/root, made when missing")
      ->type_name("NAME=DIR")
      ->allow_extra_args(false);
  verb->add_option("--data-dir", options->data_dir,
                   "Database, logs, default root [$XDG_DATA_HOME/p2, ~/.local/share/p2]")
      ->type_name("DIR");
  verb->add_option("--listen", options->listen, "gRPC: port or HOST:PORT; 0: any free port")->capture_default_str();
  verb->add_option("--http", options->http, "p2d's /metrics: port or HOST:PORT; 0: any")->capture_default_str();
  verb->add_option("--worker-http", options->worker_http,
                   "p2-worker's /metrics: port or HOST:PORT; 0: any [7252, or any where --http is 0]");
  const auto advanced = [verb](const std::string& flag, std::string& value, const std::string& help) {
    verb->add_option(flag, value, help)->capture_default_str()->type_name("DURATION")->group("Advanced");
  };
  advanced("--ready-timeout", options->ready_timeout, "Patience with a daemon that starts");
  advanced("--worker-stop-timeout", options->worker_stop_timeout, "Patience with the worker, whose ranks checkpoint");
  advanced("--server-stop-timeout", options->server_stop_timeout, "Patience with p2d when it stops");
  advanced("--well-after", options->well_after, "A daemon that lived for so long is started again without a wait");
}

}  // namespace p2::ctl
