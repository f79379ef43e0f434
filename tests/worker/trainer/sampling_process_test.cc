// p2-trainer sample and reconstruct as processes, on a checkpoint of the tiny golden model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/image/decode.h"
#include "common/image/png_write.h"
#include "tests/support/directory_watch.h"
#include "tests/support/golden_checkpoint.h"
#include "tests/support/trainer_child.h"
#include "tests/worker/trainer/tiny_dataset.h"
#include "worker/checkpoint/checkpoint_reader.h"
#include "worker/trainer/spec_seam.h"

namespace p2::trainer {
namespace {

namespace fs = std::filesystem;
using p2::testing::TrainerChild;
using p2::testing::WaitForFiles;
using ::testing::HasSubstr;
using Arguments = std::vector<std::string>;
using Environment = std::map<std::string, std::string>;

std::string FileText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// Names and contents of the files under `dir`, those of its sub-directories among them.
std::map<std::string, std::string> Files(const std::string& dir) {
  std::map<std::string, std::string> files;
  for (const std::string& name : checkpoint::NamesIn(dir)) {
    if (name == "." || name == "..") continue;
    const std::string path = absl::StrCat(dir, "/", name);
    if (fs::is_directory(path)) {
      for (const auto& [below, text] : Files(path)) files[absl::StrCat(name, "/", below)] = text;
    } else {
      files[name] = FileText(path);
    }
  }
  return files;
}

// Files in `dir` whose names end so.
int64_t CountWith(const std::string& dir, const std::string& suffix) {
  int64_t count = 0;
  for (const std::string& name : checkpoint::NamesIn(dir)) count += absl::EndsWith(name, suffix);
  return count;
}

class SamplingProcessTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = absl::StrCat(::testing::TempDir(), "/p2-sampling-process-", ::getpid());
    fs::create_directories(dir_);
    std::ofstream(dir_ + "/spec.yaml") << p2::testing::kTinySpecYaml;
    std::vector<std::string> warnings;
    const auto options = OptionsFromSpec(dir_ + "/spec.yaml", {}, &warnings);
    ASSERT_TRUE(options.ok()) << options.status();
    checkpoint_ = p2::testing::WriteGoldenCheckpoint(dir_ + "/checkpoints", options->spec_json);
  }
  static void TearDownTestSuite() { checkpoint::RemoveTree(dir_); }

  // The log is of the last one that was started.
  std::unique_ptr<TrainerChild> Start(const Arguments& arguments, const Environment& environment = {}) {
    fs::remove(dir_ + "/output");
    return std::make_unique<TrainerChild>(arguments, environment, dir_ + "/output");
  }
  int Run(const Arguments& arguments, const Environment& environment = {}) {
    return Start(arguments, environment)->Wait();
  }

  Arguments Sample(const std::string& out, int64_t count, const Arguments& more = {}) {
    Arguments arguments{"sample",  checkpoint_, "--out",    Out(out), "--count", absl::StrCat(count),
                        "--steps", "3",         "--device", "cpu",    "--seed",  "11"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  std::string Out(const std::string& name) {
    const auto* const test = ::testing::UnitTest::GetInstance()->current_test_info();
    return absl::StrCat(dir_, "/", test->name(), "-", name);
  }
  std::string Log() { return FileText(dir_ + "/output"); }

  static inline std::string dir_, checkpoint_;
};

TEST_F(SamplingProcessTest, TheSameImagesWhateverTheBatchTheThreadsAndTheRanks) {
  ASSERT_EQ(Run(Sample("whole", 6, {"--threads", "1"})), 0) << Log();
  EXPECT_THAT(Log(), HasSubstr("6 images in"));
  const auto whole = Files(Out("whole"));
  EXPECT_EQ(whole.size(), 7u);
  ASSERT_EQ(Run(Sample("threads", 6, {"--threads", "2"})), 0) << Log();
  EXPECT_EQ(Files(Out("threads")), whole);
  ASSERT_EQ(Run(Sample("batch", 6, {"--threads", "3", "--batch", "2"})), 0) << Log();
  EXPECT_EQ(Files(Out("batch")), whole);
  std::vector<std::unique_ptr<TrainerChild>> ranks;
  for (int rank = 0; rank < 4; ++rank) {
    ranks.push_back(Start(Sample("ranks", 6, {"--threads", "1"}), {{"RANK", absl::StrCat(rank)}, {"WORLD_SIZE", "4"}}));
  }
  for (const auto& rank : ranks) EXPECT_EQ(rank->Wait(), 0);
  EXPECT_EQ(Files(Out("ranks")), whole);
  // One of them alone.
  ASSERT_EQ(Run(Sample("one", 1, {"--first", "4", "--threads", "2"})), 0) << Log();
  EXPECT_EQ(Files(Out("one")), (std::map<std::string, std::string>{{"000004.png", whole.at("000004.png")},
                                                                   {"sample.json", whole.at("sample.json")}}));
}

TEST_F(SamplingProcessTest, GoesOnAfterSigtermAndSigkill) {
  constexpr int kCount = 24;  // Three cells: what is drawn at once is written at once.
  for (const char* format : {"png", "npz", "grid"}) {
    const Arguments more{"--format", format, "--steps", "8", "--threads", "1"};
    Arguments arguments = Sample(absl::StrCat("whole-", format), kCount, more);
    arguments.erase(arguments.begin() + 6, arguments.begin() + 8);  // The other --steps.
    ASSERT_EQ(Run(arguments), 0) << Log();
    const auto whole = Files(Out(absl::StrCat("whole-", format)));

    arguments[3] = Out(absl::StrCat("parts-", format));
    const bool png = std::string(format) == "png";
    const auto images = [&] {
      return png ? CountWith(arguments[3], ".png") : CountWith(arguments[3] + "/parts", ".u8");
    };
    const std::string written = png ? arguments[3] : arguments[3] + "/parts";
    fs::create_directories(written);
    int64_t before = 0;
    for (const int signal : {SIGKILL, SIGTERM}) {
      const auto child = Start(arguments);
      EXPECT_TRUE(WaitForFiles(written, [&] { return images() > before; }));
      child->Signal(signal);
      EXPECT_EQ(child->Wait(), signal == SIGKILL ? -1 : 40) << Log();
      EXPECT_GT(images(), before);
      EXPECT_LT(images(), kCount);
      before = images();
    }
    EXPECT_THAT(Log(), HasSubstr("the same command goes on"));
    ASSERT_EQ(Run(arguments), 0) << Log();
    EXPECT_THAT(Log(), HasSubstr(absl::StrCat(before, " were there")));
    auto parts = Files(arguments[3]);
    EXPECT_EQ(parts, whole) << format;
  }
}

TEST_F(SamplingProcessTest, DrawsFromTheAverageUnlessToldOtherwise) {
  ASSERT_EQ(Run(Sample("default", 1)), 0) << Log();
  ASSERT_EQ(Run(Sample("ema", 1, {"--ema", "0.9999"})), 0) << Log();
  ASSERT_EQ(Run(Sample("raw", 1, {"--raw"})), 0) << Log();
  EXPECT_EQ(Files(Out("default")), Files(Out("ema")));
  EXPECT_NE(Files(Out("default")).at("000000.png"), Files(Out("raw")).at("000000.png"));
  EXPECT_EQ(Run(Sample("none", 1, {"--ema", "0.5"})), 2);
  EXPECT_THAT(Log(), HasSubstr("it has 0.9999"));
}

TEST_F(SamplingProcessTest, RefusesWithACodeAndAReason) {
  EXPECT_EQ(Run({"sample", "--help"}), 0);
  EXPECT_EQ(Run({"sample"}), 2);
  EXPECT_EQ(Run(Sample("x", 0)), 2);
  EXPECT_EQ(Run(Sample("x", 1, {"--ddim", "7"})), 2);
  EXPECT_EQ(Run(Sample("x", 1, {"--format", "gif"})), 2);
  EXPECT_EQ(Run({"sample", dir_, "--out", Out("x"), "--count", "1"}), 1);
  EXPECT_THAT(Log(), HasSubstr("is not a checkpoint"));
  Arguments steps = Sample("x", 1);
  steps[7] = "4000";
  EXPECT_EQ(Run(steps), 2);
  EXPECT_FALSE(fs::exists(Out("x")));
  ASSERT_EQ(Run(Sample("mine", 1)), 0);
  Arguments other = Sample("mine", 1);
  other.back() = "12";
  EXPECT_EQ(Run(other), 1);
  EXPECT_THAT(Log(), HasSubstr("its seed is 11, this one's 12"));
  fs::create_directories(Out("file"));
  std::ofstream(Out("file") + "/x") << "no directory";
  Arguments full = Sample("file", 1);
  full[3] += "/x";
  EXPECT_EQ(Run(full), 1);
  EXPECT_THAT(Log(), HasSubstr("cannot create"));
}

TEST_F(SamplingProcessTest, ReconstructsPngsToAGridBySnr) {
  image::Image input{32, 32, 3, {}};
  for (int i = 0; i < 32 * 32 * 3; ++i) input.pixels.push_back(static_cast<uint8_t>(i * 7));
  const std::string png = dir_ + "/input.png";
  ASSERT_TRUE(image::WritePng(input, png).ok());
  const auto arguments = [&](const std::string& out, const Arguments& more) {
    Arguments all{"reconstruct", checkpoint_, "--out", Out(out),   "--images", png,
                  png,           "--steps",   "10",    "--device", "cpu"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  ASSERT_EQ(Run(arguments("snr", {"--snr", "1e-4,1", "--threads", "1"})), 0) << Log();
  EXPECT_THAT(Log(), HasSubstr("SNR 1: timestep 222, whose SNR is"));
  const auto files = Files(Out("snr"));
  EXPECT_TRUE(files.contains("t0999/000001.png") && files.contains("t0222/000000.png"));
  EXPECT_NE(files.at("t0222/000000.png"), files.at("t0222/000001.png"));  // Each image has noise of its own.
  const std::string& grid_bytes = files.at("grid.png");
  const auto grid = image::Decode({reinterpret_cast<const uint8_t*>(grid_bytes.data()), grid_bytes.size()});
  ASSERT_TRUE(grid.ok());
  EXPECT_EQ(grid->width, 3 * 34 + 2);
  EXPECT_EQ(grid->height, 2 * 34 + 2);
  // Two ranks give the same; so does going on where a rank's file is gone.
  for (const char* rank : {"1", "0"}) {
    EXPECT_EQ(Run(arguments("ranks", {"--snr", "1e-4,1", "--threads", "2"}), {{"RANK", rank}, {"WORLD_SIZE", "2"}}), 0)
        << Log();
  }
  EXPECT_EQ(Files(Out("ranks")), files);
  fs::remove(Out("snr") + "/t0999/000000.png");
  EXPECT_EQ(Run(arguments("snr", {"--snr", "1e-4,1"})), 0);
  EXPECT_THAT(Log(), HasSubstr("1 images in"));
  EXPECT_EQ(Files(Out("snr")), files);

  EXPECT_EQ(Run(arguments("t", {"--timestep", "223"})), 2);
  EXPECT_THAT(Log(), HasSubstr("the nearest is 222"));
  EXPECT_EQ(Run(arguments("t", {})), 2);
  // By timestep or by SNR, an image is the same.
  ASSERT_EQ(Run(arguments("t", {"--timestep", "999,0", "--snr", "1"})), 0) << Log();
  const auto both = Files(Out("t"));
  EXPECT_EQ(both.at("t0999/000001.png"), files.at("t0999/000001.png"));
  EXPECT_EQ(both.at("t0222/000001.png"), files.at("t0222/000001.png"));
  EXPECT_TRUE(both.contains("t0000/000001.png"));
}

TEST_F(SamplingProcessTest, ReconstructsImagesOfADatasetThatFitsTheModel) {
  MakeTinyDataset(Out("data"));  // Grey, 16 pixels.
  EXPECT_EQ(Run({"reconstruct", checkpoint_, "--out", Out("x"), "--images", Out("data"), "--snr", "1"}), 1);
  EXPECT_THAT(Log(), HasSubstr("the model takes 3 of 32"));
}

}  // namespace
}  // namespace p2::trainer
