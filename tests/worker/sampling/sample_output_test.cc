#include "worker/sampling/sample_output.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/worker/trainer/tiny_dataset.h"

namespace p2::sampling {
namespace {

using trainer::FreshDir;

std::string Text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

SampleOutputOptions Options(const std::string& dir, SampleFormat format) {
  return {.directory = dir,
          .format = format,
          .first = 3,
          .count = 4,
          .height = 2,
          .width = 3,
          .channels = 1,
          .run = {{"seed", "5"}}};
}

image::Image Grey(uint8_t level) { return {3, 2, 1, std::vector<uint8_t>(6, level)}; }

TEST(SampleOutputTest, KnowsWhatIsMissingAfterARestart) {
  for (const SampleFormat format : {SampleFormat::kPng, SampleFormat::kNpz, SampleFormat::kGrid}) {
    const std::string dir = FreshDir(absl::StrCat(static_cast<int>(format)));
    ASSERT_TRUE((*SampleOutput::Open(Options(dir, format)))->Write(4, Grey(1)).ok());
    const auto output = *SampleOutput::Open(Options(dir, format));
    EXPECT_EQ(output->Missing(0, 4), (std::vector<uint64_t>{3, 5, 6}));
    EXPECT_EQ(output->Missing(1, 3), (std::vector<uint64_t>{5}));
    EXPECT_EQ(*output->Finish(), "");
    for (const uint64_t i : {3, 5, 6}) ASSERT_TRUE(output->Write(i, Grey(1)).ok());
    const auto whole = output->Finish();
    ASSERT_TRUE(whole.ok()) << whole.status();
    EXPECT_TRUE(std::filesystem::exists(*whole));
    EXPECT_FALSE(std::filesystem::exists(dir + "/parts"));
    // Again, by another rank that comes later.
    const auto later = *SampleOutput::Open(Options(dir, format));
    EXPECT_TRUE(later->Missing(0, 4).empty());
    EXPECT_EQ(*later->Finish(), *whole);
  }
}

TEST(SampleOutputTest, TheOrderOfWritingDoesNotShow) {
  std::string bytes[2];
  for (int k = 0; k < 2; ++k) {
    const auto output = *SampleOutput::Open(Options(FreshDir(absl::StrCat(k)), SampleFormat::kNpz));
    for (uint64_t i = 0; i < 4; ++i) {
      const uint64_t index = 3 + (k == 0 ? i : 3 - i);
      ASSERT_TRUE(output->Write(index, Grey(static_cast<uint8_t>(index))).ok());
    }
    bytes[k] = Text(*output->Finish());
  }
  EXPECT_FALSE(bytes[0].empty());
  EXPECT_EQ(bytes[0], bytes[1]);
}

TEST(SampleOutputTest, RefusesTheDirectoryOfAnotherRun) {
  const std::string dir = FreshDir();
  SampleOutputOptions options = Options(dir, SampleFormat::kPng);
  ASSERT_TRUE(SampleOutput::Open(options).ok());
  options.run = {{"seed", "6"}};
  const absl::Status refused = SampleOutput::Open(options).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(refused.message().find("its seed is 5, this one's 6"), std::string::npos) << refused;
}

TEST(SampleOutputTest, ADamagedPartIsNamed) {
  const std::string dir = FreshDir();
  const auto output = *SampleOutput::Open(Options(dir, SampleFormat::kNpz));
  for (uint64_t i = 3; i < 7; ++i) ASSERT_TRUE(output->Write(i, Grey(0)).ok());
  std::ofstream(dir + "/parts/000005.u8") << "abc";
  const auto whole = output->Finish();
  EXPECT_EQ(whole.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(whole.status().message().find("000005.u8"), std::string::npos);
}

}  // namespace
}  // namespace p2::sampling
