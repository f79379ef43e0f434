#include "common/spec/resolve.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_join.h"
#include "google/rpc/error_details.pb.h"

namespace p2::spec {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ErrorOf(const ResolveRequest& request) {
  const auto resolved = Resolve(request);
  EXPECT_EQ(resolved.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(resolved.status().message());
}

TEST(ResolveTest, LaysLayersOverOneAnotherAndTellsWhereEachValueIsFrom) {
  const auto resolved = Resolve({.file_yaml = "extends: ffhq-gamma0.5\ntraining:\n  batch: 16\n  images: 1M\n",
                                 .file_name = "mine.yaml",
                                 .overrides = {{"training.images", "2M"}, {"training.seed", "7", "--seed"}}});
  ASSERT_TRUE(resolved.ok()) << resolved.status();
  EXPECT_EQ(resolved->spec.training().images(), 2'000'000);
  EXPECT_EQ(resolved->spec.training().batch(), 16);
  EXPECT_EQ(resolved->origins.at("training.images"), "--set");
  EXPECT_EQ(resolved->origins.at("training.batch"), "mine.yaml:3");
  EXPECT_EQ(resolved->origins.at("training.seed"), "--seed");
  EXPECT_EQ(resolved->origins.at("objective.gamma"), "preset ffhq-gamma0.5");
  EXPECT_EQ(resolved->origins.at("training.learning_rate"), "preset base");
  EXPECT_EQ(resolved->origins.at("model.channel_mult"), "derived from model.image_size");
  EXPECT_EQ(resolved->origins.at("ema.0.name"), "derived from rate");
}

TEST(ResolveTest, AFileWithoutExtendsExtendsBase) {
  const auto resolved = Resolve({.file_yaml = "name: mine\ndata: {dataset: mine}\ntraining: {images: 1k}\n"});
  ASSERT_TRUE(resolved.ok()) << resolved.status();
  EXPECT_EQ(resolved->spec.training().batch(), 8);
}

TEST(ResolveTest, AFileMayLieOverAPresetButNotOverTwo) {
  const auto resolved = Resolve({.preset = "cub-gamma1", .file_yaml = "training: {batch: 4}"});
  ASSERT_TRUE(resolved.ok()) << resolved.status();
  EXPECT_EQ(resolved->spec.data().dataset(), "cub");
  EXPECT_THAT(ErrorOf({.preset = "cub-gamma1", .file_yaml = "extends: ffhq-gamma1"}), HasSubstr("keep one of them"));
}

TEST(ResolveTest, ReportsReadingAndRuleErrorsTogetherEachWithItsOrigin) {
  const auto resolved =
      Resolve({.preset = "ffhq-gamma0.5",
               .file_yaml = "objective: {gamma: -1}\n\ntraining:\n  batch: 4\n  imags: 3\n  epsilon: tiny\n",
               .file_name = "bad.yaml",
               .overrides = {{"resources.devices", "5", "--devices"}, {"training.beta1", "2"}}});
  EXPECT_EQ(
      std::string(resolved.status().message()),
      "bad.yaml:1: objective.gamma: is -1; must be finite and at least 0\n"
      "bad.yaml:5: training.imags: unknown field; did you mean \"images\"?\n"
      "bad.yaml:6: training.epsilon: is \"tiny\"; must be a number\n"
      "--set: training.beta1: is 2; must be at least 0 and below 1\n"
      "--devices: resources.devices: is 5, more than the 4 samples of training.batch; every device needs at least one");
  const auto payload = resolved.status().GetPayload(kBadRequestTypeUrl);
  ASSERT_TRUE(payload.has_value());
  google::rpc::BadRequest details;
  ASSERT_TRUE(details.ParseFromString(std::string(*payload)));
  ASSERT_EQ(details.field_violations_size(), 5);
  EXPECT_EQ(details.field_violations(1).field(), "training.imags");
  EXPECT_EQ(details.field_violations(1).description(), "unknown field; did you mean \"images\"? (bad.yaml:5)");
}

TEST(ResolveTest, ANumberThatNobodyGaveIsMissing) {
  EXPECT_THAT(ErrorOf({.file_yaml = "data: {dataset: cub}"}), HasSubstr("training.images: is missing; must be"));
  EXPECT_THAT(ErrorOf({.file_yaml = "data: {dataset: cub}\ntraining: {images: 0}"}),
              HasSubstr("training.images: is 0; must be"));
}

TEST(ResolveTest, AWrongGammaDoesNotHideAWrongWeight) {
  EXPECT_THAT(
      ErrorOf({.preset = "ffhq-gamma1",
               .overrides = {{"objective.gamma", "-1"}, {"objective.k", "-2"}, {"objective.weight", "1/(snr"}}}),
      AllOf(HasSubstr("objective.gamma: is -1"), HasSubstr("objective.k: is -2"),
            HasSubstr("objective.weight: \"1/(snr\" is neither")));
}

TEST(ResolveTest, BasesDescriptionIsNotTheFiles) {
  const std::string rest = "data: {dataset: cub}\ntraining: {images: 1000}\n";
  for (const char* extends : {"", "extends: base\n"}) {
    const auto bare = Resolve({.file_yaml = extends + rest});
    ASSERT_TRUE(bare.ok()) << bare.status();
    EXPECT_EQ(bare->spec.description(), "");
    EXPECT_FALSE(bare->origins.contains("description"));
    const auto own = Resolve({.file_yaml = extends + rest + "description: mine\n"});
    ASSERT_TRUE(own.ok()) << own.status();
    EXPECT_EQ(own->spec.description(), "mine");
  }
}

TEST(ResolveTest, ExactReductionWritesOutItsShardsAndThreads) {
  const auto exact = [](const std::string& yaml) {
    const auto resolved = Resolve({.preset = "ffhq-gamma1", .file_yaml = yaml});
    EXPECT_TRUE(resolved.ok()) << resolved.status();
    return *resolved;
  };
  const ResolvedSpec twelve = exact("training: {reduction: exact, batch: 12}");
  EXPECT_EQ(twelve.spec.training().shards(), 4);
  EXPECT_EQ(twelve.origins.at("training.shards"), "derived from training.batch");
  EXPECT_EQ(twelve.spec.resources().threads(), 1);
  EXPECT_EQ(twelve.origins.at("resources.threads"), "derived from training.reduction");
  EXPECT_EQ(exact("training: {reduction: exact, batch: 64}").spec.training().shards(), 8);
  EXPECT_EQ(exact("training: {reduction: exact, batch: 7}").spec.training().shards(), 1);
  EXPECT_EQ(exact("training: {reduction: exact}\nresources: {threads: 3}").spec.resources().threads(), 3);
  EXPECT_EQ(exact("training: {batch: 64}").spec.training().shards(), 0);
}

TEST(ResolveTest, RequiredBitsPinTheThreadsOfACpuRank) {
  const auto resolved = Resolve({.preset = "ffhq-gamma1", .overrides = {{"training.bitwise", "required"}}});
  ASSERT_TRUE(resolved.ok()) << resolved.status();
  EXPECT_EQ(resolved->spec.resources().threads(), 1);
  EXPECT_EQ(resolved->origins.at("resources.threads"), "derived from training.bitwise");
}

TEST(ResolveTest, ReadsAutoForTheMicrobatchAlone) {
  for (const ResolveRequest& request :
       {ResolveRequest{.preset = "ffhq-gamma1", .file_yaml = "training: {microbatch: auto}"},
        ResolveRequest{.preset = "ffhq-gamma1", .overrides = {{"training.microbatch", "auto"}}}}) {
    const auto resolved = Resolve(request);
    ASSERT_TRUE(resolved.ok()) << resolved.status();
    EXPECT_EQ(resolved->spec.training().microbatch(), -1);
  }
  EXPECT_THAT(ErrorOf({.preset = "ffhq-gamma1", .overrides = {{"training.batch", "auto"}}}),
              HasSubstr("training.batch: is \"auto\"; must be an integer"));
}

TEST(ResolveTest, WarnsWhereTheBatchIsNotThePapers) {
  const auto warnings = [](const std::string& preset, const std::string& batch) {
    const auto resolved = Resolve({.preset = preset, .overrides = {{"training.batch", batch}}});
    EXPECT_TRUE(resolved.ok()) << resolved.status();
    return absl::StrJoin(resolved->warnings, "\n");
  };
  EXPECT_THAT(warnings("ffhq-gamma1", "16"), HasSubstr("training.batch is 16: not the paper's recipe (batch 8)"));
  EXPECT_EQ(warnings("ffhq-gamma1", "8"), "");
  EXPECT_EQ(warnings("mnist-demo", "64"), "") << "that one is not the paper's anyway";
}

TEST(ResolveTest, AnUnknownPresetIsNotFound) {
  EXPECT_EQ(Resolve({.preset = "ffhq"}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Resolve({.file_yaml = "extends: nope"}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(Resolve({.file_yaml = "extends: nope", .file_name = "my.yaml"}).status().message()),
              HasSubstr("my.yaml: extends: preset \"nope\" not found"));
  EXPECT_THAT(std::string(Resolve({.preset = "ffhq"}).status().message()),
              HasSubstr("preset \"ffhq\" not found; those that begin so: ffhq-"));
  EXPECT_THAT(std::string(Resolve({.preset = "cub-gama1"}).status().message()),
              HasSubstr("did you mean \"cub-gamma1\"?"));
}

TEST(ResolveTest, FollowsTheModelsSizeWithTheChannelTable) {
  const auto resolved = Resolve({.preset = "ffhq-gamma1", .overrides = {{"model.image_size", "64"}}});
  ASSERT_TRUE(resolved.ok()) << resolved.status();
  EXPECT_THAT(resolved->spec.model().channel_mult(), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(ErrorOf({.preset = "ffhq-gamma1", .overrides = {{"model.image_size", "32"}}}),
              HasSubstr("the published table has no entry for image_size 32"));
}

TEST(ResolveTest, NamesAveragesByTheirRate) {
  const auto resolved =
      Resolve({.preset = "ffhq-gamma1",
               .overrides = {
                   {"ema", "[{rate: 0.999}, {half_life_images: 500k}, {name: x, rate: 0.00001}, {sigma_rel: 0.05}]"}}});
  ASSERT_TRUE(resolved.ok()) << resolved.status();
  EXPECT_EQ(resolved->spec.ema(0).name(), "0.999");
  EXPECT_EQ(resolved->spec.ema(1).name(), "h500000");
  EXPECT_EQ(resolved->spec.ema(2).name(), "x");
  EXPECT_EQ(resolved->spec.ema(3).name(), "s0.05");
}

TEST(ResolveTest, WarnsOfWhatIsAllowedButUnusual) {
  const auto resolved =
      Resolve({.preset = "ffhq-gamma1", .overrides = {{"objective.gamma", "3"}, {"objective.k", "0"}}});
  ASSERT_TRUE(resolved.ok()) << resolved.status();
  EXPECT_THAT(resolved->warnings,
              ElementsAre(HasSubstr("objective.gamma is 3; above 2"), HasSubstr("objective.k is 0")));
}

TEST(ResolveTest, EqualSpecsHaveEqualHashes) {
  const auto a = Resolve({.preset = "ffhq-gamma1"});
  const auto b = Resolve(
      {.preset = "ffhq-gamma0.5", .overrides = {{"objective.gamma", "1.0"}, {"description", "FFHQ, P2 with gamma 1"}}});
  const auto c = Resolve({.preset = "ffhq-gamma1", .overrides = {{"training.seed", "1"}}});
  ASSERT_TRUE(a.ok() && b.ok() && c.ok());
  EXPECT_EQ(a->sha256, b->sha256);
  EXPECT_NE(a->sha256, c->sha256);
  EXPECT_EQ(a->sha256.size(), 64);
  EXPECT_EQ(SpecSha256(p2::v1::TrainingSpec()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(ResolveTest, EscapesTheFilesName) {
  EXPECT_THAT(ErrorOf({.file_yaml = "x: 1", .file_name = "\x1b[2J"}), HasSubstr("\\033[2J:1: x: unknown field"));
}

TEST(ResolveTest, SaysOnlyThatAFileIsNoYaml) {
  EXPECT_EQ(ErrorOf({.file_yaml = "training:\n  images: [1\n", .file_name = "broken.yaml"}),
            "broken.yaml:3: not valid YAML: end of sequence flow not found");
}

TEST(ParseOverrideTest, SplitsAtTheFirstEqualsSign) {
  const auto override = ParseOverride("objective.weight=min(1, snr=2)");
  ASSERT_TRUE(override.ok());
  EXPECT_EQ(override->path, "objective.weight");
  EXPECT_EQ(override->value, "min(1, snr=2)");
  EXPECT_FALSE(ParseOverride("training.batch").ok());
  EXPECT_FALSE(ParseOverride("=3").ok());
}

TEST(ResolveTest, TakesAnExpressionAsTheWeight) {
  const auto resolved =
      Resolve({.preset = "ffhq-gamma1", .overrides = {{"objective.weight", "pow(k+snr,-gamma)", "--weight"}}});
  ASSERT_TRUE(resolved.ok()) << resolved.status();
  EXPECT_EQ(resolved->spec.objective().weight(), "pow(k+snr,-gamma)");
  EXPECT_THAT(ErrorOf({.preset = "ffhq-gamma1", .overrides = {{"objective.weight", "1 - t", "--weight"}}}),
              HasSubstr("--weight: objective.weight: the weight \"1 - t\" is -1 at t = 2"));
}

}  // namespace
}  // namespace p2::spec
