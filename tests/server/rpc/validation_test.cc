#include "server/rpc/validation.h"

#include <map>
#include <string>
#include <vector>

#include "common/rpc/labels.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/rpc/rpc_server.h"

namespace p2::rpc {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;

TEST(ValidationTest, TakesPageSizesOfOneToAThousand) {
  EXPECT_EQ(*PageSize(0, 50), 50);
  EXPECT_EQ(*PageSize(1000, 50), 1000);
  EXPECT_THAT(PageSize(-1, 50).status().message(), HasSubstr("-1"));
  EXPECT_FALSE(PageSize(1001, 50).ok());
}

TEST(ValidationTest, RefusesRequestsThatCannotBeWithEveryFieldAtOnce) {
  p2::v1::CreateJobRequest request;
  (*request.mutable_labels())["Bad Key"] = "x";
  request.set_name_prefix("a.b");
  request.set_request_id("has space");
  request.set_owner("line\nbreak");
  const absl::Status status = ValidateCreateJob(request);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("preset"), HasSubstr("Bad Key"), HasSubstr("name_prefix"),
                                      HasSubstr("request_id"), HasSubstr("owner")));
  EXPECT_THAT(GetDetail<google::rpc::BadRequest>(status)->field_violations(), SizeIs(5));
}

TEST(ValidationTest, RefusesPresetAndFileTogether) {
  p2::v1::CreateJobRequest request;
  request.set_preset("mnist-demo");
  EXPECT_TRUE(ValidateCreateJob(request).ok());
  request.set_spec_yaml("name: x");
  EXPECT_THAT(ValidateCreateJob(request).message(), HasSubstr("both"));
}

TEST(ValidationTest, SaysThatAFileIsEmpty) {
  p2::v1::CreateJobRequest request;
  EXPECT_THAT(ValidateCreateJob(request).message(), HasSubstr("preset: is missing"));
  request.set_spec_file_name("mine.yaml");
  EXPECT_THAT(ValidateCreateJob(request).message(), HasSubstr("spec_yaml: is empty: \"mine.yaml\" says nothing"));
}

TEST(ValidationTest, RefusesADatasetPathThatLeavesItsRoot) {
  p2::v1::RegisterDatasetRequest request;
  p2::v1::Dataset& dataset = *request.mutable_dataset();
  dataset.set_name("datasets/mnist");
  dataset.set_root("data");
  dataset.set_root_id("uuid");
  dataset.set_path("a/b");
  dataset.set_resolution(28);
  dataset.set_channels(1);
  dataset.set_fingerprint(std::string(64, 'a'));
  EXPECT_TRUE(ValidateDataset(request).ok()) << ValidateDataset(request);
  for (const char* path : {"", "/etc", "../x", "a/../b", "a//b", "./a", "a/"}) {
    dataset.set_path(path);
    EXPECT_THAT(ValidateDataset(request).message(), HasSubstr("dataset.path")) << path;
  }
}

TEST(ValidationTest, HashesAPayloadWithoutItsRequestId) {
  p2::v1::StopJobRequest a, b;
  a.set_name("jobs/a");
  a.set_request_id("1");
  b.set_name("jobs/a");
  b.set_request_id("2");
  EXPECT_EQ(PayloadSha256(a), PayloadSha256(b));
  b.clear_request_id();
  EXPECT_EQ(PayloadSha256(a), PayloadSha256(b));
  // On disk for seven days, for an older or a newer p2d to compare with.
  EXPECT_EQ(PayloadSha256(a), "4ebe5951e3154e75b52e594119140d6f14ede6b26975a87426a0b0a4a49d4ee3");
  b.set_reason("why");
  EXPECT_NE(PayloadSha256(a), PayloadSha256(b));
  p2::v1::KillJobRequest kill;
  kill.set_name("jobs/a");
  EXPECT_NE(PayloadSha256(a), PayloadSha256(kill));
}

TEST(LabelSelectorTest, MatchesAllOfItsTerms) {
  const std::map<std::string, std::string> labels = {{"team", "vision"}, {"note", ""}};
  for (const char* text :
       {"", "team", "team=vision", "team!=audio", "other!=x", "note,team=vision", "note=", " team = vision , note "}) {
    const auto selector = LabelSelector::Parse(text);
    ASSERT_TRUE(selector.ok()) << text;
    EXPECT_TRUE(selector->Matches(labels)) << text;
  }
  for (const char* text : {"other", "team=audio", "team!=vision", "team=vision,other"}) {
    EXPECT_FALSE(LabelSelector::Parse(text)->Matches(labels)) << text;
  }
  for (const char* text : {"=x", "a b", "Team", "team=a b", "team=x=y"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(LabelSelector::Parse(text).status())) << text;
  }
}

TEST(IsLoopbackTest, KnowsLoopbackFromTheRest) {
  for (const char* address : {"127.0.0.1:7250", "127.9.9.9:0", "[::1]:7250", "localhost:1"})
    EXPECT_TRUE(IsLoopback(address)) << address;
  for (const char* address :
       {"0.0.0.0:7250", "[::]:7250", "10.0.0.1:7250", "example.com:1", "127.0.0.1", ":7250", ""}) {
    EXPECT_FALSE(IsLoopback(address)) << address;
  }
}

}  // namespace
}  // namespace p2::rpc
