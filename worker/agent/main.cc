#include <cstdlib>
#include <iostream>

#include "common/failpoint.h"
#include "common/logging.h"
#include "worker/agent/agent.h"
#include "worker/agent/options.h"

namespace {

constexpr int kUsage = 2;
constexpr int kSpoolFailed = 70;

int ExitCode(const absl::Status& status) {
  return absl::IsInvalidArgument(status) || absl::IsFailedPrecondition(status) ? kUsage : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const absl::StatusOr<p2::agent::AgentOptions> options = p2::agent::ParseOptions(argc, argv, std::getenv);
  if (absl::IsCancelled(options.status())) {
    std::cout << options.status().message();
    return 0;
  }
  if (!options.ok()) {
    std::cerr << "p2-worker: " << options.status().message() << "\n";
    return ExitCode(options.status());
  }
  if (options->enable_failpoints) {
    if (const absl::Status enabled = p2::failpoint::Enable(std::getenv("P2_FAILPOINTS")); !enabled.ok()) {
      std::cerr << "p2-worker: P2_FAILPOINTS: " << enabled.message() << "\n";
      return kUsage;
    }
  }
  p2::InitLogging("p2-worker", options->log_level);
  const auto agent = p2::agent::Agent::Create(*options, p2::Clock::Real());
  if (!agent.ok()) {
    std::cerr << "p2-worker: " << agent.status().message() << "\n";
    return ExitCode(agent.status());
  }
  if (const absl::Status status = (*agent)->Run(); !status.ok()) {
    P2_LOG(kError) << "p2-worker ends: " << status.ToString();
    std::_Exit(kSpoolFailed);  // Nothing is torn down: the trainers see their pipes close, checkpoint and end.
  }
  return 0;
}
