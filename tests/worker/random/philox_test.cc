#include "worker/random/philox.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace p2::random {
namespace {

using ::testing::ElementsAre;

// The known-answer vectors that Random123 publishes for philox4x32-10.
TEST(PhiloxTest, GivesThePublishedAnswers) {
  EXPECT_THAT(Philox4x32({{0, 0, 0, 0}}, 0, 0).w, ElementsAre(0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u));
  constexpr std::uint32_t kOnes = 0xffffffffu;
  EXPECT_THAT(Philox4x32({{kOnes, kOnes, kOnes, kOnes}}, kOnes, kOnes).w,
              ElementsAre(0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu));
  EXPECT_THAT(Philox4x32({{0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}}, 0xa4093822u, 0x299f31d0u).w,
              ElementsAre(0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u));
}

TEST(PhiloxTest, CounterIsBlockThenSampleThenStreamUnderTheSeed) {
  // The vector of pi's digits, spelled as a draw.
  EXPECT_THAT(Draw(/*seed=*/0x299f31d0a4093822u, /*stream=*/0x03707344u, /*g=*/0x13198a2e85a308d3u,
                   /*block=*/0x243f6a88u)
                  .w,
              ElementsAre(0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u));
}

TEST(PhiloxTest, ScalesADrawToARange) {
  EXPECT_EQ(ScaleToRange(0u, 1000), 0u);
  EXPECT_EQ(ScaleToRange(0x80000000u, 1000), 500u);
  EXPECT_EQ(ScaleToRange(0xffffffffu, 1000), 999u);
}

TEST(PhiloxTest, LanesAreTheHalvesOfWordsLowFirst) {
  const Words words{{0x22221111u, 0x44443333u, 0x66665555u, 0x88887777u}};
  for (unsigned i = 0; i < 8; ++i) EXPECT_EQ(Lane16(words, i), 0x1111u * (i + 1));
}

}  // namespace
}  // namespace p2::random
