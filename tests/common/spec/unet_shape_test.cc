#include "common/spec/unet_shape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "tests/common/spec/golden.h"

namespace p2::spec {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

template <typename T>
std::vector<T> NumberList(const std::string& text) {
  std::vector<T> numbers;
  for (const absl::string_view part : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    double number;
    EXPECT_TRUE(absl::SimpleAtod(part, &number)) << part;
    numbers.push_back(static_cast<T>(number));
  }
  return numbers;
}

UnetOptions OptionsOf(const nlohmann::json& args) {
  return {.image_size = args["image_size"],
          .in_channels = 3,
          .model_channels = args["num_channels"],
          .out_channels = args["learn_sigma"] ? 6 : 3,
          .channel_mult = NumberList<double>(args["channel_mult"]),
          .num_res_blocks = args["num_res_blocks"],
          .attention_resolutions = NumberList<int>(args["attention_resolutions"]),
          .num_heads = args["num_heads"],
          .num_head_channels = args["num_head_channels"],
          .resblock_updown = args["resblock_updown"],
          .use_scale_shift_norm = args["use_scale_shift_norm"],
          .dropout = args["dropout"]};
}

TEST(UnetShapeTest, HasTheNamesShapesAndOrderOfThePublishedStateDict) {
  const nlohmann::json file = GoldenJson("models.json");
  ASSERT_FALSE(file.at("configs").empty());
  for (const auto& golden : file.at("configs")) {
    SCOPED_TRACE(golden["name"].get<std::string>());
    const auto parameters = WalkUnet(OptionsOf(golden["args"]));
    ASSERT_EQ(parameters.ok(), !golden.value("is_error", false)) << parameters.status();
    if (!parameters.ok()) continue;
    std::vector<ParameterShape> want;
    for (const auto& entry : golden["state_dict"]) want.push_back({entry[0], entry[1].get<std::vector<int64_t>>()});
    EXPECT_EQ(parameters->size(), golden["num_keys"].get<size_t>());
    EXPECT_TRUE(*parameters == want);
    EXPECT_EQ(CountParameters(*parameters), golden["num_parameters"].get<int64_t>());
  }
}

TEST(UnetShapeTest, CountsTheParametersOfEveryPublishedVariantAt256Pixels) {
  const nlohmann::json file = GoldenJson("models.json");
  ASSERT_FALSE(file.at("parameter_counts_256px").empty());
  for (const auto& golden : file.at("parameter_counts_256px")) {
    UnetOptions options;
    options.attention_resolutions = NumberList<int>(golden["attention_resolutions"]);
    options.num_res_blocks = golden["num_res_blocks"];
    options.resblock_updown = golden["resblock_updown"];
    const auto parameters = WalkUnet(options);
    ASSERT_TRUE(parameters.ok()) << parameters.status();
    EXPECT_EQ(CountParameters(*parameters), golden["num_parameters"].get<int64_t>()) << golden;
  }
}

TEST(UnetShapeTest, FollowsTheNumberOfImageChannels) {
  const UnetOptions grey{.image_size = 16,
                         .in_channels = 1,
                         .model_channels = 32,
                         .out_channels = 2,
                         .channel_mult = {1, 2},
                         .attention_resolutions = {},
                         .num_head_channels = 16};
  const auto parameters = WalkUnet(grey);
  ASSERT_TRUE(parameters.ok()) << parameters.status();
  EXPECT_THAT((*parameters)[4], Field(&ParameterShape::shape, ElementsAre(32, 1, 3, 3)));
  EXPECT_THAT(parameters->back(), Field(&ParameterShape::shape, ElementsAre(2)));
}

TEST(UnetShapeTest, TakesTheFractionOfTheTableFor512Pixels) {
  const auto parameters = WalkUnet({.image_size = 512});
  ASSERT_TRUE(parameters.ok()) << parameters.status();
  EXPECT_THAT((*parameters)[4].shape, ElementsAre(64, 3, 3, 3));
}

TEST(UnetShapeTest, NamesEveryBadOptionAtOnce) {
  const auto problems = CheckUnet(
      {.image_size = 100, .model_channels = 48, .channel_mult = {1, 2, 0}, .num_res_blocks = 9, .dropout = 1});
  EXPECT_THAT(problems, ::testing::Contains(Field(&UnetProblem::field, "model_channels")));
  EXPECT_THAT(problems, ::testing::Contains(Field(&UnetProblem::field, "num_res_blocks")));
  EXPECT_THAT(problems, ::testing::Contains(Field(&UnetProblem::field, "dropout")));
  EXPECT_THAT(problems, ::testing::Contains(Field(&UnetProblem::description, HasSubstr("holds 0"))));
}

TEST(UnetShapeTest, RefusesSizesThatTheLevelsCannotHalve) {
  const auto status = WalkUnet({.image_size = 36, .channel_mult = {1, 1, 1, 1}}).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("4 levels need a multiple of 8"));
}

TEST(UnetShapeTest, RefusesHeadsThatDoNotDivideTheChannels) {
  const auto by_channels = WalkUnet({.image_size = 64, .model_channels = 64, .num_head_channels = 48}).status();
  EXPECT_THAT(std::string(by_channels.message()), HasSubstr("does not divide the"));
  const auto by_heads =
      WalkUnet({.image_size = 64, .model_channels = 64, .num_heads = 5, .num_head_channels = 0}).status();
  EXPECT_THAT(std::string(by_heads.message()), HasSubstr("num_heads: is 5"));
}

TEST(UnetShapeTest, EstimatesMemoryByItsParts) {
  const auto memory = EstimateTrainingMemory(UnetOptions{}, 2);
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ(memory->parameters, 4 * 93'563'910);
  EXPECT_EQ(memory->gradients, memory->parameters);
  EXPECT_EQ(memory->optimizer, 2 * memory->parameters);
  EXPECT_EQ(memory->emas, 2 * memory->parameters);
  // Eight images at 256 px are known to fit a 32 GB device, and one takes more than a gigabyte.
  EXPECT_GT(memory->activations_per_sample, 1'000'000'000);
  EXPECT_LT(memory->Total(8), 32'000'000'000);
}

}  // namespace
}  // namespace p2::spec
