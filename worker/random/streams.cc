#include "worker/random/streams.h"

#include "absl/strings/str_cat.h"

namespace p2::random {

std::string DropoutStreamName(absl::string_view module_path) { return absl::StrCat("dropout/", module_path); }

std::string InitStreamName(absl::string_view parameter_name) { return absl::StrCat("init/", parameter_name); }

StreamRegistry::StreamRegistry() {
  for (const char* name : {"order", "flip", "crop", "t", "noise", "preview", "sample", "eval"}) {
    names_.emplace(StreamId(name), name);
  }
}

absl::Status StreamRegistry::Add(absl::string_view name) {
  const auto [it, inserted] = names_.emplace(StreamId(name), std::string(name));
  if (inserted || it->second == name) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("random streams \"", it->second, "\" and \"", name,
                                                    "\" have the same id ", it->first,
                                                    " and would draw the same numbers; rename one of the two modules"));
}

}  // namespace p2::random
