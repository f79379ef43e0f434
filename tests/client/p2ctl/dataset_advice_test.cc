#include "client/p2ctl/dataset_advice.h"

#include "gmock/gmock.h"

namespace p2::ctl {
namespace {

using ::testing::HasSubstr;

TEST(DatasetAdviceTest, NamesTheRowOfItsSizeWithItsRecipe) {
  const DatasetAdvice faces = AdviseOn(70'000, 256, 0);
  EXPECT_EQ(faces.row, "ffhq");
  EXPECT_EQ(faces.gamma, 0.5);
  EXPECT_EQ(faces.dropout, 0.0);
  EXPECT_EQ(faces.images, 18'000'000);
  EXPECT_EQ(AdviseOn(30'000, 256, 0).row, "celeba-hq");
  EXPECT_EQ(AdviseOn(11'788, 256, 0).row, "cub");
  EXPECT_EQ(AdviseOn(8'189, 256, 0).row, "flowers");
  EXPECT_EQ(AdviseOn(4'739, 256, 0).row, "afhq-dog");
  const DatasetAdvice art = AdviseOn(1'336, 256, 0);
  EXPECT_EQ(art.row, "metfaces");
  EXPECT_EQ(art.gamma, 1.0);
  EXPECT_EQ(art.dropout, 0.1);
  EXPECT_EQ(art.images, 1'600'000);
}

TEST(DatasetAdviceTest, GivesHoursFromAMeasuredRateOnly) {
  EXPECT_FALSE(AdviseOn(1'000, 256, 0).hours.has_value());
  EXPECT_NEAR(*AdviseOn(1'000, 256, 100).hours, 1.6e6 / 100 / 3600, 1e-9);
}

TEST(DatasetAdviceTest, GivesThePapersEmaWithItsHalfLife) {
  const DatasetAdvice advice = AdviseOn(1'000, 256, 0);
  EXPECT_EQ(advice.ema_rate, 0.9999);
  EXPECT_EQ(advice.ema_half_life_images, 55'449);
}

TEST(DatasetAdviceTest, SaysWhereThePaperHasNoSuchSet) {
  EXPECT_EQ(AdviseOn(1'000, 256, 0).notes.size(), 1u);
  EXPECT_THAT(AdviseOn(3'000'000, 256, 0).notes.back(), HasSubstr("No set of the paper"));
  EXPECT_EQ(AdviseOn(0, 64, 0).row, "metfaces");
  EXPECT_EQ(AdviseOn(500, 64, 0).preset, "own-64");
  EXPECT_THAT(AdviseOn(500, 64, 0).Command("mine"), HasSubstr("own-64 --dataset mine --set objective.gamma=1 "));
}

}  // namespace
}  // namespace p2::ctl
