// p2-trainer as a child of a test.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace p2::testing {

// Killed if it is still there at the end.
class TrainerChild {
 public:
  // `environment`: beside the test's own, and over it. stdout and stderr are appended to the file `output`.
  TrainerChild(const std::vector<std::string>& arguments, const std::map<std::string, std::string>& environment,
               const std::string& output);
  ~TrainerChild();
  TrainerChild(const TrainerChild&) = delete;
  TrainerChild& operator=(const TrainerChild&) = delete;

  void Signal(int signal) const;
  // The exit code, or -1: it was ended by a signal, or has not ended within `limit`.
  int Wait(absl::Duration limit = absl::Minutes(1));

 private:
  pid_t pid_ = 0;
};

}  // namespace p2::testing
