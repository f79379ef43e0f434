#include "client/p2ctl/errors.h"

#include <google/protobuf/any.pb.h>
#include <google/protobuf/util/json_util.h>

#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/rpc/grpc_status.h"

namespace p2::ctl {
namespace {

using Json = nlohmann::ordered_json;

// The detail as proto JSON; null for a type that is not linked in.
Json DetailJson(absl::string_view type_url, const absl::Cord& payload) {
  google::protobuf::Any any;
  any.set_type_url(std::string(type_url));
  any.set_value(std::string(payload));
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(any, &text).ok()) return nullptr;
  return Json::parse(text, nullptr, /*allow_exceptions=*/false);
}

// Never empty: without a message the code's name says the least.
std::string MessageOf(const absl::Status& error) {
  const absl::string_view message = absl::StripAsciiWhitespace(error.message());
  return message.empty() ? absl::StatusCodeToString(error.code()) : std::string(message);
}

}  // namespace

ExitCode ExitCodeOf(const absl::Status& error) {
  switch (error.code()) {
    case absl::StatusCode::kOk:
      return kOk;
    case absl::StatusCode::kInvalidArgument:
      return kUsage;
    case absl::StatusCode::kNotFound:
      return kNotFound;
    case absl::StatusCode::kUnauthenticated:
      return kNotAuthenticated;
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kResourceExhausted:
      return kDenied;
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAborted:
      return kConflict;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return kUnavailable;
    case absl::StatusCode::kDataLoss:
      return kVerificationFailed;
    case absl::StatusCode::kCancelled:
      return kInterrupted;
    default:
      return kError;
  }
}

absl::Status WithReason(absl::Status error, absl::string_view reason) {
  if (GetDetail<google::rpc::ErrorInfo>(error).has_value()) return error;
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(reason));
  info.set_domain("p2ctl");
  AddDetail(error, info);
  return error;
}

absl::Status UsageError(absl::string_view message) { return WithReason(absl::InvalidArgumentError(message), "USAGE"); }

std::string ErrorText(const absl::Status& error) {
  const std::string message = MessageOf(error);
  // A message of several lines (all bad fields of a spec) keeps its lines, indented below the first.
  const bool many = message.find('\n') != std::string::npos;
  return absl::StrCat("error:", many ? "\n  " : " ", absl::StrReplaceAll(message, {{"\n", "\n  "}}));
}

std::string ErrorJson(const absl::Status& error) {
  Json details = Json::array();
  error.ForEachPayload([&details](absl::string_view type_url, const absl::Cord& payload) {
    if (Json detail = DetailJson(type_url, payload); !detail.is_null()) details.push_back(std::move(detail));
  });
  const std::string code = absl::StatusCodeToString(error.code());
  const std::optional<google::rpc::ErrorInfo> info = GetDetail<google::rpc::ErrorInfo>(error);
  Json json;
  json["code"] = code;
  json["reason"] = info.has_value() ? info->reason() : code;
  json["message"] = MessageOf(error);
  json["details"] = std::move(details);
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace p2::ctl
