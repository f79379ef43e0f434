#include "common/spec/violation.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/error_reason.h"
#include "google/rpc/error_details.pb.h"

namespace p2::spec {

std::string FieldViolation::ToString() const {
  return absl::StrCat(origin, origin.empty() ? "" : ": ", field, field.empty() ? "" : ": ", description);
}

absl::Status SpecError(const std::vector<FieldViolation>& violations) {
  if (violations.empty()) return absl::OkStatus();
  google::rpc::BadRequest details;
  for (const FieldViolation& violation : violations) {
    google::rpc::BadRequest::FieldViolation* detail = details.add_field_violations();
    detail->set_field(violation.field);
    detail->set_description(violation.origin.empty()
                                ? violation.description
                                : absl::StrCat(violation.description, " (", violation.origin, ")"));
  }
  absl::Status status = absl::InvalidArgumentError(absl::StrJoin(
      violations, "\n", [](std::string* out, const FieldViolation& v) { absl::StrAppend(out, v.ToString()); }));
  SetReason(status, ErrorReason::kInvalidSpec);
  status.SetPayload(kBadRequestTypeUrl, absl::Cord(details.SerializeAsString()));
  return status;
}

}  // namespace p2::spec
