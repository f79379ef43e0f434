// configs/presets/ against the values of the paper (Table A, Table 3, Fig. 4), written out here once more.
#include "common/spec/presets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "absl/strings/match.h"
#include "common/spec/estimate.h"
#include "common/spec/resolve.h"

namespace p2::spec {
namespace {

using p2::v1::DiffusionSpec;
using p2::v1::TrainingSpec;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct PaperRow {
  const char* preset;
  const char* dataset;
  double gamma;
  double dropout;
  int64_t images;
  int64_t parameters = 93'563'910;
  double learning_rate = 2e-5;
  DiffusionSpec::NoiseSchedule schedule = DiffusionSpec::LINEAR;
  int num_res_blocks = 1;
  bool resblock_updown = true;
  bool attention_at_16 = true;
};

constexpr DiffusionSpec::NoiseSchedule kCosine = DiffusionSpec::COSINE;
constexpr DiffusionSpec::NoiseSchedule kLinear = DiffusionSpec::LINEAR;

const PaperRow kPaper[] = {
    {"ffhq-gamma0.5", "ffhq", 0.5, 0.0, 18'000'000},
    {"ffhq-gamma1", "ffhq", 1, 0.0, 18'000'000},
    {"ffhq-baseline", "ffhq", 0, 0.0, 18'000'000},
    {"ffhq-cosine-gamma1", "ffhq", 1, 0.0, 18'000'000, 93'563'910, 2e-5, kCosine},
    {"ffhq-cosine-baseline", "ffhq", 0, 0.0, 18'000'000, 93'563'910, 2e-5, kCosine},
    {"celeba-hq-gamma0.5", "celeba-hq", 0.5, 0.0, 4'400'000},
    {"celeba-hq-gamma1", "celeba-hq", 1, 0.0, 4'400'000},
    {"celeba-hq-baseline", "celeba-hq", 0, 0.0, 4'400'000},
    {"afhq-dog-gamma1", "afhq-dog", 1, 0.1, 2'400'000},
    {"afhq-dog-baseline", "afhq-dog", 0, 0.1, 2'400'000},
    {"cub-gamma1", "cub", 1, 0.1, 4'800'000},
    {"cub-baseline", "cub", 0, 0.1, 4'800'000},
    {"flowers-gamma1", "flowers", 1, 0.1, 4'400'000},
    {"flowers-baseline", "flowers", 0, 0.1, 4'400'000},
    {"metfaces-gamma1", "metfaces", 1, 0.1, 1'600'000},
    {"metfaces-baseline", "metfaces", 0, 0.1, 1'600'000},
    {"table3-a-gamma1", "", 1, 0.1, 800'000},
    {"table3-a-baseline", "", 0, 0.1, 800'000},
    {"table3-b-gamma1", "", 1, 0.1, 800'000, 80'649'094, 2e-5, kLinear, 1, false},
    {"table3-b-baseline", "", 0, 0.1, 800'000, 80'649'094, 2e-5, kLinear, 1, false},
    {"table3-c-gamma1", "", 1, 0.1, 800'000, 90'408'966, 2e-5, kLinear, 1, true, false},
    {"table3-c-baseline", "", 0, 0.1, 800'000, 90'408'966, 2e-5, kLinear, 1, true, false},
    {"table3-d-gamma1", "", 1, 0.1, 800'000, 131'713'286, 2e-5, kLinear, 2},
    {"table3-d-baseline", "", 0, 0.1, 800'000, 131'713'286, 2e-5, kLinear, 2},
    {"table3-e-gamma1", "", 1, 0.1, 800'000, 93'563'910, 2.5e-5},
    {"table3-e-baseline", "", 0, 0.1, 800'000, 93'563'910, 2.5e-5},
};

TEST(PresetsPaperTest, EveryRecipeHasThePapersValues) {
  for (const PaperRow& row : kPaper) {
    SCOPED_TRACE(row.preset);
    const auto resolved = Resolve({.preset = row.preset, .require_dataset = *row.dataset != '\0'});
    ASSERT_TRUE(resolved.ok()) << resolved.status();
    const TrainingSpec& spec = resolved->spec;
    EXPECT_EQ(spec.data().dataset(), row.dataset);
    EXPECT_TRUE(spec.data().random_flip());

    EXPECT_EQ(spec.model().image_size(), 256);
    EXPECT_EQ(spec.model().in_channels(), 3);
    EXPECT_EQ(spec.model().model_channels(), 128);
    EXPECT_THAT(spec.model().channel_mult(), ElementsAre(1, 1, 2, 2, 4, 4));
    EXPECT_EQ(spec.model().num_res_blocks(), row.num_res_blocks);
    EXPECT_EQ(spec.model().resblock_updown(), row.resblock_updown);
    EXPECT_EQ(spec.model().num_head_channels(), 64);
    EXPECT_TRUE(spec.model().use_scale_shift_norm());
    EXPECT_EQ(spec.model().dropout(), row.dropout);
    if (row.attention_at_16) {
      EXPECT_THAT(spec.model().attention_resolutions(), ElementsAre(16));
    } else {
      EXPECT_THAT(spec.model().attention_resolutions(), IsEmpty());
    }
    EXPECT_EQ(EstimateResources(spec)->parameters(), row.parameters);

    EXPECT_EQ(spec.diffusion().timesteps(), 1000);
    EXPECT_EQ(spec.diffusion().noise_schedule(), row.schedule);
    EXPECT_TRUE(spec.diffusion().learn_sigma());
    EXPECT_TRUE(spec.diffusion().rescale_learned_sigmas());
    EXPECT_EQ(spec.objective().weight(), "p2");
    EXPECT_EQ(spec.objective().gamma(), row.gamma);
    EXPECT_EQ(spec.objective().k(), 1);

    EXPECT_EQ(spec.training().images(), row.images);
    EXPECT_EQ(spec.training().batch(), 8);
    EXPECT_EQ(spec.training().learning_rate(), row.learning_rate);
    EXPECT_EQ(spec.training().beta1(), 0.9);
    EXPECT_EQ(spec.training().beta2(), 0.999);
    EXPECT_EQ(spec.training().epsilon(), 1e-8);
    EXPECT_EQ(spec.training().weight_decay(), 0);
    ASSERT_EQ(spec.ema_size(), 1);
    EXPECT_EQ(spec.ema(0).name(), "0.9999");
    EXPECT_EQ(spec.ema(0).rate(), 0.9999);
    EXPECT_FALSE(spec.ema(0).warmup());
    EXPECT_THAT(resolved->warnings, IsEmpty());
  }
}

TEST(PresetsPaperTest, NoRecipeIsMissingFromTheTable) {
  std::set<std::string> table;
  for (const PaperRow& row : kPaper) table.insert(row.preset);
  for (const Preset* preset : PresetCatalog::BuiltIn().List()) {
    const bool own = absl::StartsWith(preset->name, "own-") || preset->name == "mnist-demo";
    EXPECT_EQ(table.contains(preset->name), !own) << preset->name;
  }
}

TEST(PresetsTest, OwnImagesNeedADatasetAndNothingElse) {
  for (const auto& [preset, size] : {std::pair("own-64", 64), {"own-128", 128}, {"own-256", 256}}) {
    const auto missing = Resolve({.preset = preset});
    EXPECT_THAT(std::string(missing.status().message()),
                HasSubstr("data.dataset: is missing; name a registered dataset (--dataset NAME)"));
    const auto resolved = Resolve({.preset = preset, .overrides = {{"data.dataset", "mine", "--dataset"}}});
    ASSERT_TRUE(resolved.ok()) << resolved.status();
    EXPECT_EQ(resolved->spec.model().image_size(), size);
    EXPECT_EQ(resolved->origins.at("data.dataset"), "--dataset");
  }
}

TEST(PresetsTest, TheDemoIsASmallGreyModelOnTwoRanks) {
  const auto demo = Resolve({.preset = "mnist-demo"});
  ASSERT_TRUE(demo.ok()) << demo.status();
  EXPECT_EQ(demo->spec.model().in_channels(), 1);
  EXPECT_EQ(demo->spec.resources().devices(), 2);
  EXPECT_TRUE(demo->spec.diffusion().learn_sigma());
  const auto estimate = EstimateResources(demo->spec);
  EXPECT_GT(estimate->parameters(), 500'000);
  EXPECT_LT(estimate->parameters(), 2'000'000);
}

TEST(PresetsTest, EachSaysInOneLineWhatItIs) {
  for (const Preset* preset : PresetCatalog::BuiltIn().List()) {
    EXPECT_THAT(preset->description, ::testing::Not(IsEmpty())) << preset->name;
    EXPECT_EQ(Resolve({.preset = preset->name, .require_dataset = false})->spec.description(), preset->description);
  }
}

TEST(PresetCatalogTest, FindsTheNearestName) {
  const auto missing = PresetCatalog::BuiltIn().Find("ffhq-gama0.5");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(
      std::string(missing.status().message()),
      HasSubstr("preset \"ffhq-gama0.5\" not found; did you mean \"ffhq-gamma0.5\"? (`p2ctl preset list` shows all)"));
  EXPECT_THAT(std::string(PresetCatalog::BuiltIn().Find("nothing-like-it-at-all").status().message()),
              HasSubstr("not found (`p2ctl preset list` shows all)"));
}

TEST(PresetCatalogTest, GivesTheChainFromBaseDown) {
  const auto chain = PresetCatalog::BuiltIn().Chain("ffhq-cosine-gamma1");
  ASSERT_TRUE(chain.ok()) << chain.status();
  std::vector<std::string> names;
  for (const Preset* preset : *chain) names.push_back(preset->name);
  EXPECT_THAT(names, ElementsAre("base", "ffhq-gamma0.5", "ffhq-gamma1", "ffhq-cosine-gamma1"));
}

TEST(PresetCatalogTest, RefusesCyclesAndMissingParents) {
  const auto message = [](const std::map<std::string, std::string>& files) {
    const auto catalog = PresetCatalog::FromFiles(files);
    EXPECT_EQ(catalog.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(catalog.status().message());
  };
  EXPECT_THAT(message({{"base", "{}"}, {"a", "extends: b"}, {"b", "extends: a"}}),
              HasSubstr("extends itself: a -> b -> a"));
  EXPECT_THAT(message({{"base", "extends: base"}}), HasSubstr("extends itself: base -> base"));
  EXPECT_THAT(message({{"base", "{}"}, {"a", "extends: bse"}}),
              HasSubstr("preset \"a\" extends a missing one: preset \"bse\" not found; did you mean \"base\"?"));
  EXPECT_THAT(message({{"a", "{}"}}), HasSubstr("\"base\", which holds every default, is missing"));
  EXPECT_THAT(message({{"base", "[1]"}}), HasSubstr("is no YAML map"));
}

}  // namespace
}  // namespace p2::spec
