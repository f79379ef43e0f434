// A dataset of a few random grey images, 16 px.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/image/shard.h"
#include "worker/checkpoint/checkpoint_writer.h"

namespace p2::trainer {

inline constexpr int kTinySize = 16;

// Directories of a test program; removed at its end.
struct TestDirs {
  ~TestDirs() {
    for (const std::string& dir : made) checkpoint::RemoveTree(dir);
  }
  std::vector<std::string> made;
};

// An empty directory for the running test.
inline std::string FreshDir(const std::string& name = "") {
  static TestDirs dirs;
  const auto* const test = ::testing::UnitTest::GetInstance()->current_test_info();
  std::string leaf = absl::StrCat("p2-", test->test_suite_name(), "-", test->name(), "-", ::getpid(), "-", name);
  std::replace(leaf.begin(), leaf.end(), '/', '_');
  dirs.made.push_back(absl::StrCat(::testing::TempDir(), "/", leaf));
  checkpoint::RemoveTree(dirs.made.back());
  std::filesystem::create_directories(dirs.made.back());
  return dirs.made.back();
}

inline void MakeTinyDataset(const std::string& dir, uint64_t count = 20) {
  std::filesystem::create_directories(dir);
  const image::ShardHeader header{.channels = 1, .height = kTinySize, .width = kTinySize};
  auto writer = image::ShardWriter::Create(dir, 0, header);
  ASSERT_TRUE(writer.ok()) << writer.status();
  image::Fingerprint fingerprint;
  uint32_t random = 12345;
  for (uint64_t i = 0; i < count; ++i) {
    std::vector<uint8_t> record(header.record_bytes());
    for (uint8_t& pixel : record) pixel = static_cast<uint8_t>((random = random * 1664525 + 1013904223) >> 24);
    ASSERT_TRUE((*writer)->Append(record).ok());
    fingerprint.Add(image::Fingerprint::OfRecord(record));
  }
  auto shard = (*writer)->Finish();
  ASSERT_TRUE(shard.ok()) << shard.status();
  image::DatasetManifest manifest;
  manifest.name = "tiny";
  manifest.resolution = kTinySize;
  manifest.channels = 1;
  manifest.count = count;
  manifest.fingerprint = fingerprint.Finish(kTinySize, 1);
  manifest.shards = {*shard};
  manifest.created_by = "test";
  ASSERT_TRUE(image::SaveManifest(manifest, dir).ok());
}

}  // namespace p2::trainer
