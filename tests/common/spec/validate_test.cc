#include "common/spec/validate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/spec/resolve.h"

namespace p2::spec {
namespace {

using p2::v1::TrainingSpec;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ValidateSpecTest : public ::testing::Test {
 protected:
  // The fields that are wrong after `path = value` on a good spec, "field: description" a line.
  static std::string Violations(const std::string& path, const std::string& value) {
    TrainingSpec spec = Good();
    Origins origins;
    std::vector<FieldViolation> violations;
    MergeAssignment(path, value, "", nullptr, spec, origins, violations);
    EXPECT_THAT(violations, IsEmpty()) << violations[0].ToString();
    return absl::StrJoin(ValidateSpec(spec), "\n",
                         [](std::string* out, const FieldViolation& v) { absl::StrAppend(out, v.ToString()); });
  }

  static TrainingSpec Good() { return Resolve({.preset = "ffhq-gamma1"})->spec; }
};

TEST_F(ValidateSpecTest, FindsNothingWrongWithAResolvedPreset) { EXPECT_THAT(ValidateSpec(Good()), IsEmpty()); }

TEST_F(ValidateSpecTest, JudgesEveryField) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> bad = {
      {"name", {"Upper", "9a", "a-", "a/b"}},
      {"data.dataset", {"''", "../x", "-a", "A"}},
      {"model.image_size", {"0", "2048", "100"}},
      {"model.in_channels", {"0", "17"}},
      {"model.model_channels", {"0", "48", "-32", "2147483647"}},
      {"model.channel_mult", {"[0]", "[1, -1]", "[0.1]", "[1e300]"}},
      {"model.num_res_blocks", {"0", "9"}},
      {"model.attention_resolutions", {"[0]", "[-8]"}},
      {"model.num_head_channels", {"-1", "48"}},
      {"model.dropout", {"1", "-0.1"}},
      {"diffusion.timesteps", {"0", "19", "100001", "-1"}},
      {"objective.weight", {"''", "p3", "log(snr)", "0/0"}},
      {"objective.gamma", {"-0.5"}},
      {"objective.k", {"-1"}},
      {"training.images", {"0", "-1"}},
      {"training.batch", {"0", "-8"}},
      {"training.microbatch", {"-2"}},
      {"training.learning_rate", {"0", "-1"}},
      {"training.beta1", {"1", "-0.1"}},
      {"training.beta2", {"1"}},
      {"training.epsilon", {"0"}},
      {"training.weight_decay", {"-1"}},
      {"training.log_every_images", {"0"}},
      {"training.shards", {"8"}},  // Without reduction: exact.
      {"training.clip_grad_norm", {"-1"}},
      {"ema.0.rate", {"0", "1"}},
      {"ema.0.name", {"''", "..", "a/b", "A"}},
      {"checkpoint.every_images", {"0"}},
      {"checkpoint.keep_last", {"1"}},
      {"checkpoint.root", {"../x"}},
      {"preview.every_images", {"-2"}},
      {"preview.count", {"0", "257"}},
      {"preview.steps", {"ddim3x", "0", "1001", "'5,'"}},
      {"resources.devices", {"0", "9", "-1"}},
      {"resources.kind", {"tpu"}},
      {"resources.threads", {"-1"}},
      {"resources.min_devices", {"-1", "2"}},  // devices is 1.
      {"resources.min_device_memory", {"-1"}},
      {"resources.node_selector", {"{Kind: a}", "{kind: 'a b'}", "{'': a}"}},
      {"checkpoint.keep_every_images", {"-1"}},
      {"checkpoint.keep_best", {"-1", "101", "1"}},  // Without a metric.
      {"restart.budget", {"-1"}},
      {"restart.backoff_initial", {"0s", "-1s"}},
      {"restart.backoff_max", {"0.5s"}},
      {"deadlines.start", {"0s"}},
      {"deadlines.step", {"-1s"}},
      {"deadlines.preview", {"400d"}},
      {"deadlines.save", {"0s"}},
      {"deadlines.stop", {"0s"}},
      {"deadlines.fence_after", {"0s", "-1s", "400d"}},
  };
  for (const auto& [path, values] : bad) {
    for (const std::string& value : values)
      EXPECT_THAT(Violations(path, value), HasSubstr(path)) << path << " = " << value;
  }
}

TEST_F(ValidateSpecTest, AllowsTheEdgesOfEachRange) {
  const std::vector<std::pair<std::string, std::string>> good = {
      {"preview.steps", "''"},
      {"preview.steps", "ddim25"},
      {"preview.every_images", "-1"},
      {"objective.gamma", "0"},
      {"objective.k", "0"},
      {"model.attention_resolutions", "[]"},
      {"model.num_head_channels", "0"},
      {"diffusion.timesteps", "50"},
      {"model.image_size", "1024"},
      {"resources.devices", "8"},
      {"restart.budget", "0"},
      {"training.microbatch", "100"},
      {"objective.weight", "simple"},
      {"training.beta1", "0"},
      {"training.microbatch", "auto"},
      {"resources.min_devices", "1"},
      {"resources.devices", "{min: 8, max: 8}"},
      {"resources.node_selector", "{kind: H100, zone/a: ''}"},
      {"checkpoint.keep_every_images", "1M"},
      {"checkpoint", "{keep_best: 100, keep_best_metric: loss}"},
      {"checkpoint.keep_best", "0"}};
  for (const auto& [path, value] : good) EXPECT_EQ(Violations(path, value), "") << path << " = " << value;
}

TEST_F(ValidateSpecTest, ExactReductionWantsShardsThatFit) {
  const auto exact = [](const std::string& yaml) {
    const auto resolved = Resolve({.preset = "ffhq-gamma1", .file_yaml = "training: {reduction: exact" + yaml});
    return std::string(resolved.status().message());
  };
  EXPECT_EQ(exact("}"), "");
  EXPECT_EQ(exact(", shards: 4, microbatch: 2}\nresources: {devices: 4}"), "");
  EXPECT_THAT(exact(", shards: 3}"), HasSubstr("training.shards: is 3; must be a power of two that divides"));
  EXPECT_THAT(exact(", shards: 16}"), HasSubstr("training.shards: is 16"));
  EXPECT_THAT(exact(", shards: 2}\nresources: {devices: 4}"),
              HasSubstr("resources.devices: is 4, more than training.shards (2)"));
  EXPECT_THAT(exact(", shards: 4, cudnn_autotune: true}"), HasSubstr("training.cudnn_autotune: is true"));
  EXPECT_THAT(exact(", shards: 4, microbatch: 8}"), HasSubstr("training.microbatch: is 8; with reduction: exact"));
}

TEST_F(ValidateSpecTest, RequiredBitsExcludeWhatMayDifferFromAttemptToAttempt) {
  const auto required = [](const std::string& yaml) {
    const auto resolved = Resolve({.preset = "ffhq-gamma1", .file_yaml = "training: {bitwise: required" + yaml});
    return std::string(resolved.status().message());
  };
  EXPECT_EQ(required("}"), "");
  EXPECT_EQ(required(", microbatch: 2}\nresources: {kind: cuda}"), "");
  EXPECT_THAT(required(", cudnn_autotune: true}"), HasSubstr("training.cudnn_autotune: is true"));
  EXPECT_THAT(required(", microbatch: auto}"), HasSubstr("training.microbatch: is auto, which may differ"));
  EXPECT_THAT(required(", microbatch: auto, reduction: exact}"), HasSubstr("is auto; with reduction: exact"));
  TrainingSpec spec = Good();
  spec.mutable_training()->set_bitwise(p2::v1::TrainingOptions::REQUIRED);
  ASSERT_EQ(ValidateSpec(spec).size(), 1u);
  EXPECT_EQ(ValidateSpec(spec)[0].field, "resources.threads");
}

TEST(LearningRateTest, FollowsTheBatchByTheNamedRule) {
  p2::v1::TrainingOptions training;
  training.set_learning_rate(2e-5);
  training.set_batch(32);
  EXPECT_EQ(LearningRate(training), 2e-5);
  training.set_learning_rate_rule(p2::v1::TrainingOptions::LINEAR_SCALING);
  EXPECT_DOUBLE_EQ(LearningRate(training), 8e-5);
  training.set_learning_rate_rule(p2::v1::TrainingOptions::SQRT);
  EXPECT_DOUBLE_EQ(LearningRate(training), 4e-5);
  training.set_batch(8);
  EXPECT_EQ(LearningRate(training), 2e-5);
}

TEST_F(ValidateSpecTest, WantsExactlyOneRuleForEachAverageAndDistinctNames) {
  EXPECT_THAT(Violations("ema", "[{name: a}]"), HasSubstr("ema.0: sets none of rate, half_life_images and sigma_rel"));
  EXPECT_THAT(Violations("ema", "[{name: a, rate: 0.9, half_life_images: 1k}]"), HasSubstr("ema.0: sets two of"));
  EXPECT_THAT(Violations("ema", "[{name: a, rate: 0.9}, {name: a, rate: 0.99}]"),
              HasSubstr("ema.1.name: is \"a\" for the second time"));
  EXPECT_THAT(Violations("ema", "[{name: a, half_life_images: 0}]"), HasSubstr("ema.0.half_life_images"));
  EXPECT_THAT(Violations("ema", "[{name: a, rate: 0.9, half_life_images: 1k, sigma_rel: 0.1}]"),
              HasSubstr("sets all of"));
  EXPECT_EQ(Violations("ema", "[{name: a, sigma_rel: 0.05}, {name: b, sigma_rel: 0.288}]"), "");
  EXPECT_THAT(Violations("ema", "[{sigma_rel: 0.29}]"), HasSubstr("ema.0.sigma_rel: is 0.29; must be 0.001 to 0.288"));
  EXPECT_THAT(Violations("ema", "[{sigma_rel: 0.05, warmup: true}]"), HasSubstr("ema.0.warmup: is true"));
  EXPECT_THAT(Violations("ema", "[]"), HasSubstr("ema: holds 0 averages; must be 1 to 8"));
}

TEST_F(ValidateSpecTest, TakesSnapshotsOfPowerFunctionAveragesOnly) {
  const auto with = [](const std::string& yaml) {
    return std::string(Resolve({.preset = "ffhq-gamma1", .file_yaml = yaml}).status().message());
  };
  EXPECT_EQ(with("ema: [{sigma_rel: 0.05}]\nema_snapshots: {every_images: 10k}"), "");
  EXPECT_THAT(with("ema_snapshots: {every_images: 10k}"),
              HasSubstr("ema_snapshots.every_images: is 10000, but no average has sigma_rel"));
  EXPECT_THAT(with("ema: [{sigma_rel: 0.05}]\nema_snapshots: {every_images: 10k, most: 1}"),
              HasSubstr("ema_snapshots.most: is 1; must be 2 to 1024"));
  EXPECT_THAT(with("ema_snapshots: {every_images: -1}"), HasSubstr("ema_snapshots.every_images: is -1"));
}

TEST_F(ValidateSpecTest, WantsCropFractionsInOrder) {
  const auto with = [](const std::string& yaml) {
    return std::string(
        Resolve({.preset = "ffhq-gamma1", .file_yaml = "data: {random_crop: true" + yaml}).status().message());
  };
  EXPECT_EQ(with("}"), "");
  EXPECT_THAT(with(", min_crop_fraction: 0}"), HasSubstr("data.min_crop_fraction: is 0; must be 0.01 to"));
  EXPECT_THAT(with(", min_crop_fraction: 0.9, max_crop_fraction: 0.8}"), HasSubstr("data.min_crop_fraction: is 0.9"));
  EXPECT_THAT(with(", max_crop_fraction: 1.5}"), HasSubstr("data.max_crop_fraction: is 1.5; must be above 0"));
}

TEST(LeastDatasetResolutionTest, IsThePublishedCodesLargestSide) {
  const auto side = [](const std::string& yaml) {
    return LeastDatasetResolution(Resolve({.preset = "ffhq-gamma1", .file_yaml = yaml})->spec);
  };
  EXPECT_EQ(side(""), 256);
  EXPECT_EQ(side("data: {random_crop: true}"), 320);
  EXPECT_EQ(side("data: {random_crop: true, min_crop_fraction: 0.75}"), 342);
}

TEST_F(ValidateSpecTest, TellsEveryViolationOfAnEmptySpec) {
  const std::vector<FieldViolation> violations = ValidateSpec(TrainingSpec());
  EXPECT_GT(violations.size(), 15u);
  EXPECT_EQ(violations[0].field, "data.dataset");
}

TEST_F(ValidateSpecTest, NamesMoreDevicesThanTheBatchHasSamples) {
  EXPECT_EQ(Violations("resources.devices", "9"),
            "resources.devices: is 9, more than the 8 samples of training.batch; every device needs at least one");
}

TEST(EmaRateTest, HalvesAWeightsShareInItsHalfLife) {
  p2::v1::EmaSpec ema;
  ema.set_half_life_images(800);
  EXPECT_NEAR(std::pow(EmaRate(ema, 8), 100), 0.5, 1e-12);
  ema.clear_half_life_images();
  ema.set_rate(0.9);
  EXPECT_EQ(EmaRate(ema, 8), 0.9);
}

TEST(SpecErrorTest, IsOkWithoutViolations) { EXPECT_TRUE(SpecError({}).ok()); }

}  // namespace
}  // namespace p2::spec
