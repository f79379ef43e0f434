#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "worker/checkpoint/checkpoint_reader.h"
#include "worker/checkpoint/checkpoint_writer.h"

namespace p2::checkpoint {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

class CheckpointTest : public ::testing::Test {
 protected:
  void SetUp() override {
    parent_ = absl::StrCat(::testing::TempDir(), "/checkpoint-", ::getpid(), "-",
                           ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(parent_);
  }
  void TearDown() override { fs::remove_all(parent_); }

  Snapshot MakeSnapshot(int64_t images, int64_t epoch = 1) {
    auto memory = std::make_shared<std::vector<float>>(24);
    std::iota(memory->begin(), memory->end(), static_cast<float>(images));
    const TensorView weight{"input_blocks.0.0.weight", {2, 3}, absl::MakeConstSpan(*memory).subspan(0, 6)};
    const TensorView bias{"out.2.bias", {4}, absl::MakeConstSpan(*memory).subspan(6, 4)};
    Snapshot snapshot;
    snapshot.epoch = epoch;
    snapshot.attempt = 7;
    snapshot.ema_profiles = {"0.9999"};
    snapshot.tensors = {{kModelFile, {weight, bias}}, {EmaFile("0.9999"), {weight}}};
    snapshot.state.images_seen = images;
    snapshot.state.step = images / 8;
    snapshot.state.updates = images / 8 - 1;
    snapshot.state.seed = std::numeric_limits<uint64_t>::max();
    snapshot.state.batch = 8;
    snapshot.state.skipped = {{8, 16}};
    snapshot.state.fingerprint = {{"torch", "2.11.0"}};
    snapshot.state.metric_sums = {0.1, 1e300};
    snapshot.spec_json = "{\"seed\": 1}";
    snapshot.memory = memory;
    return snapshot;
  }

  std::string Path(const std::string& name, const std::string& file = "") {
    return absl::StrCat(parent_, "/", name, file.empty() ? "" : "/", file);
  }

  void FlipByte(const std::string& path, int64_t at) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(at);
    const char byte = static_cast<char>(file.get() ^ 1);
    file.seekp(at);
    file.put(byte);
  }

  std::string parent_;
};

TEST_F(CheckpointTest, ComesBackAsItWasWritten) {
  const Snapshot snapshot = MakeSnapshot(80);
  auto written = WriteCheckpoint(parent_, snapshot);
  ASSERT_TRUE(written.ok()) << written.status();
  EXPECT_EQ(written->name, "000000000080-e1");
  EXPECT_EQ(written->manifest_sha256.size(), 64u);

  auto checkpoint = Checkpoint::Open(Path(written->name));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->state(), snapshot.state);
  EXPECT_EQ((*checkpoint)->manifest(), written->manifest);
  EXPECT_EQ((*checkpoint)->manifest().attempt, 7);
  EXPECT_EQ((*checkpoint)->spec_json(), snapshot.spec_json);
  std::vector<float> weight(6), bias(4);
  ASSERT_TRUE((*checkpoint)
                  ->Read(kModelFile, {{"input_blocks.0.0.weight", {2, 3}, absl::MakeSpan(weight)},
                                      {"out.2.bias", {4}, absl::MakeSpan(bias)}})
                  .ok());
  EXPECT_THAT(weight, ElementsAre(80, 81, 82, 83, 84, 85));
  EXPECT_THAT(bias, ElementsAre(86, 87, 88, 89));
}

TEST_F(CheckpointTest, LeavesNothingTemporaryBehind) {
  ASSERT_TRUE(WriteCheckpoint(parent_, MakeSnapshot(80)).ok());
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(parent_)) names.push_back(entry.path().filename());
  EXPECT_THAT(names, ElementsAre("000000000080-e1"));
}

TEST_F(CheckpointTest, NamesTheFileThatIsDamagedAndWhatDiffers) {
  ASSERT_TRUE(WriteCheckpoint(parent_, MakeSnapshot(80)).ok());
  for (const char* file : {kModelFile, kStateFile, kSpecFile}) {
    const std::string path = Path("000000000080-e1", file);
    FlipByte(path, static_cast<int64_t>(fs::file_size(path)) - 1);
    const absl::Status status = Checkpoint::Open(Path("000000000080-e1")).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat(file, " is damaged: SHA-256")));
    FlipByte(path, static_cast<int64_t>(fs::file_size(path)) - 1);
  }
  EXPECT_TRUE(Checkpoint::Open(Path("000000000080-e1")).ok());
}

TEST_F(CheckpointTest, NoticesEachFlippedByteOfItsManifestThatMatters) {
  ASSERT_TRUE(WriteCheckpoint(parent_, MakeSnapshot(80)).ok());
  const std::string path = Path("000000000080-e1", kManifestFile);
  std::ifstream in(path);
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  for (const char* member : {"\"images_seen\": ", "\"epoch\": ", "\"size_bytes\": ", "\"sha256\": \""}) {
    const int64_t at = static_cast<int64_t>(text.find(member) + std::string(member).size());
    FlipByte(path, at);
    EXPECT_FALSE(Checkpoint::Open(Path("000000000080-e1")).ok()) << member;
    FlipByte(path, at);
  }
}

TEST_F(CheckpointTest, TellsATruncatedFromAMissingFile) {
  ASSERT_TRUE(WriteCheckpoint(parent_, MakeSnapshot(80)).ok());
  const std::string path = Path("000000000080-e1", kModelFile);
  fs::resize_file(path, 10);
  EXPECT_THAT(std::string(Checkpoint::Open(Path("000000000080-e1")).status().message()),
              HasSubstr("has 10 bytes; the manifest says"));
  fs::remove(path);
  EXPECT_THAT(std::string(Checkpoint::Open(Path("000000000080-e1")).status().message()),
              HasSubstr("model.safetensors is missing"));
}

TEST_F(CheckpointTest, DoesNotExistWithoutItsManifest) {
  ASSERT_TRUE(WriteCheckpoint(parent_, MakeSnapshot(80)).ok());
  fs::remove(Path("000000000080-e1", kManifestFile));
  EXPECT_EQ(Checkpoint::Open(Path("000000000080-e1")).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(CheckpointTest, RefusesNumbersThatAreNotWhole) {
  std::string manifest = ManifestToJson({8, 1, 1, {}, {{"a", 1, std::string(64, 'a')}}});
  for (const char* number : {"1e300", "-1", "1.5", "9223372036854775808", "null"}) {
    for (const char* key : {"version", "images_seen", "epoch", "attempt", "size_bytes"}) {
      const std::string name = absl::StrCat("\"", key, "\": ");
      const size_t at = manifest.find(name) + name.size();
      std::string damaged = manifest;
      damaged.replace(at, 1, number);
      const absl::Status status = ManifestFromJson(damaged).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << damaged;
      EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat(key, " is"))) << damaged;
    }
  }
}

TEST_F(CheckpointTest, RefusesAManifestThatPointsOutsideOfItsDirectory) {
  const Manifest manifest{8, 1, 1, {}, {{"../secret", 1, std::string(64, 'a')}}};
  EXPECT_EQ(ManifestFromJson(ManifestToJson(manifest)).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(CheckpointTest, RefusesAFormatThatIsNewer) {
  EXPECT_EQ(ManifestFromJson(R"({"format": "p2-checkpoint", "version": 2})").status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(CheckpointTest, RefusesTensorsOfAnotherModelByNameAndShape) {
  ASSERT_TRUE(WriteCheckpoint(parent_, MakeSnapshot(80)).ok());
  auto checkpoint = Checkpoint::Open(Path("000000000080-e1"));
  std::vector<float> data(6);
  const auto message = [&](std::vector<MutableTensorView> views) {
    return std::string((*checkpoint)->Read(kModelFile, views).message());
  };
  EXPECT_THAT(message({{"input_blocks.0.0.weight", {3, 2}, absl::MakeSpan(data)}}),
              HasSubstr("is F32(2, 3); this spec's is F32(3, 2)"));
  EXPECT_THAT(message({{"middle", {6}, absl::MakeSpan(data)}}), HasSubstr("has no tensor middle"));
  EXPECT_THAT(message({{"input_blocks.0.0.weight", {2, 3}, absl::MakeSpan(data)}}), HasSubstr("also has out.2.bias"));
}

TEST_F(CheckpointTest, FallsBackToTheNextGoodCandidateAndSaysWhy) {
  ASSERT_TRUE(WriteCheckpoint(parent_, MakeSnapshot(80)).ok());
  ASSERT_TRUE(WriteCheckpoint(parent_, MakeSnapshot(160)).ok());
  ASSERT_TRUE(WriteCheckpoint(parent_, MakeSnapshot(160, 2)).ok());
  EXPECT_THAT(ListCheckpoints(parent_), ElementsAre("000000000160-e2", "000000000160-e1", "000000000080-e1"));
  const std::string newest = Path("000000000160-e2", kModelFile);
  FlipByte(newest, static_cast<int64_t>(fs::file_size(newest)) - 1);
  const auto opened = OpenFirstGood(parent_, {"../etc", "000000000160-e2", "000000000160-e1", "000000000080-e1"});
  ASSERT_TRUE(opened.ok()) << opened.status();
  const FirstGood& good = *opened;
  ASSERT_NE(good.checkpoint, nullptr);
  EXPECT_EQ(good.checkpoint->manifest().images_seen, 160);
  EXPECT_EQ(good.checkpoint->manifest().epoch, 1);
  ASSERT_EQ(good.passed_over.size(), 2u);
  EXPECT_THAT(std::string(good.passed_over[0].message()), HasSubstr("no checkpoint's name"));
  EXPECT_THAT(std::string(good.passed_over[1].message()), HasSubstr("model.safetensors is damaged"));
}

TEST_F(CheckpointTest, WhatMayBeGoodTomorrowIsAnErrorAndNoDamage) {
  ASSERT_TRUE(WriteCheckpoint(parent_, MakeSnapshot(80)).ok());
  ASSERT_TRUE(WriteCheckpoint(parent_, MakeSnapshot(160)).ok());
  const std::vector<std::string> candidates = {"000000000160-e1", "000000000080-e1"};
  // The root is not mounted.
  const absl::Status away = OpenFirstGood(parent_ + "/away", candidates).status();
  EXPECT_TRUE(absl::IsUnavailable(away)) << away;
  EXPECT_THAT(std::string(away.message()), HasSubstr("/away"));
  // A file that cannot be opened now: a link in a circle stands for it, since root may open everything.
  const std::string file = Path("000000000160-e1", kModelFile);
  fs::rename(file, file + ".kept");
  fs::create_symlink(file, file);
  EXPECT_FALSE(OpenFirstGood(parent_, candidates).ok());
  fs::remove(file);
  fs::rename(file + ".kept", file);
  EXPECT_NE(OpenFirstGood(parent_, candidates)->checkpoint, nullptr);
  // A newer p2 wrote it.
  std::ifstream in(Path("000000000160-e1", kManifestFile));
  std::string manifest((std::istreambuf_iterator<char>(in)), {});
  const std::string version = "\"version\": 1";
  const size_t at = manifest.find(version);
  ASSERT_NE(at, std::string::npos) << manifest;
  std::string newer = manifest;
  newer.replace(at, version.size(), "\"version\": 2, \"shards\": 1");
  std::ofstream(Path("000000000160-e1", kManifestFile)) << newer;
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenFirstGood(parent_, candidates).status()));
  // But for the number it is one of this version: damage, and the one before is good.
  for (const char* number : {"11", "9"}) {
    std::string damaged = manifest;
    damaged.replace(at, version.size(), absl::StrCat("\"version\": ", number));
    std::ofstream(Path("000000000160-e1", kManifestFile)) << damaged;
    const auto opened = OpenFirstGood(parent_, candidates);
    ASSERT_TRUE(opened.ok()) << opened.status();
    ASSERT_THAT(opened->passed_over, testing::SizeIs(1));
    EXPECT_THAT(std::string(opened->passed_over[0].message()), HasSubstr(absl::StrCat("its version is ", number)));
  }
}

TEST_F(CheckpointTest, KeepsAGoodCheckpointOfTheSameNameAndReplacesADamagedOne) {
  ASSERT_TRUE(WriteCheckpoint(parent_, MakeSnapshot(80)).ok());
  ASSERT_TRUE(WriteCheckpoint(parent_, MakeSnapshot(80)).ok());
  fs::resize_file(Path("000000000080-e1", kModelFile), 3);
  ASSERT_TRUE(WriteCheckpoint(parent_, MakeSnapshot(80)).ok());
  EXPECT_TRUE(Checkpoint::Open(Path("000000000080-e1")).ok());
}

TEST_F(CheckpointTest, RemovesOnlyTemporariesOfOlderEpochs) {
  fs::create_directories(Path(".tmp-000000000080-e1"));
  fs::create_directories(Path(".tmp-000000000080-e2"));
  fs::create_directories(Path("mine"));
  RemoveStaleTemporaries(parent_, 2);
  EXPECT_FALSE(fs::exists(Path(".tmp-000000000080-e1")));
  EXPECT_TRUE(fs::exists(Path(".tmp-000000000080-e2")));
  EXPECT_TRUE(fs::exists(Path("mine")));
}

TEST_F(CheckpointTest, RemovesATreeButNotWhatItsLinksPointTo) {
  fs::create_directories(Path("tree/inner"));
  std::ofstream(Path("outside")) << "kept";
  fs::create_symlink(Path("outside"), Path("tree/inner/link"));
  EXPECT_TRUE(RemoveTree(Path("tree")));
  EXPECT_FALSE(fs::exists(Path("tree")));
  EXPECT_TRUE(fs::exists(Path("outside")));
  EXPECT_FALSE(RemoveTree(Path("tree")));
}

TEST_F(CheckpointTest, ReportsADirectoryThatCannotBeWritten) {
  std::ofstream(parent_) << "a file, not a directory";
  EXPECT_FALSE(WriteCheckpoint(parent_, MakeSnapshot(80)).ok());
  EXPECT_THAT(ListCheckpoints(parent_), IsEmpty());
}

TEST_F(CheckpointTest, ValuesMayArriveWhileTheCallerGoesOn) {
  absl::Notification caller_went_on;
  BackgroundWriter writer(parent_, nullptr, [](const absl::StatusOr<WrittenCheckpoint>&) {});
  Snapshot on_its_way;
  on_its_way.arrive = [&](Snapshot* snapshot) {
    caller_went_on.WaitForNotification();
    *snapshot = MakeSnapshot(80);
    return absl::OkStatus();
  };
  writer.Start(on_its_way);
  caller_went_on.Notify();
  ASSERT_TRUE(writer.Wait().ok());
  auto checkpoint = Checkpoint::Open(Path("000000000080-e1"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->state(), MakeSnapshot(80).state);

  Snapshot lost;
  lost.arrive = [](Snapshot*) { return absl::InternalError("the device is gone"); };
  writer.Start(lost);
  EXPECT_EQ(writer.Wait(), absl::InternalError("the device is gone"));
  EXPECT_THAT(ListCheckpoints(parent_), ElementsAre("000000000080-e1"));
}

TEST_F(CheckpointTest, WritesInTheBackgroundWhileTheCallerGoesOn) {
  absl::Notification caller_went_on;
  std::string name;
  int files = 0;
  BackgroundWriter writer(
      parent_,
      [&] {
        caller_went_on.WaitForNotification();
        ++files;
      },
      [&](const absl::StatusOr<WrittenCheckpoint>& written) { name = written->name; });
  writer.Start(MakeSnapshot(80));
  EXPECT_THAT(ListCheckpoints(parent_), IsEmpty());
  caller_went_on.Notify();
  EXPECT_TRUE(writer.Wait().ok());
  EXPECT_EQ(name, "000000000080-e1");
  EXPECT_EQ(files, 4);
  EXPECT_TRUE(Checkpoint::Open(Path(name)).ok());
}

}  // namespace
}  // namespace p2::checkpoint
