// What CreateJob makes of a sample task that reconstructs images of a dataset.
#include <memory>
#include <string>

#include "common/spec/resolve.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/rpc/job_admission.h"

namespace p2::rpc {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kSpec[] = R"(name: tiny
data: {dataset: dots}
model: {image_size: 16, in_channels: 1, model_channels: 32, channel_mult: [1, 2], attention_resolutions: []}
training: {images: 1000, batch: 8}
checkpoint: {root: main}
)";

scheduler::DatasetPtr Dataset(const std::string& id, int resolution, int channels, int64_t images) {
  auto dataset = std::make_shared<scheduler::DatasetRecord>();
  dataset->id = id;
  dataset->root = "pictures";
  dataset->root_id = "root-pictures";
  dataset->path = "datasets/" + id;
  dataset->fingerprint = "fingerprint of " + id;
  dataset->resolution = resolution;
  dataset->channels = channels;
  dataset->image_count = images;
  return dataset;
}

class TaskAdmissionTest : public ::testing::Test {
 protected:
  TaskAdmissionTest() {
    source_.id = "tiny-abcde";
    source_.spec = spec::Resolve({.file_yaml = kSpec, .file_name = "tiny.yaml"})->spec;
    auto checkpoint = std::make_shared<scheduler::CheckpointRecord>();
    checkpoint->id = "000000001000-e1";
    checkpoint->root = "main";
    checkpoint->root_id = "root-main";
    checkpoint->path = "jobs/tiny-abcde/checkpoints/000000001000-e1";
    checkpoint->state = scheduler::CheckpointState::kCommitted;
    source_.checkpoints = {checkpoint};
    auto worker = std::make_shared<scheduler::WorkerRecord>();
    worker->roots.resize(2);
    worker->roots[0].name = "main";
    worker->roots[0].id = "root-main";
    worker->roots[1].name = "pictures";
    worker->roots[1].id = "root-pictures";
    workers_ = {worker};
    request_.set_source("jobs/tiny-abcde");
    request_.mutable_task()->mutable_sample()->set_count(6);
    Reconstruct().add_snrs(0.1);
  }

  p2::v1::SampleTask& Sample() { return *request_.mutable_task()->mutable_sample(); }
  p2::v1::Reconstruction& Reconstruct() { return *Sample().mutable_reconstruct(); }
  absl::StatusOr<Admission> Admit() {
    return rpc::Admit(
        request_, datasets_, workers_, [this](absl::string_view) { return source_; }, specs_);
  }
  std::string Refusal() { return std::string(Admit().status().message()); }

  ResolvedSpecs specs_;
  SourceJob source_;
  std::vector<scheduler::DatasetPtr> datasets_ = {Dataset("dots", 16, 1, 48), Dataset("few", 16, 1, 7),
                                                  Dataset("photos", 64, 3, 1000)};
  std::vector<scheduler::WorkerPtr> workers_;
  p2::v1::CreateJobRequest request_;
};

TEST_F(TaskAdmissionTest, AReconstructionNeedsTheDatasetOfItsJobUnlessItNamesAnother) {
  auto admitted = Admit();
  ASSERT_TRUE(admitted.ok()) << admitted.status();
  EXPECT_EQ(UnnamedJob(*admitted).task().sample().reconstruct().dataset(), "datasets/dots");
  const scheduler::JobNeeds& needs = admitted->command.needs;
  EXPECT_EQ(needs.dataset_root, "pictures");
  EXPECT_EQ(needs.dataset_root_id, "root-pictures");
  EXPECT_EQ(needs.dataset_path, "datasets/dots");
  EXPECT_EQ(needs.dataset_fingerprint, "fingerprint of dots");
  EXPECT_EQ(needs.checkpoint_root_id, "root-main");
  EXPECT_TRUE(needs.writes_output);

  Reconstruct().set_dataset("datasets/few");
  admitted = Admit();
  ASSERT_TRUE(admitted.ok()) << admitted.status();
  EXPECT_EQ(admitted->command.needs.dataset_path, "datasets/few");

  Sample().clear_reconstruct();
  admitted = Admit();
  ASSERT_TRUE(admitted.ok()) << admitted.status();
  EXPECT_EQ(admitted->command.needs.dataset_root, "");
}

TEST_F(TaskAdmissionTest, ProgressCountsAnImageOnceForEachTimestep) {
  Reconstruct().add_timesteps(999);
  Reconstruct().add_snrs(1e-30);  // Timestep 999 again.
  const auto admitted = Admit();
  ASSERT_TRUE(admitted.ok()) << admitted.status();
  EXPECT_EQ(admitted->command.needs.images_total, 12);
}

TEST_F(TaskAdmissionTest, TellsEveryFieldOfAReconstructionThatCannotBe) {
  Reconstruct().clear_snrs();
  Reconstruct().set_dataset("dots");
  Sample().set_format(p2::v1::SampleTask::NPZ);
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("task.sample.reconstruct: says nothing"),
                               HasSubstr("task.sample.reconstruct.dataset"), HasSubstr("task.sample.format: is NPZ")));
}

TEST_F(TaskAdmissionTest, RefusesTimestepsThatTheChainLacks) {
  Sample().set_steps("ddim10");
  Reconstruct().add_timesteps(310);
  EXPECT_THAT(Refusal(),
              HasSubstr("task.sample.reconstruct: timestep 310 is not one of this chain's; the nearest is 300"));
  Reconstruct().clear_timesteps();
  Reconstruct().add_snrs(0);
  EXPECT_THAT(Refusal(), HasSubstr("task.sample.reconstruct: SNR 0 must be a positive number"));
}

TEST_F(TaskAdmissionTest, RefusesMoreThanOneSheetHolds) {
  datasets_ = {Dataset("dots", 16, 1, 5000)};
  Sample().set_count(2048);
  EXPECT_TRUE(Admit().ok()) << Admit().status();
  Sample().set_count(2049);
  EXPECT_THAT(Refusal(), HasSubstr("one sheet holds at most 4096 cells, here 2048 images"));
}

TEST_F(TaskAdmissionTest, RefusesADatasetThatDoesNotFitTheModelOrTheCount) {
  Reconstruct().set_dataset("datasets/photos");
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("has images of 64 pixels, but the model draws 16"),
                               HasSubstr("has 3 channels, but the model has 1")));
  Reconstruct().set_dataset("datasets/few");
  Sample().set_first(1);
  EXPECT_TRUE(Admit().ok()) << Admit().status();
  Sample().set_first(2);
  EXPECT_THAT(Refusal(), HasSubstr("has 7 images, but the task's first is 2 and its count 6"));
  Sample().set_first(~uint64_t{0});
  EXPECT_EQ(Admit().status().code(), absl::StatusCode::kFailedPrecondition);
  Reconstruct().set_dataset("datasets/none");
  EXPECT_EQ(Admit().status().code(), absl::StatusCode::kNotFound);
}

TEST_F(TaskAdmissionTest, AJobThatWasTrainedWithNoDatasetNeedsOneNamed) {
  source_.spec.mutable_data()->clear_dataset();  // An import.
  EXPECT_THAT(Refusal(), HasSubstr("task.sample.reconstruct.dataset: is missing, and job tiny-abcde"));
  Reconstruct().set_dataset("datasets/dots");
  EXPECT_TRUE(Admit().ok()) << Admit().status();
}

TEST_F(TaskAdmissionTest, RefusesADatasetOnARootThatNoWorkerEverReported) {
  datasets_ = {Dataset("dots", 16, 1, 48)};
  auto worker = std::make_shared<scheduler::WorkerRecord>(*workers_[0]);
  worker->roots.pop_back();
  workers_ = {worker};
  EXPECT_THAT(Refusal(), HasSubstr("no worker has ever reported the storage root \"pictures\""));
}

}  // namespace
}  // namespace p2::rpc
