#include "worker/trainer/verbs.h"

#include <cstdio>
#include <string>

namespace p2::trainer {

int VerbExitCode(const absl::Status& status) {
  if (status.ok()) return 0;
  std::fprintf(stderr, "p2-trainer: %s\n", std::string(status.message()).c_str());
  return absl::IsNotFound(status) ? 3 : 1;
}

}  // namespace p2::trainer
