#include "common/rpc/grpc_status.h"

#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "common/error_reason.h"
#include "google/protobuf/any.pb.h"
#include "google/rpc/status.pb.h"

namespace p2 {
namespace {

constexpr size_t kMaxMessageBytes = 4096;
// gRPC peers accept 8 KiB of trailers by default; the details share them with the message.
constexpr size_t kMaxDetailsBytes = 6144;
// gRPC's own words, and a code that would read as "p2d is out of something; try later".
constexpr absl::string_view kTooLarge = "eceived message larger than max";
constexpr absl::string_view kTypePrefix = "type.googleapis.com/";

// Valid UTF-8 of at most kMaxMessageBytes: bytes that are not ASCII are kept only when the whole is valid.
std::string CleanMessage(absl::string_view message) {
  std::string text(message.substr(0, kMaxMessageBytes));
  if (text.size() < message.size()) {
    while (!text.empty() && (static_cast<unsigned char>(text.back()) & 0xC0) == 0x80) text.pop_back();
    if (!text.empty() && static_cast<unsigned char>(text.back()) >= 0xC0) text.pop_back();
    absl::StrAppend(&text, "…");
  }
  return text;
}

// `Job` -> JOB_NOT_FOUND.
ErrorReason NotFoundReason(absl::string_view type) {
  const std::string name = absl::StrCat(absl::AsciiStrToUpper(type), "_NOT_FOUND");
  for (const ErrorReasonRow& row : ErrorReasons()) {
    if (row.name == name) return row.reason;
  }
  return ErrorReason::kNotFound;
}

google::rpc::ErrorInfo ErrorInfoOf(const absl::Status& status) {
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(ReasonOf(status)));
  info.set_domain(std::string(kErrorDomain));
  return info;
}

}  // namespace

std::string DetailTypeUrl(const google::protobuf::Message& detail) {
  return absl::StrCat(kTypePrefix, detail.GetDescriptor()->full_name());
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const auto code = static_cast<grpc::StatusCode>(status.code());
  const std::string message = CleanMessage(status.message());
  google::rpc::Status rich;
  rich.set_code(static_cast<int>(code));
  rich.set_message(message.substr(0, message.size() > 1024 ? 0 : message.size()));
  if (!GetDetail<google::rpc::ErrorInfo>(status).has_value()) rich.add_details()->PackFrom(ErrorInfoOf(status));
  status.ForEachPayload([&rich](absl::string_view type_url, const absl::Cord& payload) {
    if (type_url == kErrorReasonPayload || rich.ByteSizeLong() + payload.size() > kMaxDetailsBytes) return;
    google::protobuf::Any* any = rich.add_details();
    any->set_type_url(std::string(type_url));
    any->set_value(std::string(payload));
  });
  return grpc::Status(code, message, rich.SerializeAsString());
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  if (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED &&
      absl::StrContains(status.error_message(), kTooLarge)) {
    result = Error(ErrorReason::kMessageTooBig,
                   absl::StrCat("a message is larger than p2 takes (", status.error_message(),
                                "): send less at once, such as a shorter spec file, or ask for a smaller page"));
    AddDetail(result, ErrorInfoOf(result));
    return result;
  }
  // gRPC says nothing more of bytes that are no message: INTERNAL for a stream, for other methods the same as for one
  // that it does not know. p2's own errors have words and details.
  if (status.error_message().empty() && status.error_details().empty()) {
    if (status.error_code() == grpc::StatusCode::INTERNAL) {
      result = Error(ErrorReason::kInvalidRequest, "the message cannot be read; is all of its text UTF-8?");
      AddDetail(result, ErrorInfoOf(result));
    } else if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
      result = absl::UnimplementedError(
          "the method is unknown, or the message cannot be read; are both sides of the same release, and is all text "
          "UTF-8?");
    }
    return result;
  }
  google::rpc::Status rich;
  if (!status.error_details().empty() && rich.ParseFromString(status.error_details())) {
    for (const google::protobuf::Any& any : rich.details()) result.SetPayload(any.type_url(), absl::Cord(any.value()));
  }
  return result;
}

void AddDetail(absl::Status& status, const google::protobuf::Message& detail) {
  status.SetPayload(DetailTypeUrl(detail), absl::Cord(detail.SerializeAsString()));
}

absl::Status WithPrefix(absl::string_view prefix, const absl::Status& status) {
  absl::Status prefixed(status.code(), absl::StrCat(prefix, status.message()));
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) { prefixed.SetPayload(url, payload); });
  return prefixed;
}

absl::Status BadRequestError(const std::vector<FieldViolation>& violations) {
  if (violations.empty()) return absl::OkStatus();
  google::rpc::BadRequest detail;
  for (const auto& [field, description] : violations) {
    auto* violation = detail.add_field_violations();
    violation->set_field(field);
    violation->set_description(description);
  }
  absl::Status status =
      absl::InvalidArgumentError(absl::StrJoin(violations, "\n", [](std::string* out, const FieldViolation& violation) {
        absl::StrAppend(out, violation.first, violation.first.empty() ? "" : ": ", violation.second);
      }));
  AddDetail(status, detail);
  return status;
}

absl::Status ResourceNotFoundError(absl::string_view type, absl::string_view name, absl::string_view hint) {
  absl::Status status = Error(NotFoundReason(type), absl::StrCat(type, " \"", absl::CHexEscape(name.substr(0, 200)),
                                                                 "\" not found", hint.empty() ? "" : "; ", hint));
  google::rpc::ResourceInfo detail;
  detail.set_resource_type(absl::StrCat("p2.v1.", type));
  detail.set_resource_name(std::string(name.substr(0, 200)));
  AddDetail(status, detail);
  return status;
}

}  // namespace p2
