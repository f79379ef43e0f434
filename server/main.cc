#include <signal.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/logging.h"
#include "server/server.h"
#include "server/server_options.h"

namespace {

// CLI.md: p2d ends with this when its store fails.
constexpr int kStoreFailed = 70;
constexpr int kUsage = 2;

int Run(const p2::server::ServerOptions& options) {
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
  if (!server.ok()) {
    std::cerr << "p2d: " << server.status().message() << "\n";
    // A damaged database must not be restarted over and over as if it were a wrong flag.
    return absl::IsDataLoss(server.status()) ? kStoreFailed : 1;
  }
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
  p2::InitLogging("p2d", options->log_level);
  return Run(*options);
}
