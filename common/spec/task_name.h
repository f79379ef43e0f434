// The words for what a job does.
#pragma once

#include <string>

#include "p2/v1/task_spec.pb.h"

namespace p2::spec {

// "sample", "import", "export", "average"; "train" if none is set.
std::string TaskName(const p2::v1::TaskSpec& task);

}  // namespace p2::spec
