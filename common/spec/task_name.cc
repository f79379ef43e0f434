#include "common/spec/task_name.h"

namespace p2::spec {

using p2::v1::TaskSpec;

std::string TaskName(const TaskSpec& task) {
  switch (task.task_case()) {
    case TaskSpec::kSample:
      return "sample";
    case TaskSpec::kImport:
      return "import";
    case TaskSpec::kExport:
      return "export";
    case TaskSpec::kAverage:
      return "average";
    default:
      return "train";
  }
}

}  // namespace p2::spec
