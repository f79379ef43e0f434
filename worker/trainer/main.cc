// p2-trainer: one rank of a training run.
//   p2-trainer --launch FILE                                      started by p2-worker
//   p2-trainer --standalone SPEC|PRESET --data DIR --out DIR      by hand, or under torchrun's or Slurm's variables
//   p2-trainer VERB …                                             tools (verbs.h)
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "common/failpoint.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/checkpoint/checkpoint_reader.h"
#include "worker/trainer/event_pipe.h"
#include "worker/trainer/host_memory.h"
#include "worker/trainer/launch_env.h"
#include "worker/trainer/run_files.h"
#include "worker/trainer/spec_seam.h"
#include "worker/trainer/standalone_sink.h"
#include "worker/trainer/task.h"
#include "worker/trainer/trainer.h"
#include "worker/trainer/verbs.h"

namespace p2::trainer {
namespace {

std::atomic<bool> g_stop{false};

// Asks for a checkpoint and the end. A second Ctrl-C kills; a second SIGTERM does not: the agent's own and the one that
// its death causes may both arrive.
void OnStopSignal(int signal) {
  g_stop = true;
  if (signal == SIGINT) ::signal(SIGINT, SIG_DFL);
}

std::optional<std::string> Environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? std::nullopt : std::make_optional<std::string>(value);
}

struct Flags {
  std::string launch;
  std::string standalone;
  std::string data;
  std::string out;
  std::vector<std::string> set;
  bool resume = false;
  std::string device;
  std::string data_interface;
  std::string backend;
  int threads = 0;
  bool enable_failpoints = false;
  absl::Duration farewell_timeout = TrainOptions().farewell_timeout;
  absl::Duration event_flush_timeout = kEventFlushTimeout;
};

// `5s`, `500ms`; not negative.
void AddDuration(CLI::App& app, const std::string& flag, const std::string& variable, absl::Duration& value,
                 const std::string& help) {
  app.add_option_function<std::string>(
         flag,
         [flag, &value](const std::string& text) {
           if (!absl::ParseDuration(text, &value) || value < absl::ZeroDuration())
             throw CLI::ValidationError(flag, absl::StrCat("\"", text, "\" is no duration such as 5s or 500ms"));
         },
         help)
      ->type_name("DURATION")
      ->default_str(absl::FormatDuration(value))
      ->envname(variable);
}

class NullSink final : public EventSink {
 public:
  void Emit(const Event& event) override {}
};

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "p2-trainer: %s\n", std::string(status.message()).c_str());
  return static_cast<int>(ExitCodeOf(status));
}

// With the agent: the launch file says what, the environment where.
int RunLaunched(const Flags& flags) {
  // The agent's death is a request to stop. If it died before this line, the end of the command pipe tells.
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  int event_fd = -1, command_fd = -1;
  if (const absl::Status fds = FdFromEnvironment(Environment, "P2_EVENT_FD", &event_fd); !fds.ok()) return Fail(fds);
  if (const absl::Status fds = FdFromEnvironment(Environment, "P2_COMMAND_FD", &command_fd); !fds.ok())
    return Fail(fds);
  EventPipe sink(event_fd, Environment("P2_EVENT_LOG").value_or(""), EncodeEvent, flags.event_flush_timeout);
  absl::StatusOr<TrainOptions> options = OptionsFromLaunchFile(flags.launch);
  absl::Status status = options.status();
  if (status.ok()) status = PlaceFromEnvironment(Environment, &options->place);
  if (!status.ok()) {
    sink.Emit(
        Finished{Finished::Outcome::kFailed, static_cast<int>(ExitCode::kBadSpec), 0, std::string(status.message())});
    Fail(status);
    return static_cast<int>(ExitCode::kBadSpec);
  }
  options->farewell_timeout = flags.farewell_timeout;
  SetLogField("rank", absl::StrCat(options->place.rank));
  SetLogField("job", options->job_id);
  TrainerHooks hooks{.stop = &g_stop, .command_fd = command_fd, .is_stop = HoldsStop};
  if (options->task.has_value()) return static_cast<int>(RunTask(*options, sink, hooks));
  int64_t images = 0, epoch = 0;
  if (!options->resume_candidates.empty())
    checkpoint::ParseDirectoryName(options->resume_candidates.front(), &images, &epoch);
  hooks.leave_while_forming = [&sink, images] {
    sink.Emit(Finished{Finished::Outcome::kStopped, static_cast<int>(ExitCode::kStopped), images, ""});
    ::_exit(static_cast<int>(ExitCode::kStopped));
  };
  RunFiles files(*options, sink);
  return static_cast<int>(RunTrainer(*options, files, hooks));
}

absl::StatusOr<TrainOptions> StandaloneOptions(const Flags& flags) {
  std::vector<std::string> warnings;
  P2_ASSIGN_OR_RETURN(TrainOptions options, OptionsFromSpec(flags.standalone, flags.set, &warnings));
  for (const std::string& warning : warnings) P2_LOG(kWarning) << warning;
  if (flags.threads > 0) options.place.threads = flags.threads;
  options.farewell_timeout = flags.farewell_timeout;
  options.place.device = flags.device;
  options.place.data_interface = flags.data_interface;
  options.place.backend = flags.backend;
  P2_RETURN_IF_ERROR(PlaceFromEnvironment(Environment, &options.place));
  std::error_code error;
  std::filesystem::create_directories(flags.out, error);
  if (error)
    return WithExit(ExitCode::kStorage,
                    absl::UnavailableError(absl::StrCat("cannot create ", flags.out, ": ", error.message())));
  options.dataset_dir = flags.data;
  options.checkpoint_root = flags.out;
  options.checkpoint_dir = absl::StrCat(flags.out, "/checkpoints");
  options.work_dir = flags.out;
  options.prune_checkpoints = true;
  options.resume_candidates = checkpoint::ListCheckpoints(options.checkpoint_dir);
  // Every rank takes the newest epoch + 1; only rank 0 loads. Ranks that start late see nothing newer before all have
  // joined.
  for (const std::string& name : options.resume_candidates) {
    int64_t images = 0, epoch = 0;
    if (checkpoint::ParseDirectoryName(name, &images, &epoch)) options.epoch = std::max(options.epoch, epoch + 1);
  }
  if (!flags.resume && !options.resume_candidates.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.checkpoint_dir,
                     " already holds the checkpoints of a run: go on with it by --resume, or name another --out"));
  }
  return options;
}

int RunStandalone(const Flags& flags) {
  const absl::StatusOr<TrainOptions> options = StandaloneOptions(flags);
  if (!options.ok()) return Fail(options.status());
  SetLogField("rank", absl::StrCat(options->place.rank));
  const std::unique_ptr<EventSink> sink =
      options->place.rank == 0
          ? std::unique_ptr<EventSink>(std::make_unique<StandaloneSink>(flags.out, options->spec.images))
          : std::make_unique<NullSink>();
  RunFiles files(*options, *sink);
  return static_cast<int>(RunTrainer(*options, files, {.stop = &g_stop}));
}

int Main(int argc, char** argv) {
  CLI::App app("p2-trainer: trains one rank of a P2 diffusion model");
  app.set_version_flag("--version", absl::StrCat("p2-trainer ", P2_VERSION));
  Flags flags;
  app.add_option("--launch", flags.launch, "Launch file written by p2-worker")->type_name("FILE");
  CLI::Option* const standalone = app.add_option("--standalone", flags.standalone,
                                                 "Train without a service: a spec file (YAML) or the name of a preset")
                                      ->type_name("SPEC|PRESET");
  app.add_option("--data", flags.data, "Prepared dataset (`p2ctl dataset prepare`)")
      ->type_name("DIR")
      ->needs(standalone);
  app.add_option("--out", flags.out, "Where checkpoints/, samples-*.png, progress.csv and tensorboard/ go")
      ->type_name("DIR")
      ->needs(standalone);
  app.add_option("--set", flags.set, "Override a value of the spec, e.g. training.batch=16; may be repeated")
      ->type_name("K=V")
      ->needs(standalone);
  app.add_flag("--resume", flags.resume, "Go on from the newest good checkpoint in --out")->needs(standalone);
  app.add_option("--device", flags.device,
                 "cpu, cuda (the local rank's) or cuda:N; default: the local rank's GPU if there is one")
      ->needs(standalone);
  app.add_option("--data-interface", flags.data_interface, "Address or interface for traffic between ranks")
      ->needs(standalone);
  app.add_option("--backend", flags.backend,
                 "nccl or gloo between ranks; default: nccl on GPUs, else gloo. Named, one rank alone uses it too")
      ->needs(standalone)
      ->check(CLI::IsMember({"nccl", "gloo"}));
  app.add_option("--threads", flags.threads, "CPU threads of this rank; default: cores / ranks on this machine")
      ->needs(standalone)
      ->check(CLI::NonNegativeNumber);
  // Variables of these names reach trainers through p2-worker.
  AddDuration(app, "--farewell-timeout", "P2_TRAINER_FAREWELL_TIMEOUT", flags.farewell_timeout,
              "At the end: how long rank 0 waits for the others to leave");
  AddDuration(app, "--event-flush-timeout", "P2_TRAINER_EVENT_FLUSH_TIMEOUT", flags.event_flush_timeout,
              "At the end: how long p2-worker may take to read the last events");
  app.add_flag("--enable-failpoints", flags.enable_failpoints,
               "For tests: fail where P2_TRAINER_FAILPOINTS says (docs/reliability.md)");
  Verb chosen;
  AddInspect(app, &chosen);
  AddExport(app, &chosen);
  AddImport(app, &chosen);
  AddCheck(app, &chosen);
  AddEma(app, &chosen);
  AddSampleVerb(app, g_stop, &chosen);
  AddReconstructVerb(app, g_stop, &chosen);
  app.require_subcommand(0, 1);
  app.footer(
      "Exit codes: 0 done, 40 stopped with a checkpoint, 50 a peer left, 51 CUDA error, 52 out of memory, 53 numbers "
      "not finite, 54 data,\n"
      "55 storage, 64 bad spec or usage.");
  try {
    app.parse(argc, argv);
    const int ways = (chosen != nullptr) + !flags.launch.empty() + !flags.standalone.empty();
    if (ways != 1) throw CLI::ValidationError("give one of --launch, --standalone or a verb");
    if (!flags.standalone.empty() && (flags.data.empty() || flags.out.empty()))
      throw CLI::ValidationError("--standalone needs --data and --out");
  } catch (const CLI::ParseError& e) {
    const int usage = app.get_subcommands().empty() ? static_cast<int>(ExitCode::kBadSpec) : 2;
    return app.exit(e) == 0 ? 0 : usage;
  }

  if (flags.enable_failpoints) {
    if (const absl::Status enabled = failpoint::Enable(std::getenv("P2_TRAINER_FAILPOINTS")); !enabled.ok()) {
      std::fprintf(stderr, "p2-trainer: P2_TRAINER_FAILPOINTS: %s\n", std::string(enabled.message()).c_str());
      return static_cast<int>(ExitCode::kBadSpec);
    }
  }
  InitLogging("p2-trainer", LogLevel::kInfo);
  ::signal(SIGPIPE, SIG_IGN);
  struct sigaction action {};
  action.sa_handler = OnStopSignal;
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGINT, &action, nullptr);
  // cuBLAS reads it once; without it its sums may differ from run to run.
  ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  if (chosen != nullptr) return chosen();
  return flags.launch.empty() ? RunStandalone(flags) : RunLaunched(flags);
}

}  // namespace
}  // namespace p2::trainer

int main(int argc, char** argv) {
  p2::trainer::KeepFreedMemory();
  const int code = p2::trainer::Main(argc, argv);
  std::fflush(nullptr);
  std::_Exit(code);  // Without the destructors of libraries, which may wait for threads of a group that broke.
}
