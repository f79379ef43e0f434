#include "common/resource_name.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace p2 {
namespace {

using ::testing::HasSubstr;
using ::testing::Pair;

TEST(ResourceNameTest, TakesIdsOfJobsAndWorkers) {
  for (const char* id : {"a", "job-a1", "ffhq-gamma0-5-x2k4q"}) EXPECT_TRUE(IsResourceId(id)) << id;
  EXPECT_TRUE(IsResourceId(std::string(63, 'a')));
  EXPECT_FALSE(IsResourceId(std::string(64, 'a')));
  for (const char* id : {"", "A", "1a", "-a", "a-", "a.b", "a/b", "a_b", "ä", "a\n", ".."})
    EXPECT_FALSE(IsResourceId(id)) << id;
}

TEST(ResourceNameTest, TakesDottedIdsOfDatasetsAndFiles) {
  for (const char* id : {"mnist", "0a", "ffhq-gamma0.5", "a_b", "samples-000012800.png"})
    EXPECT_TRUE(IsDottedId(id)) << id;
  for (const char* id : {"", ".", "..", ".a", "-a", "a/b", "A", "a b"}) EXPECT_FALSE(IsDottedId(id)) << id;
}

TEST(ResourceNameTest, ReadsBackWhatItWrites) {
  EXPECT_EQ(*ParseResourceName(kJobs, ResourceName(kJobs, "job-a")), "job-a");
  EXPECT_THAT(*ParseChildName(kCheckpoints, ChildName("job-a", kCheckpoints, "000000012800-e3")),
              Pair("job-a", "000000012800-e3"));
}

TEST(ResourceNameTest, SaysWhichFormItWants) {
  EXPECT_THAT(ParseResourceName(kJobs, "job-a").status().message(), HasSubstr("jobs/{id}"));
  EXPECT_FALSE(ParseResourceName(kJobs, "jobs/a/b").ok());
  EXPECT_FALSE(ParseResourceName(kJobs, "workers/a").ok());
  EXPECT_FALSE(ParseChildName(kArtifacts, "jobs/a/artifacts/../x").ok());
  EXPECT_FALSE(ParseChildName(kArtifacts, "jobs/a/checkpoints/x").ok());
  EXPECT_THAT(ParseResourceName(kJobs, std::string("jobs/\0\n", 7)).status().message(), HasSubstr("\\x00"));
}

}  // namespace
}  // namespace p2
