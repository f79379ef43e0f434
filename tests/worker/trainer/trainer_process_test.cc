// p2-trainer as a process: by hand, under a launcher's variables, and as the agent starts it.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <thread>

#include "absl/strings/str_cat.h"
#include "google/protobuf/util/delimited_message_util.h"
#include "google/protobuf/util/json_util.h"
#include "p2/trainer/v1/pipes.pb.h"
#include "p2/v1/launch.pb.h"
#include "tests/support/directory_watch.h"
#include "tests/support/trainer_child.h"
#include "tests/worker/trainer/tiny_dataset.h"
#include "worker/checkpoint/checkpoint_reader.h"
#include "worker/trainer/spec_seam.h"

namespace p2::trainer {
namespace {

namespace fs = std::filesystem;
namespace pb = ::p2::trainer::v1;
using p2::testing::WaitForFiles;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using Child = p2::testing::TrainerChild;
using Env = std::map<std::string, std::string>;

constexpr char kSpec[] = R"(
model: {image_size: 16, in_channels: 1, model_channels: 32, channel_mult: [1], attention_resolutions: [], num_head_channels: 32}
training: {images: 36, batch: 6, learning_rate: 1e-3, log_every_images: 6}
ema: [{rate: 0.9, warmup: true}]
preview: {every_images: 0, count: 2, steps: "3"}
resources: {threads: 1}
deadlines: {start: 30s, step: 30s, preview: 30s, save: 30s, stop: 30s}
)";

std::string FileText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

class TrainerProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = FreshDir();
    MakeTinyDataset(dir_ + "/data");
    std::ofstream(dir_ + "/spec.yaml") << kSpec;
    log_ = dir_ + "/output";
  }
  void TearDown() override {
    if (HasFailure()) std::fprintf(stderr, "%s\n", FileText(log_).c_str());
    if (socket_ >= 0) ::close(socket_);
  }

  std::vector<std::string> Standalone(const std::string& out, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments{"--standalone", dir_ + "/spec.yaml", "--data",   dir_ + "/data",
                                       "--out",        dir_ + "/" + out,    "--device", "cpu"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  int RunToEnd(const std::vector<std::string>& arguments, const Env& env = {}) {
    return Child(arguments, env, log_).Wait();
  }

  // Variables of a rank, with the listening socket that rank 0 inherits.
  Env Rank(int rank, int world_size) {
    if (socket_ < 0) {
      socket_ = ::socket(AF_INET, SOCK_STREAM, 0);
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      socklen_t size = sizeof(address);
      EXPECT_EQ(::bind(socket_, reinterpret_cast<sockaddr*>(&address), size), 0);
      EXPECT_EQ(::listen(socket_, 64), 0);
      EXPECT_EQ(::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size), 0);
      port_ = ntohs(address.sin_port);
    }
    Env env{{"RANK", absl::StrCat(rank)},
            {"LOCAL_RANK", absl::StrCat(rank)},
            {"WORLD_SIZE", absl::StrCat(world_size)},
            {"LOCAL_WORLD_SIZE", absl::StrCat(world_size)},
            {"MASTER_ADDR", "127.0.0.1"},
            {"MASTER_PORT", absl::StrCat(port_)}};
    if (rank == 0) env["P2_STORE_FD"] = absl::StrCat(socket_);
    return env;
  }

  bool Trains(const std::string& out) {
    const std::string csv = FileText(dir_ + "/" + out + "/progress.csv");
    return std::count(csv.begin(), csv.end(), '\n') > 2;
  }
  bool WaitUntilItTrains(const std::string& out) {
    fs::create_directories(dir_ + "/" + out);
    return WaitForFiles(dir_ + "/" + out, [&] { return Trains(out); });
  }
  std::vector<std::string> Checkpoints(const std::string& out) {
    return checkpoint::ListCheckpoints(dir_ + "/" + out + "/checkpoints");
  }
  std::map<std::string, std::string> Digests(const std::string& out, const std::string& name) {
    std::map<std::string, std::string> digests;
    const auto checkpoint = checkpoint::Checkpoint::Open(absl::StrCat(dir_, "/", out, "/checkpoints/", name));
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    if (!checkpoint.ok()) return digests;
    for (const auto& file : (*checkpoint)->manifest().files) {
      if (file.path.find(".safetensors") != std::string::npos) digests[file.path] = file.sha256;
    }
    return digests;
  }

  // What p2-worker hands over.
  std::vector<std::string> Launched(int64_t images) {
    std::vector<std::string> warnings;
    p2::v1::Launch launch;
    const auto options = OptionsFromSpec(dir_ + "/spec.yaml", {}, &warnings);
    EXPECT_TRUE(options.ok()) << options.status();
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(options->spec_json, launch.mutable_spec()).ok());
    launch.mutable_spec()->mutable_training()->set_images(images);
    launch.set_job_id("job-a");
    launch.set_attempt(1);
    launch.set_epoch(1);
    launch.set_dataset_dir(dir_ + "/data");
    launch.set_checkpoint_root(dir_);
    launch.set_checkpoint_dir(dir_ + "/jobs/job-a");
    launch.set_work_dir(dir_);
    launch.set_rendezvous_nonce("n");
    std::ofstream(dir_ + "/launch") << launch.SerializeAsString();
    return {"--launch", dir_ + "/launch"};
  }
  std::vector<pb::TrainerEvent> Events(const std::string& bytes) {
    google::protobuf::io::ArrayInputStream stream(bytes.data(), static_cast<int>(bytes.size()));
    std::vector<pb::TrainerEvent> events;
    for (bool clean_end = false;;) {
      pb::TrainerEvent event;
      if (!google::protobuf::util::ParseDelimitedFromZeroCopyStream(&event, &stream, &clean_end)) return events;
      events.push_back(event);
    }
  }
  bool HasMetrics(const std::string& bytes) {
    for (const auto& event : Events(bytes)) {
      if (event.has_metrics()) return true;
    }
    return false;
  }

  std::string dir_;
  std::string log_;
  int socket_ = -1;
  int port_ = 0;
};

TEST_F(TrainerProcessTest, TrainsByHandAndGoesOnWhenToldTo) {
  ASSERT_EQ(RunToEnd(Standalone("out")), 0);
  EXPECT_THAT(Checkpoints("out"), SizeIs(1));
  EXPECT_TRUE(fs::exists(dir_ + "/out/samples-000000036.png"));
  EXPECT_TRUE(Trains("out"));
  EXPECT_EQ(RunToEnd(Standalone("out")), 64);
  EXPECT_THAT(FileText(log_), HasSubstr("go on with it by --resume"));
  EXPECT_EQ(RunToEnd(Standalone("out", {"--resume", "--set", "training.images=48"})), 0);
  EXPECT_THAT(Checkpoints("out"), Contains("000000000048-e2"));
  EXPECT_THAT(FileText(log_), HasSubstr("000000000036-e1 at 36 images"));
}

TEST_F(TrainerProcessTest, ExplainsItselfAndRefusesNonsense) {
  EXPECT_EQ(RunToEnd({"--help"}), 0);
  EXPECT_EQ(RunToEnd({"--version"}), 0);
  EXPECT_THAT(FileText(log_), HasSubstr("--standalone"));
  EXPECT_EQ(RunToEnd({}), 64);
  EXPECT_EQ(RunToEnd({"--standalone", "ffhq-gama0.5", "--data", "x", "--out", dir_ + "/o"}), 64);
  EXPECT_THAT(FileText(log_), HasSubstr("ffhq-gamma0.5"));
  EXPECT_EQ(RunToEnd(Standalone("out", {"--set", "training.batch=0"})), 64);
  EXPECT_EQ(RunToEnd({"--launch", dir_ + "/none"}), 64);
}

TEST_F(TrainerProcessTest, StopsAllRanksWithOneCheckpointWhenAnyGetsSigterm) {
  const std::vector<std::string> long_run{"--set", "training.images=6000"};
  {
    Child zero(Standalone("parts", long_run), Rank(0, 2), log_), one(Standalone("parts", long_run), Rank(1, 2), log_);
    ASSERT_TRUE(WaitUntilItTrains("parts"));
    one.Signal(SIGTERM);
    EXPECT_EQ(zero.Wait(), 40);
    EXPECT_EQ(one.Wait(), 40);
  }
  ASSERT_THAT(Checkpoints("parts"), SizeIs(1));
  int64_t images = 0, epoch = 0;
  ASSERT_TRUE(checkpoint::ParseDirectoryName(Checkpoints("parts")[0], &images, &epoch));
  // On to 4 steps later: equal to the run that was never stopped, bit for bit.
  const std::vector<std::string> end{"--resume", "--set", absl::StrCat("training.images=", images + 24)};
  for (const char* out : {"parts", "whole"}) {
    Child zero(Standalone(out, end), Rank(0, 2), log_), one(Standalone(out, end), Rank(1, 2), log_);
    EXPECT_EQ(zero.Wait(), 0);
    EXPECT_EQ(one.Wait(), 0);
  }
  EXPECT_EQ(Digests("parts", Checkpoints("parts")[0]), Digests("whole", Checkpoints("whole")[0]));
}

TEST_F(TrainerProcessTest, EndsAsCommWhenAPeerIsKilled) {
  const std::vector<std::string> long_run{"--set", "training.images=600000"};
  Child zero(Standalone("out", long_run), Rank(0, 2), log_), one(Standalone("out", long_run), Rank(1, 2), log_);
  ASSERT_TRUE(WaitUntilItTrains("out"));
  one.Signal(SIGKILL);
  EXPECT_EQ(zero.Wait(), 50);
}

TEST_F(TrainerProcessTest, StopsWhileItWaitsForAPeerThatNeverComes) {
  Env env = Rank(0, 2);
  env["P2_EVENT_LOG"] = dir_ + "/events";
  Child alone(Launched(36), env, log_);
  ASSERT_TRUE(WaitForFiles(dir_, [&] { return fs::exists(dir_ + "/events"); }));
  alone.Signal(SIGTERM);
  EXPECT_EQ(alone.Wait(), 40);
  EXPECT_EQ(Events(FileText(dir_ + "/events")).back().finished().outcome(), pb::Finished::STOPPED);
}

TEST_F(TrainerProcessTest, TellsTheAgentAllAndStopsWhenItIsGone) {
  int events[2], commands[2];
  ASSERT_EQ(::pipe(events), 0);
  ASSERT_EQ(::pipe(commands), 0);
  ::fcntl(events[0], F_SETFD, FD_CLOEXEC);
  ::fcntl(commands[1], F_SETFD, FD_CLOEXEC);
  const std::string event_log = dir_ + "/events";
  Child trainer(Launched(600000),
                {{"P2_EVENT_FD", absl::StrCat(events[1])},
                 {"P2_COMMAND_FD", absl::StrCat(commands[0])},
                 {"P2_EVENT_LOG", event_log},
                 {"P2_DEVICE", "cpu:0"}},
                log_);
  ::close(events[1]);
  ::close(commands[0]);
  std::string bytes;
  std::thread reader([&] {
    char piece[4096];
    for (ssize_t n; (n = ::read(events[0], piece, sizeof(piece))) > 0;) bytes.append(piece, static_cast<size_t>(n));
  });
  EXPECT_TRUE(WaitForFiles(dir_, [&] { return HasMetrics(FileText(event_log)); }));
  ::close(commands[1]);
  EXPECT_EQ(trainer.Wait(), 40);
  reader.join();
  ::close(events[0]);

  const auto all = Events(bytes);
  EXPECT_EQ(bytes, FileText(event_log));
  ASSERT_FALSE(all.empty());
  for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i].sequence(), i + 1);
  const pb::TrainerEvent& last = all.back();
  EXPECT_EQ(last.finished().outcome(), pb::Finished::STOPPED);
  EXPECT_EQ(last.finished().exit_code(), 40);
  const pb::CheckpointSaved* saved = nullptr;
  for (const auto& event : all) {
    if (event.has_checkpoint()) saved = &event.checkpoint();
  }
  ASSERT_NE(saved, nullptr);
  EXPECT_EQ(saved->images_seen(), last.finished().images_seen());
  EXPECT_THAT(saved->path(), HasSubstr("jobs/job-a/"));
  EXPECT_TRUE(checkpoint::Checkpoint::Open(dir_ + "/" + saved->path()).ok());
}

TEST_F(TrainerProcessTest, CheckpointsAndEndsWhenItsParentIsKilled) {
  const std::string event_log = dir_ + "/events";
  Launched(600000);
  const std::string command = absl::StrCat("P2_DEVICE=cpu:0 P2_EVENT_LOG='", event_log, "' '", P2_BIN_DIR,
                                           "/p2-trainer' --launch '", dir_, "/launch' 2>>'", log_, "' & wait");
  const char* argv[] = {"/bin/sh", "-c", command.c_str(), nullptr};
  pid_t parent = 0;
  ASSERT_EQ(::posix_spawn(&parent, argv[0], nullptr, nullptr, const_cast<char**>(argv), environ), 0);
  EXPECT_TRUE(WaitForFiles(dir_, [&] { return HasMetrics(FileText(event_log)); }));
  ::kill(parent, SIGKILL);
  ::waitpid(parent, nullptr, 0);
  ASSERT_TRUE(WaitForFiles(dir_, [&] {
    const auto all = Events(FileText(event_log));
    return !all.empty() && all.back().has_finished();
  }));
  EXPECT_EQ(Events(FileText(event_log)).back().finished().exit_code(), 40);
  EXPECT_THAT(checkpoint::ListCheckpoints(dir_ + "/jobs/job-a"), SizeIs(1));
}

TEST_F(TrainerProcessTest, FinishesWithDoneForTheAgent) {
  const std::string event_log = dir_ + "/events";
  EXPECT_EQ(RunToEnd(Launched(36), {{"P2_EVENT_LOG", event_log}, {"P2_DEVICE", "cpu:0"}}), 0);
  const auto all = Events(FileText(event_log));
  std::vector<std::string> kinds;
  for (const auto& event : all) {
    if (!event.has_progress() && !event.has_metrics())
      kinds.push_back(event.GetDescriptor()->FindFieldByNumber(event.event_case())->name());
  }
  EXPECT_THAT(kinds, ::testing::ElementsAre("started", "checkpoint", "artifact", "finished"));
  EXPECT_EQ(all.back().finished().outcome(), pb::Finished::DONE);
}

}  // namespace
}  // namespace p2::trainer
