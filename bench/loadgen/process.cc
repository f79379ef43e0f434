#include "bench/loadgen/process.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include "absl/base/const_init.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"

namespace p2::loadgen {
namespace {

// What a signal has to remove; a signal knows no owner.
ABSL_CONST_INIT absl::Mutex directories_mutex(absl::kConstInit);
std::set<std::string>& Directories() {
  static auto* directories = new std::set<std::string>;
  return *directories;
}

void Remove(const std::string& path) {
  std::error_code ignored;
  std::filesystem::remove_all(path, ignored);
}

// The child's side of Start; async-signal-safe.
[[noreturn]] void Become(char* const* argv, int log, int core, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  PinTo(core);
  dup2(log, STDOUT_FILENO);
  dup2(log, STDERR_FILENO);
  execv(argv[0], argv);
  _exit(127);
}

}  // namespace

Cores ChooseCores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  sched_getaffinity(0, sizeof(allowed), &allowed);
  std::vector<int> found;
  for (int core = 0; core < CPU_SETSIZE && found.size() < 2; ++core) {
    if (CPU_ISSET(core, &allowed)) found.push_back(core);
  }
  return {.server = found.front(), .generator = found.back()};
}

void PinTo(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  sched_setaffinity(0, sizeof(set), &set);
}

absl::StatusOr<std::unique_ptr<TemporaryDirectory>> TemporaryDirectory::Make(const std::string& parent) {
  std::string path = parent + "/p2-loadgen-XXXXXX";
  if (mkdtemp(path.data()) == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("cannot make a directory in \"", parent, "\" (",
                                                   std::strerror(errno),
                                                   "): give one that may be written, with --dir"));
  }
  absl::MutexLock lock(&directories_mutex);
  Directories().insert(path);
  return std::unique_ptr<TemporaryDirectory>(new TemporaryDirectory(path));
}

TemporaryDirectory::~TemporaryDirectory() {
  Remove(path_);
  absl::MutexLock lock(&directories_mutex);
  Directories().erase(path_);
}

bool TemporaryDirectory::on_disk() const {
  struct statfs space;
  return statfs(path_.c_str(), &space) != 0 || space.f_type != TMPFS_MAGIC;
}

void EndWithSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread([signals] {
    int number = 0;
    sigwait(&signals, &number);
    absl::MutexLock lock(&directories_mutex);
    for (const std::string& path : Directories()) Remove(path);
    _exit(128 + number);
  }).detach();
}

absl::StatusOr<std::unique_ptr<Process>> Process::Start(const std::vector<std::string>& argv, const std::string& log,
                                                        int core) {
  if (access(argv[0].c_str(), X_OK) != 0) {
    return absl::NotFoundError(absl::StrCat("\"", argv[0], "\" is no program (", std::strerror(errno), ")"));
  }
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const int file = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) Become(arguments.data(), file, core, parent);
  close(file);
  if (pid < 0) return absl::InternalError(absl::StrCat("fork: ", std::strerror(errno)));
  return std::unique_ptr<Process>(new Process(pid));
}

Process::~Process() { Kill(); }

void Process::Kill() {
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

bool Process::Running() {
  if (pid_ >= 0 && waitpid(pid_, nullptr, WNOHANG) == pid_) pid_ = -1;
  return pid_ >= 0;
}

int64_t Process::ResidentBytes() const {
  std::ifstream file(absl::StrCat("/proc/", pid_, "/statm"));
  int64_t all = 0, resident = 0;
  file >> all >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

absl::Duration Process::CpuTime() const {
  std::ifstream file(absl::StrCat("/proc/", pid_, "/stat"));
  std::stringstream text;
  text << file.rdbuf();
  const std::string line = text.str();
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return absl::ZeroDuration();
  const std::vector<std::string> fields = absl::StrSplit(line.substr(name_end + 2), ' ');
  // utime and stime are fields 14 and 15 of the line (proc(5)), the first behind the name being field 3.
  const double ticks = std::stod(fields.at(11)) + std::stod(fields.at(12));
  return absl::Seconds(ticks / static_cast<double>(sysconf(_SC_CLK_TCK)));
}

std::string TailOf(const std::string& path, size_t bytes) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  const std::string whole = text.str();
  return whole.size() > bytes ? whole.substr(whole.size() - bytes) : whole;
}

}  // namespace p2::loadgen
