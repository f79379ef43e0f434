#include "server/store/keys.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace p2::store {
namespace {

TEST(KeyTest, SortsAsItsFieldsDo) {
  EXPECT_LT(Key(kEvents).Number(255).bytes(), Key(kEvents).Number(256).bytes());
  EXPECT_LT(Key(kCheckpoints).Text("a").Text("z").bytes(), Key(kCheckpoints).Text("a-b").Text("a").bytes());
  EXPECT_LT(Key(kCheckpoints).Text("a").bytes(), Key(kCheckpoints).Text(std::string("a\0", 2)).bytes());
}

TEST(KeyTest, EndsAfterAllThatBeginWithIt) {
  const Key prefix = Key(kCheckpoints).Text("a");
  EXPECT_LT(Key(prefix).Text("\xff\xff").bytes(), prefix.End());
  EXPECT_GT(Key(kCheckpoints).Text("a-b").bytes(), prefix.End());
  EXPECT_LT(Key(kEvents).Number(~uint64_t{0}).bytes(), Key(kEvents).End());
  EXPECT_GT(Key(kEvents).Number(~uint64_t{0}).End(), Key(kEvents).Number(~uint64_t{0}).bytes());
}

TEST(KeyTest, GivesItsLastNumberBack) {
  EXPECT_EQ(LastNumber(Key(kEventsByResource).Text("jobs/a").Number(0x0102030405060708).bytes()), 0x0102030405060708u);
}

TEST(ValueTest, ComesBackUnderItsOwnKeyOnly) {
  const std::string value = EncodeValue("key", "payload");
  EXPECT_EQ(*DecodeValue("key", value), "payload");
  EXPECT_EQ(DecodeValue("yek", value).status().code(), absl::StatusCode::kDataLoss);
}

TEST(ValueTest, NoticesEveryFlippedByteAndEveryCut) {
  const std::string value = EncodeValue("key", "payload");
  for (size_t i = 0; i < value.size(); ++i) {
    std::string damaged = value;
    damaged[i] ^= 0x10;
    EXPECT_FALSE(DecodeValue("key", damaged).ok()) << i;
    EXPECT_FALSE(DecodeValue("key", value.substr(0, i)).ok()) << i;
  }
}

}  // namespace
}  // namespace p2::store
