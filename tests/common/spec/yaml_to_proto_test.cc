#include "common/spec/yaml_to_proto.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "p2/v1/job.pb.h"
#include "p2/v1/training_spec.pb.h"

namespace p2::spec {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

class YamlToProtoTest : public ::testing::Test {
 protected:
  // Merges and returns the violations, one a line.
  std::string Merge(absl::string_view text, const google::protobuf::Message* defaults = nullptr) {
    return Merged({.text = text, .label = "my.yaml", .defaults = defaults}, spec_);
  }

  std::string Set(absl::string_view path, absl::string_view value,
                  const google::protobuf::Message* defaults = nullptr) {
    std::vector<FieldViolation> violations;
    MergeAssignment(path, value, "--set", defaults, spec_, origins_, violations);
    return Text(violations);
  }

  std::string Merged(const YamlLayer& layer, google::protobuf::Message& message) {
    std::vector<FieldViolation> violations;
    MergeYaml(layer, message, origins_, violations);
    return Text(violations);
  }

  static std::string Text(const std::vector<FieldViolation>& violations) {
    return absl::StrJoin(violations, "\n",
                         [](std::string* out, const FieldViolation& v) { absl::StrAppend(out, v.ToString()); });
  }

  p2::v1::TrainingSpec spec_;
  Origins origins_;
};

TEST_F(YamlToProtoTest, ARangeOfDevicesIsTwoFields) {
  EXPECT_EQ(Merge("resources:\n  kind: cuda\n  devices: {min: 2, max: 8}\n"), "");
  EXPECT_EQ(spec_.resources().min_devices(), 2);
  EXPECT_EQ(spec_.resources().devices(), 8);
  EXPECT_EQ(origins_["resources.min_devices"], "my.yaml:3");
  EXPECT_EQ(origins_["resources.devices"], "my.yaml:3");
  EXPECT_EQ(Set("resources.devices", "{max: 4}"), "");
  EXPECT_EQ(spec_.resources().min_devices(), 2);
  EXPECT_EQ(spec_.resources().devices(), 4);
  for (const char* bad : {"{min: 2, most: 8}", "{}", "{max: {max: 3}}", "{max: 2, max: 3}"}) {
    EXPECT_THAT(Set("resources.devices", bad), HasSubstr("must be one value, or {min: N, max: N}")) << bad;
  }
  EXPECT_THAT(Set("resources.devices", "{min: two}"), HasSubstr("resources.min_devices"));
  EXPECT_THAT(Set("resources.threads", "{min: 1, max: 2}"), HasSubstr("is a map; must be one value"));
}

TEST_F(YamlToProtoTest, ReadsEveryKindOfValue) {
  EXPECT_EQ(Merge(R"yaml(
name: digits
data: {dataset: mnist, random_flip: false}
model:
  channel_mult: [0.5, 1, 2]
  attention_resolutions: [8]
diffusion: {noise_schedule: cosine}
objective: {weight: "pow(k+snr, -gamma)", gamma: 0.5}
training: {images: 18M, batch: 8, learning_rate: 2.5e-5, seed: 18446744073709551615, log_every_images: 1.5k}
ema:
  - rate: 0.9999
  - {name: slow, half_life_images: 500k}
restart: {backoff_initial: 1m30s, backoff_max: 2h}
deadlines: {step: 0.5s, start: 1d}
)yaml"),
            "");
  EXPECT_EQ(spec_.name(), "digits");
  EXPECT_TRUE(spec_.data().has_random_flip());
  EXPECT_FALSE(spec_.data().random_flip());
  EXPECT_THAT(spec_.model().channel_mult(), ElementsAre(0.5, 1, 2));
  EXPECT_EQ(spec_.diffusion().noise_schedule(), p2::v1::DiffusionSpec::COSINE);
  EXPECT_EQ(spec_.objective().weight(), "pow(k+snr, -gamma)");
  EXPECT_EQ(spec_.training().images(), 18'000'000);
  EXPECT_EQ(spec_.training().seed(), 18446744073709551615u);
  EXPECT_EQ(spec_.training().log_every_images(), 1500);
  EXPECT_EQ(spec_.ema(1).half_life_images(), 500'000);
  EXPECT_FALSE(spec_.ema(1).has_rate());
  EXPECT_EQ(spec_.restart().backoff_initial().seconds(), 90);
  EXPECT_EQ(spec_.restart().backoff_max().seconds(), 7200);
  EXPECT_EQ(spec_.deadlines().step().nanos(), 500'000'000);
  EXPECT_EQ(spec_.deadlines().start().seconds(), 86'400);
}

TEST_F(YamlToProtoTest, ReadsProtoJson) {
  EXPECT_EQ(
      Merge(R"({"training": {"images": "4400000", "learningRate": 1e-3}, "diffusion": {"noiseSchedule": "LINEAR"}})"),
      "");
  EXPECT_EQ(spec_.training().images(), 4'400'000);
  EXPECT_EQ(spec_.training().learning_rate(), 1e-3);
}

TEST_F(YamlToProtoTest, NotesTheLineOfEachValue) {
  Merge("training:\n  images: 1k\n  batch: 8\nema:\n- rate: 0.9\n- rate: 0.99\nmodel: {channel_mult: [1, 2]}\n");
  EXPECT_THAT(origins_, UnorderedElementsAre(Pair("training.images", "my.yaml:2"), Pair("training.batch", "my.yaml:3"),
                                             Pair("ema.0.rate", "my.yaml:5"), Pair("ema.1.rate", "my.yaml:6"),
                                             Pair("model.channel_mult", "my.yaml:7")));
}

TEST_F(YamlToProtoTest, TellsEveryErrorAtOnceWithItsLine) {
  EXPECT_EQ(
      Merge("trainin: {}\n"
            "training:\n"
            "  btach: 8\n"
            "  batch: many\n"
            "  microbatch: 3000000000\n"
            "  images: 1.2345k\n"
            "  learning_rate: .inf\n"
            "  seed: -1\n"
            "data: [1]\n"
            "diffusion: {noise_schedule: liner}\n"
            "data: {random_flip: maybe}\n"
            "model: {dropout: {a: 1}}\n"
            "deadlines: {step: 90}\n"
            "gamma: 1\n"),
      "my.yaml:1: trainin: unknown field; did you mean \"training\"?\n"
      "my.yaml:3: training.btach: unknown field; did you mean \"batch\"?\n"
      "my.yaml:4: training.batch: is \"many\"; must be an integer (counts such as 500k and 10M are fine)\n"
      "my.yaml:5: training.microbatch: is 3000000000; must be -2147483648 to 2147483647\n"
      "my.yaml:6: training.images: is 1.2345k; must be a whole number\n"
      "my.yaml:7: training.learning_rate: is \".inf\"; must be a number\n"
      "my.yaml:8: training.seed: is -1; must be 0 to 18446744073709551615\n"
      "my.yaml:9: data: must be a map of fields (`name: value`)\n"
      "my.yaml:10: diffusion.noise_schedule: is \"liner\"; must be one of linear, cosine; did you mean \"linear\"?\n"
      "my.yaml:11: data: is given twice in the same map; keep one\n"
      "my.yaml:12: model.dropout: is a map; must be one value\n"
      "my.yaml:13: deadlines.step: is \"90\"; must be a duration with a unit, such as 90s, 10m or 2h\n"
      "my.yaml:14: gamma: unknown field; did you mean \"objective.gamma\"?");
  EXPECT_EQ(spec_.training().batch(), 0);
}

TEST_F(YamlToProtoTest, CountsAreExact) {
  for (const auto& [text, value] : std::map<std::string, int64_t>{{"4.4M", 4'400'000},
                                                                  {"0.8M", 800'000},
                                                                  {"9.007199254740993G", 0},
                                                                  {"-1", -1},
                                                                  {"+7", 7},
                                                                  {"9223372036854775807", INT64_MAX}}) {
    const std::string error = Set("training.images", text);
    if (value != 0) {
      EXPECT_EQ(error, "") << text;
      EXPECT_EQ(spec_.training().images(), value) << text;
    } else {
      EXPECT_THAT(error, HasSubstr("whole number"));
    }
  }
  for (const char* bad : {"9223372036854775808", "1e6", "k", "0x10", "1_000", "8.5", "", "--1", "1.2.3",
                          "99999999999999999999999999999"}) {
    EXPECT_NE(Set("training.images", absl::StrCat("\"", bad, "\"")), "") << bad;
  }
}

TEST_F(YamlToProtoTest, ReplacesListsWholeAndOnlyByGoodOnes) {
  Merge("model: {attention_resolutions: [32, 16, 8]}\nema: [{rate: 0.9}, {rate: 0.99}]");
  EXPECT_EQ(Set("model.attention_resolutions", "8"), "");
  EXPECT_THAT(spec_.model().attention_resolutions(), ElementsAre(8));
  EXPECT_EQ(Set("model.attention_resolutions", "16,8"), "");
  EXPECT_THAT(spec_.model().attention_resolutions(), ElementsAre(16, 8));
  EXPECT_THAT(Set("model.attention_resolutions", "[4, x]"), HasSubstr("model.attention_resolutions.1: is \"x\""));
  EXPECT_THAT(spec_.model().attention_resolutions(), ElementsAre(16, 8));
  EXPECT_EQ(Set("model.attention_resolutions", "[]"), "");
  EXPECT_THAT(spec_.model().attention_resolutions(), IsEmpty());
  EXPECT_EQ(Set("ema", "[{rate: 0.5}]"), "");
  EXPECT_EQ(spec_.ema_size(), 1);
  EXPECT_FALSE(origins_.contains("ema.1.rate"));
}

TEST_F(YamlToProtoTest, SetsElementsOfLists) {
  Merge("ema: [{rate: 0.9}, {rate: 0.99}]");
  EXPECT_EQ(Set("ema.1.rate", "0.5"), "");
  EXPECT_EQ(spec_.ema(1).rate(), 0.5);
  EXPECT_EQ(origins_["ema.1.rate"], "--set");
  EXPECT_EQ(Set("ema.0", "{warmup: true}"), "");
  EXPECT_TRUE(spec_.ema(0).warmup());
  EXPECT_THAT(Set("ema.2.rate", "0.5"), HasSubstr("--set: ema.2: no such element: the list has 2"));
  EXPECT_THAT(Set("ema.first.rate", "0.5"), HasSubstr("no such element"));
  EXPECT_THAT(Set("ema.rate", "0.5"), HasSubstr("no such element"));
}

TEST_F(YamlToProtoTest, SaysWhereAnAssignmentGoesWrong) {
  EXPECT_EQ(Set("training.learning_rat", "1"),
            "--set: training.learning_rat: unknown field; did you mean \"learning_rate\"?");
  EXPECT_EQ(Set("learning_rate", "1"), "--set: learning_rate: unknown field; did you mean \"training.learning_rate\"?");
  EXPECT_EQ(Set("training.batch.size", "1"), "--set: training.batch: has no fields below it");
  EXPECT_THAT(Set("training", "8"), HasSubstr("must be a map"));
  EXPECT_THAT(Set("training.batch", "[8"), HasSubstr("not valid YAML"));
  EXPECT_THAT(Set("", "1"), HasSubstr("unknown field"));
}

TEST_F(YamlToProtoTest, NullTakesTheDefaultBack) {
  p2::v1::TrainingSpec defaults;
  defaults.mutable_training()->set_batch(8);
  defaults.mutable_data()->set_random_flip(true);
  Merge("training: {batch: 16}\ndata: {random_flip: false}\nema: [{name: a, rate: 0.9}]");
  EXPECT_EQ(Set("training.batch", "null", &defaults), "");
  EXPECT_EQ(Set("data", "{random_flip: ~}", &defaults), "");
  EXPECT_EQ(Set("ema.0.rate", "null", &defaults), "");
  EXPECT_EQ(spec_.training().batch(), 8);
  EXPECT_TRUE(spec_.data().random_flip());
  EXPECT_FALSE(spec_.ema(0).has_rate());
}

TEST_F(YamlToProtoTest, ReadsMaps) {
  p2::v1::Job job;
  EXPECT_EQ(Merged({.text = "labels: {team: vision, run: 7}", .label = "job.yaml"}, job), "");
  EXPECT_THAT(job.labels(), UnorderedElementsAre(Pair("team", "vision"), Pair("run", "7")));
  EXPECT_THAT(Merged({.text = "labels: {a: 1, a: 2}", .label = "job.yaml"}, job),
              HasSubstr("labels.a: is given twice"));
}

TEST_F(YamlToProtoTest, RefusesTextThatIsTooMuch) {
  EXPECT_THAT(Merge(std::string(kMaxYamlBytes + 1, ' ')), HasSubstr("my.yaml: the text has 262145 bytes"));
  EXPECT_THAT(Merge("model: {channel_mult: [" + absl::StrJoin(std::vector<int>(20'000, 1), ",") + "]}"),
              HasSubstr("more than 10000 values"));
  EXPECT_THAT(Merge(std::string(5000, '[')), HasSubstr("my.yaml:1: not valid YAML: nested more than 32 deep"));
  EXPECT_THAT(Merge(","), HasSubstr("not one YAML document"));
  EXPECT_THAT(Merge("name: a\n---\nname: b\n"), HasSubstr("not one YAML document"));
  EXPECT_THAT(Merge("name: \"\xff\""), HasSubstr("not valid UTF-8"));
  EXPECT_THAT(Merge("name: \"a\\nb\""), HasSubstr("control characters"));
  EXPECT_THAT(Merge("\"\\e[31m\": 1"), HasSubstr("\\033[31m: unknown field"));
  EXPECT_THAT(Merge("- a\n"), HasSubstr("my.yaml:1: must be a map"));
  EXPECT_THAT(Merge("? [a]\n: 1\n"), HasSubstr("name must be plain text"));
  EXPECT_EQ(Merge(""), "");
}

TEST_F(YamlToProtoTest, LaughsOnceNotABillionTimes) {
  std::string bomb = "a0: &a0 [{rate: 0.5}]\n";
  for (int i = 1; i < 30; ++i) bomb += absl::StrCat("a", i, ": &a", i, " [*a", i - 1, ", *a", i - 1, "]\n");
  bomb += "ema: *a29\n";
  EXPECT_THAT(Merge(bomb), HasSubstr("ema.0: must be a map"));
  EXPECT_THAT(Merge("ema: &e [*e]"), HasSubstr("ema"));
  EXPECT_THAT(Merge("model: &m {model: *m}"), HasSubstr("model"));
  EXPECT_EQ(spec_.ema_size(), 0);
}

TEST_F(YamlToProtoTest, ReadsAnyTextWithoutHarm) {
  const std::vector<std::string> tokens = {"training", "batch", ": ",   "{",   "}",    "[",        "]",    ",",
                                           "\n",       "  ",    "- ",   "ema", "rate", "&a ",      "*a",   "1",
                                           "null",     "\"",    "'",    "|\n", "#",    "!!str ",   "? ",   "\t",
                                           "18M",      "model", "name", "\\",  "%",    "\xc3\xa9", "---\n"};
  std::mt19937 random(11);
  for (int i = 0; i < 5'000; ++i) {
    std::string text;
    for (unsigned n = random() % 20; n > 0; --n) text += tokens[random() % tokens.size()];
    p2::v1::TrainingSpec spec;
    Merged({.text = text, .label = "x"}, spec);
    std::vector<FieldViolation> violations;
    MergeAssignment(text, text, "--set", nullptr, spec, origins_, violations);
  }
}

}  // namespace
}  // namespace p2::spec
