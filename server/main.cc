#include <signal.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/failpoint.h"
#include "common/logging.h"
#include "google/protobuf/stubs/logging.h"
#include "server/offline.h"
#include "server/server.h"
#include "server/server_options.h"

namespace {

// --help lists them.
constexpr int kError = 1;
constexpr int kUsage = 2;
constexpr int kInUse = 6;
constexpr int kStoreFailed = 70;

// Of a p2d that could not start.
int ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:          // A directory that cannot be made,
    case absl::StatusCode::kPermissionDenied:  // or that belongs to somebody else.
      return kUsage;
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kFailedPrecondition:
      return kInUse;
    // A damaged database or a full disk must not be tried over and over as if it were a wrong flag.
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kInternal:
      return kStoreFailed;
    default:
      return kError;
  }
}

// A request that is no message (text that is not UTF-8, say) makes protobuf write a line.
void LogFromProtobuf(google::protobuf::LogLevel, const char*, int, const std::string& message) {
  P2_LOG(kWarning) << "protobuf: " << message;
}

int Report(const absl::Status& error) {
  std::cerr << "p2d: " << error.message() << "\n";
  return ExitCodeOf(error);
}

int Restore(const p2::server::ServerOptions& options) {
  const absl::StatusOr<std::string> done = p2::server::RestoreOffline(options);
  if (!done.ok()) return Report(done.status());
  std::cout << *done;
  return 0;
}

int Check(const p2::server::ServerOptions& options) {
  const absl::StatusOr<p2::server::OfflineCheck> check = p2::server::CheckOffline(options);
  if (!check.ok()) return Report(check.status());
  std::cout << check->text;
  return check->whole ? 0 : kStoreFailed;
}

int Run(const p2::server::ServerOptions& options) {
  if (absl::Status valid = p2::server::ValidateServerOptions(options); !valid.ok()) return Report(valid);
  if (!options.restore.empty()) return Restore(options);
  if (options.check) return Check(options);
  // Blocked before the first thread starts, so that every thread inherits it and sigwait alone sees them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  auto server = p2::server::Server::Start(options, {.fatal = [](const absl::Status& status) {
                                            P2_LOG(kError) << "the store failed; nothing more is acknowledged: "
                                                           << status.ToString();
                                            std::_Exit(kStoreFailed);
                                          }});
  if (!server.ok()) return Report(server.status());
  P2_LOG(kInfo) << "p2d serves gRPC on " << (*server)->grpc_address() << " and HTTP on " << (*server)->http_address();
  int signal_number = 0;
  sigwait(&signals, &signal_number);
  P2_LOG(kInfo) << "p2d stops at signal " << signal_number;
  (*server)->Stop();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const absl::StatusOr<p2::server::ServerOptions> options =
      p2::server::ParseServerOptions(std::vector<std::string>(argv + 1, argv + argc), std::getenv);
  if (absl::IsCancelled(options.status())) {
    std::cout << options.status().message();
    return 0;
  }
  if (!options.ok()) {
    std::cerr << "p2d: " << options.status().message() << "\n";
    return kUsage;
  }
  if (options->enable_failpoints) {
    if (const absl::Status enabled = p2::failpoint::Enable(std::getenv("P2_FAILPOINTS")); !enabled.ok()) {
      std::cerr << "p2d: P2_FAILPOINTS: " << enabled.message() << "\n";
      return kUsage;
    }
  }
  // Debian builds abseil without NDEBUG: each lock of a mutex, all of gRPC's too, enters a graph that all threads
  // share. Tests run with it; what they prove need not be looked for again in every call.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  p2::InitLogging("p2d", options->log_level);
  google::protobuf::SetLogHandler(LogFromProtobuf);
  return Run(*options);
}
