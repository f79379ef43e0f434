#include "common/rpc/grpc_status.h"

#include <string>
#include <vector>

#include "common/error_reason.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace p2 {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::SizeIs;

TEST(GrpcStatusTest, BringsCodeMessageAndDetailsBack) {
  for (int code = 1; code <= 16; ++code) {
    absl::Status status(static_cast<absl::StatusCode>(code), "what was wrong");
    google::rpc::ErrorInfo info;
    info.set_reason("DISK_FULL");
    info.set_domain("p2");
    AddDetail(status, info);
    const absl::Status back = FromGrpcStatus(ToGrpcStatus(status));
    EXPECT_EQ(back.code(), status.code());
    EXPECT_EQ(back.message(), "what was wrong");
    ASSERT_TRUE(GetDetail<google::rpc::ErrorInfo>(back).has_value());
    EXPECT_EQ(GetDetail<google::rpc::ErrorInfo>(back)->reason(), "DISK_FULL");
    EXPECT_FALSE(GetDetail<google::rpc::BadRequest>(back).has_value());
  }
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  EXPECT_TRUE(FromGrpcStatus(grpc::Status::OK).ok());
}

// The reason in the ErrorInfo that a client gets.
std::string ReasonSeen(const absl::Status& status) {
  const auto info = GetDetail<google::rpc::ErrorInfo>(FromGrpcStatus(ToGrpcStatus(status)));
  if (!info.has_value()) return "none";
  EXPECT_EQ(info->domain(), "p2");
  return info->reason();
}

TEST(GrpcStatusTest, EveryErrorHasAReason) {
  EXPECT_EQ(ReasonSeen(Error(ErrorReason::kJobStateForbids, "x")), "JOB_STATE_FORBIDS");
  EXPECT_EQ(ReasonSeen(ResourceNotFoundError("Dataset", "mnst", "")), "DATASET_NOT_FOUND");
  EXPECT_EQ(ReasonSeen(BadRequestError({{"a", "is 0"}})), "INVALID_REQUEST");
  for (int code = 1; code <= 16; ++code) {
    const absl::Status plain(static_cast<absl::StatusCode>(code), "x");
    EXPECT_EQ(ReasonSeen(plain), std::string(ReasonOf(plain)));
  }
  // The reason is the first detail: others may not fit.
  std::vector<FieldViolation> violations(1000, {"field", std::string(100, 'x')});
  EXPECT_EQ(ReasonSeen(BadRequestError(violations)), "INVALID_REQUEST");
  // What carries the reason inside p2d stays there.
  EXPECT_EQ(ToGrpcStatus(Error(ErrorReason::kDiskFull, "x")).error_details().find("p2/error-reason"),
            std::string::npos);
}

TEST(GrpcStatusTest, NamesEveryBadFieldAtOnce) {
  EXPECT_TRUE(BadRequestError({}).ok());
  const absl::Status status = FromGrpcStatus(ToGrpcStatus(BadRequestError({{"a.b", "is 0"}, {"c", "is missing"}})));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "a.b: is 0\nc: is missing");
  const auto detail = GetDetail<google::rpc::BadRequest>(status);
  ASSERT_TRUE(detail.has_value());
  ASSERT_THAT(detail->field_violations(), SizeIs(2));
  EXPECT_EQ(detail->field_violations(0).field(), "a.b");
  EXPECT_EQ(detail->field_violations(1).description(), "is missing");
}

TEST(GrpcStatusTest, NamesTheMissingResourceAndWhatToDo) {
  const absl::Status status = ResourceNotFoundError("Dataset", "mnst", "`p2ctl dataset list` shows them");
  EXPECT_THAT(status.message(), AllOf(HasSubstr("mnst"), HasSubstr("p2ctl dataset list")));
  EXPECT_EQ(GetDetail<google::rpc::ResourceInfo>(status)->resource_type(), "p2.v1.Dataset");
}

TEST(GrpcStatusTest, KeepsTrailersSmall) {
  std::string message;
  while (message.size() < 100'000) message += "ä";
  const grpc::Status status = ToGrpcStatus(absl::InvalidArgumentError(message));
  EXPECT_LE(status.error_message().size(), 4200u);
  EXPECT_THAT(status.error_message(), EndsWith("ä…"));
  std::vector<FieldViolation> violations(1000, {"field", std::string(100, 'x')});
  EXPECT_LE(ToGrpcStatus(BadRequestError(violations)).error_details().size(), 8000u);
}

TEST(GrpcStatusTest, AMessageThatIsTooLargeIsTheCallersToMend) {
  const absl::Status status = FromGrpcStatus(
      grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "Received message larger than max (5000000 vs. 4194304)"));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("5000000 vs. 4194304"), HasSubstr("send less at once")));
  EXPECT_EQ(GetDetail<google::rpc::ErrorInfo>(status)->reason(), "MESSAGE_TOO_BIG");
  EXPECT_EQ(FromGrpcStatus(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "disk full")).code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(GrpcStatusTest, AMessageThatIsNoneIsTheCallersToMend) {
  const absl::Status status = FromGrpcStatus(grpc::Status(grpc::StatusCode::INTERNAL, ""));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("UTF-8"));
  EXPECT_EQ(GetDetail<google::rpc::ErrorInfo>(status)->reason(), "INVALID_REQUEST");
  const absl::Status unknown = FromGrpcStatus(grpc::Status(grpc::StatusCode::UNIMPLEMENTED, ""));
  EXPECT_EQ(unknown.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(unknown.message(), AllOf(HasSubstr("same release"), HasSubstr("UTF-8")));
}

TEST(GrpcStatusTest, DropsDetailsThatAreNone) {
  const absl::Status status = FromGrpcStatus(grpc::Status(grpc::StatusCode::INTERNAL, "x", "\xff\xff not a message"));
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(status.message(), "x");
}

}  // namespace
}  // namespace p2
