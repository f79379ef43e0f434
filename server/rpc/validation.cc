#include "server/rpc/validation.h"

#include <algorithm>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/resource_name.h"
#include "common/rpc/labels.h"
#include "common/sha256.h"
#include "common/spec/proto_bytes.h"
#include "common/spec/task_name.h"
#include "common/spec/yaml_to_proto.h"
#include "server/rpc/derive_admission.h"
#include "server/rpc/task_admission.h"

namespace p2::rpc {
namespace {

constexpr size_t kMaxLabels = 32;
constexpr size_t kMaxTextBytes = 500;
constexpr int kMaxPriority = 1000;
// Leaves room for '-' and seven letters in a job's 63.
constexpr size_t kMaxPrefixBytes = 55;

std::string Quote(absl::string_view text) { return absl::StrCat("\"", absl::CHexEscape(text.substr(0, 100)), "\""); }

}  // namespace

absl::StatusOr<int> PageSize(int page_size, int fallback) {
  if (page_size == 0) return fallback;
  if (page_size >= 1 && page_size <= kMaxPageSize) return page_size;
  return BadRequestError(
      {{"page_size", absl::StrCat("is ", page_size, "; must be 1 to ", kMaxPageSize, ", or 0 for ", fallback)}});
}

void CheckRequestId(absl::string_view request_id, std::vector<FieldViolation>& violations) {
  const bool printable =
      std::all_of(request_id.begin(), request_id.end(), [](char c) { return absl::ascii_isgraph(c); });
  if (request_id.size() > 128 || !printable) {
    violations.emplace_back(
        "request_id",
        absl::StrCat("is ", Quote(request_id), "; must be at most 128 printable ASCII characters, such as a UUID"));
  }
}

void CheckLabels(const std::map<std::string, std::string>& labels, std::vector<FieldViolation>& violations) {
  if (labels.size() > kMaxLabels) {
    violations.emplace_back("labels", absl::StrCat("has ", labels.size(), " entries; at most ", kMaxLabels));
  }
  for (const auto& [key, value] : labels) {
    if (!IsLabelKey(key)) {
      violations.emplace_back("labels",
                              absl::StrCat("key ", Quote(key), " is not of the form [a-z0-9][a-z0-9._/-]{0,62}"));
    }
    if (!IsLabelText(value, true)) {
      violations.emplace_back(absl::StrCat("labels.", key),
                              absl::StrCat("value ", Quote(value), " is not of the form [A-Za-z0-9._/-]{0,63}"));
    }
  }
}

void CheckText(absl::string_view field, absl::string_view text, std::vector<FieldViolation>& violations) {
  const bool clean = std::none_of(text.begin(), text.end(), [](char c) { return absl::ascii_iscntrl(c); });
  if (text.size() > kMaxTextBytes || !clean) {
    violations.emplace_back(std::string(field), absl::StrCat("is ", Quote(text), "; must be at most ", kMaxTextBytes,
                                                             " bytes without control characters"));
  }
}

void CheckPriority(int priority, std::vector<FieldViolation>& violations) {
  if (priority >= -kMaxPriority && priority <= kMaxPriority) return;
  violations.emplace_back("priority", absl::StrCat("is ", priority, "; must be ", -kMaxPriority, " to ", kMaxPriority));
}

bool IsPathBelowRoot(absl::string_view path) {
  const std::vector<absl::string_view> parts = absl::StrSplit(path, '/');
  return path.size() <= 1000 && std::none_of(parts.begin(), parts.end(), [](absl::string_view part) {
           return part.empty() || part == "." || part == ".." || absl::StrContains(part, '\0');
         });
}

absl::Status ValidateCreateJob(const p2::v1::CreateJobRequest& request) {
  std::vector<FieldViolation> violations;
  CheckTask(request, violations);
  CheckDerived(request, violations);
  if (request.has_derive_from()) {
    // The spec comes from the job that is named.
  } else if (TakesSpecOfSource(request)) {
    if (!request.preset().empty() || !request.spec_yaml().empty()) {
      violations.emplace_back(request.preset().empty() ? "spec_yaml" : "preset",
                              absl::StrCat("is set, but a ", spec::TaskName(request.task()),
                                           " task takes the spec of the job that it reads from"));
    }
  } else if (request.preset().empty() && request.spec_yaml().empty() && !request.spec_file_name().empty()) {
    violations.emplace_back("spec_yaml", absl::StrCat("is empty: ", Quote(request.spec_file_name()),
                                                      " says nothing; write a spec into it, or name a preset "
                                                      "(`p2ctl preset list` shows them)"));
  } else if (request.preset().empty() == request.spec_yaml().empty()) {
    violations.emplace_back("preset",
                            request.preset().empty()
                                ? "is missing: name a preset (`p2ctl preset list` shows them) or give spec_yaml"
                                : "and spec_yaml are both set; give one (a file names its preset by `extends:`)");
  }
  if (request.spec_yaml().size() > spec::kMaxYamlBytes) {
    violations.emplace_back("spec_yaml",
                            absl::StrCat("has ", request.spec_yaml().size(), " bytes; at most ", spec::kMaxYamlBytes));
  }
  if (request.overrides_size() + request.flags_size() > 1000) {
    violations.emplace_back("overrides", "has more than 1000 entries with flags");
  }
  if (const std::string& prefix = request.name_prefix();
      !prefix.empty() && (!IsResourceId(prefix) || prefix.size() > kMaxPrefixBytes)) {
    violations.emplace_back(
        "name_prefix", absl::StrCat("is ", Quote(prefix), "; must be of the form [a-z]([a-z0-9-]{0,53}[a-z0-9])?"));
  }
  CheckLabels({request.labels().begin(), request.labels().end()}, violations);
  CheckRequestId(request.request_id(), violations);
  CheckText("owner", request.owner(), violations);
  CheckText("note", request.note(), violations);
  CheckPriority(request.priority(), violations);
  if (!request.project().empty() && !IsResourceId(request.project())) {
    violations.emplace_back("project", absl::StrCat("is ", Quote(request.project()),
                                                    "; must be of the form [a-z]([a-z0-9-]{0,61}[a-z0-9])?"));
  }
  if (!request.queue().empty()) {
    if (absl::Status name = ParseResourceName(kQueues, request.queue()).status(); !name.ok())
      violations.emplace_back("queue", std::string(name.message()));
  }
  CheckText("spec_file_name", request.spec_file_name(), violations);
  return BadRequestError(violations);
}

absl::Status ValidateDataset(const p2::v1::RegisterDatasetRequest& request) {
  std::vector<FieldViolation> violations;
  const p2::v1::Dataset& dataset = request.dataset();
  if (absl::Status name = ParseResourceName(kDatasets, dataset.name()).status(); !name.ok()) {
    violations.emplace_back("dataset.name", std::string(name.message()));
  }
  if (!IsDottedId(dataset.root())) {
    violations.emplace_back("dataset.root", absl::StrCat("is ", Quote(dataset.root()), "; must name a storage root"));
  }
  if (dataset.root_id().empty() || dataset.root_id().size() > 64) {
    violations.emplace_back("dataset.root_id", "must be the UUID in the root's .p2-root-id");
  }
  if (!IsPathBelowRoot(dataset.path())) {
    violations.emplace_back("dataset.path", absl::StrCat("is ", Quote(dataset.path()),
                                                         "; must be a directory below the root, without . and .."));
  }
  if (dataset.resolution() < 1 || dataset.resolution() > 1024) {
    violations.emplace_back("dataset.resolution", absl::StrCat("is ", dataset.resolution(), "; must be 1 to 1024"));
  }
  if (dataset.channels() != 1 && dataset.channels() != 3) {
    violations.emplace_back("dataset.channels",
                            absl::StrCat("is ", dataset.channels(), "; must be 1 (grey) or 3 (RGB)"));
  }
  if (dataset.image_count() < 0) violations.emplace_back("dataset.image_count", "is negative");
  if (dataset.size_bytes() < 0) violations.emplace_back("dataset.size_bytes", "is negative");
  if (dataset.bad_image_count() < 0) violations.emplace_back("dataset.bad_image_count", "is negative");
  if (dataset.fingerprint().size() != 64 ||
      !std::all_of(dataset.fingerprint().begin(), dataset.fingerprint().end(),
                   [](char c) { return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f'); })) {
    violations.emplace_back("dataset.fingerprint",
                            absl::StrCat("is ", Quote(dataset.fingerprint()), "; must be a SHA-256 in lower-case hex"));
  }
  CheckRequestId(request.request_id(), violations);
  return BadRequestError(violations);
}

absl::Status ValidateCommand(absl::string_view request_id, absl::string_view reason) {
  std::vector<FieldViolation> violations;
  CheckRequestId(request_id, violations);
  CheckText("reason", reason, violations);
  return BadRequestError(violations);
}

std::string PayloadSha256(const google::protobuf::Message& request) {
  const auto* field = request.GetDescriptor()->FindFieldByName("request_id");
  if (field != nullptr && request.GetReflection()->HasField(request, field)) {
    const std::unique_ptr<google::protobuf::Message> copy(request.New());
    copy->CopyFrom(request);
    copy->GetReflection()->ClearField(copy.get(), field);
    return PayloadSha256(*copy);
  }
  return Sha256Hex(absl::StrCat(request.GetDescriptor()->full_name(), "\n", spec::DeterministicBytes(request)));
}

}  // namespace p2::rpc
