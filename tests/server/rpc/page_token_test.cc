#include "server/rpc/page_token.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace p2::rpc {
namespace {

TEST(PageTokenTest, BringsThePositionBack) {
  EXPECT_EQ(*DecodePageToken("jobs", EncodePageToken("jobs", "job-a")), "job-a");
  EXPECT_EQ(*DecodePageToken("jobs", EncodePageToken("jobs", std::string("\0\xff", 2))), std::string("\0\xff", 2));
  EXPECT_EQ(*DecodePageToken("jobs", ""), "");
  EXPECT_EQ(*DecodePageNumber("jobs", EncodePageToken("jobs", "-42"), 7), -42);
  EXPECT_EQ(*DecodePageNumber("jobs", "", 7), 7);
}

TEST(PageTokenTest, RefusesATokenOfAnotherList) {
  EXPECT_TRUE(
      absl::IsInvalidArgument(DecodePageToken("jobs?owner=bob", EncodePageToken("jobs?owner=ann", "x")).status()));
}

TEST(PageTokenTest, RefusesEveryChangedCharacterAndWhatIsNoToken) {
  const std::string token = EncodePageToken("jobs", "job-a");
  for (size_t i = 0; i < token.size(); ++i) {
    std::string forged = token;
    forged[i] = forged[i] == 'A' ? 'B' : 'A';
    const auto decoded = DecodePageToken("jobs", forged);
    EXPECT_TRUE(!decoded.ok() || *decoded == "job-a") << i;  // Spare bits of base64 may differ.
  }
  for (const char* text : {"x", "????", "MQ", "job-a"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(DecodePageToken("jobs", text).status())) << text;
  }
  EXPECT_FALSE(DecodePageToken("jobs", std::string(100'000, 'A')).ok());
}

}  // namespace
}  // namespace p2::rpc
