#include "worker/random/streams.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace p2::random {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(StreamsTest, IdIsFnv1a) {
  EXPECT_EQ(StreamId(""), 0x811c9dc5u);
  EXPECT_EQ(StreamId("a"), 0xe40c292cu);
  EXPECT_EQ(StreamId("foobar"), 0xbf9cf968u);
  EXPECT_EQ(StreamId("\xc3\xa4"), (((0x811c9dc5u ^ 0xc3u) * 0x01000193u) ^ 0xa4u) * 0x01000193u);
}

TEST(StreamsTest, NamesCarryTheModuleOrParameter) {
  EXPECT_EQ(DropoutStreamName("middle_block.0.out_layers.2"), "dropout/middle_block.0.out_layers.2");
  EXPECT_EQ(InitStreamName("out.2.bias"), "init/out.2.bias");
}

TEST(StreamRegistryTest, TakesDistinctNamesAndRepeatedOnes) {
  StreamRegistry registry;
  EXPECT_TRUE(registry.Add("init/out.2.bias").ok());
  EXPECT_TRUE(registry.Add("init/out.2.bias").ok());
  EXPECT_TRUE(registry.Add("noise").ok());
}

TEST(StreamRegistryTest, RefusesTwoNamesWithOneIdAndNamesBoth) {
  ASSERT_EQ(StreamId("costarring"), StreamId("liquid"));  // A known collision of FNV-1a.
  StreamRegistry registry;
  ASSERT_TRUE(registry.Add("costarring").ok());
  const absl::Status status = registry.Add("liquid");
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("costarring"), HasSubstr("liquid")));
}

}  // namespace
}  // namespace p2::random
