#include "worker/trainer/spec_seam.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "google/protobuf/util/delimited_message_util.h"
#include "p2/trainer/v1/pipes.pb.h"
#include "p2/v1/launch.pb.h"
#include "tests/worker/trainer/tiny_dataset.h"

namespace p2::trainer {
namespace {

namespace pb = ::p2::trainer::v1;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

pb::TrainerEvent RoundTrip(const Event& event) {
  const std::string frame = EncodeEvent(3, 42, event);
  google::protobuf::io::ArrayInputStream stream(frame.data(), static_cast<int>(frame.size()));
  pb::TrainerEvent decoded;
  bool clean_end = false;
  EXPECT_TRUE(google::protobuf::util::ParseDelimitedFromZeroCopyStream(&decoded, &stream, &clean_end));
  EXPECT_EQ(decoded.sequence(), 3u);
  EXPECT_EQ(decoded.wall_time_ns(), 42);
  return decoded;
}

TEST(SpecSeamTest, CarriesEveryEvent) {
  EXPECT_EQ(RoundTrip(Started{8, "dir", {{"torch", "2.11"}}, 99}).started().fingerprint().at("torch"), "2.11");
  EXPECT_EQ(RoundTrip(Progress{Phase::kSave, 8, 5, 1.5}).progress().phase(), pb::Progress::SAVE);
  EXPECT_EQ(RoundTrip(MetricPoints{8, 1, {{"loss", 0.5}}}).metrics().values().at("loss"), 0.5);
  EXPECT_EQ(RoundTrip(CheckpointSaved{8, "a/b", {{"f", 3, "ab"}}, {"0.9"}, "cd"}).checkpoint().files(0).size_bytes(),
            3);
  EXPECT_EQ(RoundTrip(ArtifactWritten{"x.png", "samples", "image/png", 8}).artifact().file_name(), "x.png");
  const auto finished = RoundTrip(Finished{Finished::Outcome::kStopped, 40, 8, ""}).finished();
  EXPECT_EQ(finished.outcome(), pb::Finished::STOPPED);
  EXPECT_EQ(finished.exit_code(), 40);
  const auto notice = RoundTrip(Notice{"DATA_SKIPPED", "m", {{6, 12}}}).notice();
  EXPECT_EQ(notice.skipped_ranges(0).end(), 12);
}

TEST(SpecSeamTest, FindsAStopAmongCommands) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    pb::TrainerCommand unknown, stop;
    stop.mutable_stop();
    google::protobuf::util::SerializeDelimitedToZeroCopyStream(unknown, &stream);
    google::protobuf::util::SerializeDelimitedToZeroCopyStream(stop, &stream);
  }
  EXPECT_TRUE(HoldsStop(bytes));
  EXPECT_FALSE(HoldsStop(absl::string_view(bytes).substr(0, bytes.size() - 1)));
  EXPECT_FALSE(HoldsStop(""));
}

TEST(SpecSeamTest, ResolvesAPresetWithOverrides) {
  std::vector<std::string> warnings;
  const auto options = OptionsFromSpec(
      "ffhq-gamma0.5", std::vector<std::string>{"training.batch=16", "ema=[{half_life_images: 1600}]"}, &warnings);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->spec.batch, 16);
  EXPECT_EQ(options->spec.gamma, 0.5);
  EXPECT_EQ(options->spec.images, 18'000'000);
  EXPECT_EQ(options->spec.model.out_channels, 6);
  EXPECT_EQ(options->spec.model.image_size, 256);
  EXPECT_EQ(options->spec.learning_rate, 2e-5);
  ASSERT_EQ(options->spec.emas.size(), 1u);
  EXPECT_DOUBLE_EQ(options->spec.emas[0].rate, std::exp2(-0.01));
  EXPECT_THAT(options->spec_json, HasSubstr("\"gamma\": 0.5"));
}

TEST(SpecSeamTest, CarriesTheOptionsOfAStep) {
  std::vector<std::string> warnings;
  const auto options = OptionsFromSpec(
      "ffhq-gamma0.5",
      std::vector<std::string>{"training.batch=32", "training.precision=bf16", "training.microbatch=auto",
                               "training.learning_rate_rule=sqrt", "model.activation_recompute=true"},
      &warnings);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->spec.precision, spec::Precision::kBf16);
  EXPECT_EQ(options->spec.microbatch, kAutoMicrobatch);
  EXPECT_DOUBLE_EQ(options->spec.learning_rate, 4e-5);
  EXPECT_TRUE(options->spec.model.activation_recompute);
  EXPECT_FALSE(options->spec.bitwise_required);
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("not the paper's recipe")));
  const auto required =
      OptionsFromSpec("ffhq-gamma0.5", std::vector<std::string>{"training.bitwise=required"}, &warnings);
  ASSERT_TRUE(required.ok()) << required.status();
  EXPECT_TRUE(required->spec.bitwise_required);
  EXPECT_EQ(required->place.threads, 1);
}

TEST(SpecSeamTest, CarriesTheOptionsOfAGpu) {
  std::vector<std::string> warnings;
  const auto plain = OptionsFromSpec("ffhq-gamma0.5", {}, &warnings);
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(plain->spec.precision, spec::Precision::kFp32);
  EXPECT_FALSE(plain->spec.cuda_graph);
  EXPECT_FALSE(plain->spec.cudnn_autotune);
  const auto options = OptionsFromSpec(
      "ffhq-gamma0.5",
      std::vector<std::string>{"training.precision=tf32", "training.cuda_graph=auto", "training.cudnn_autotune=true"},
      &warnings);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->spec.precision, spec::Precision::kTf32);
  EXPECT_TRUE(options->spec.cuda_graph);
  EXPECT_TRUE(options->spec.cudnn_autotune);
}

TEST(SpecSeamTest, ReadsALaunchFile) {
  p2::v1::Launch launch;
  launch.set_job_id("job-a");
  launch.set_epoch(4);
  launch.mutable_spec()->mutable_training()->set_batch(12);
  launch.mutable_spec()->mutable_deadlines()->mutable_step()->set_seconds(7);
  launch.add_resume_candidates("000000000012-e3");
  auto* const range = launch.add_skipped_ranges();
  range->set_begin(6);
  range->set_end(12);
  const std::string path = FreshDir() + "/launch";
  std::ofstream(path) << launch.SerializeAsString();
  const auto options = OptionsFromLaunchFile(path);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->epoch, 4);
  EXPECT_EQ(options->spec.batch, 12);
  EXPECT_EQ(options->spec.deadlines.step, absl::Seconds(7));
  EXPECT_EQ(options->spec.deadlines.start, absl::Seconds(300));
  EXPECT_THAT(options->resume_candidates, ElementsAre("000000000012-e3"));
  EXPECT_EQ(options->skipped[0].end, 12);
}

TEST(SpecSeamTest, RefusesALaunchThatSaysMoreThanItKnows) {
  p2::v1::Launch launch;
  launch.mutable_spec()->mutable_ema()->Add();
  // A field of a later p2, deep inside.
  p2::v1::EmaSpec& ema = *launch.mutable_spec()->mutable_ema(0);
  ema.GetReflection()->MutableUnknownFields(&ema)->AddVarint(999, 1);
  const std::string path = FreshDir() + "/launch";
  std::ofstream(path) << launch.SerializeAsString();
  const absl::Status status = OptionsFromLaunchFile(path).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), ::testing::HasSubstr("does not know (spec.ema.field 999)"));
}

TEST(SpecSeamTest, ReportsWhatQuotesBytesThatAreNoText) {
  const std::string frame = EncodeEvent(1, 2, Notice{"CHECKPOINT_CORRUPT", "it names the file \"\xff\x01\"", {}});
  p2::trainer::v1::TrainerEvent event;
  ASSERT_TRUE(event.ParseFromString(frame.substr(1)));  // Behind the length, which is one byte here.
  EXPECT_EQ(event.notice().message(), "it names the file \"\\xff\x01\"");
}

TEST(SpecSeamTest, RefusesWhatIsNoLaunchFile) {
  const std::string path = FreshDir() + "/launch";
  std::ofstream(path) << "name: a-yaml-file";
  EXPECT_EQ(OptionsFromLaunchFile(path).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(OptionsFromLaunchFile(path + "x").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace p2::trainer
