// What a request is made from: a preset's name, or the text of a spec file.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "p2/v1/job_service.pb.h"

namespace p2::ctl {

// Exactly one of `preset` and `file` (a path) goes into the request. Usage errors in the name of `verb`; NOT_FOUND or
// INVALID_ARGUMENT for a file that cannot be read or is no text.
absl::Status FillSpec(absl::string_view verb, const std::string& preset, const std::string& file,
                      v1::CreateJobRequest& request);

// Of a file of several YAML documents (`---`) a request for each, which is called FILE#N in messages; else the request
// alone. Documents that hold nothing are passed over.
std::vector<v1::CreateJobRequest> SplitDocuments(const v1::CreateJobRequest& request);

}  // namespace p2::ctl
