// Test pictures, temporary directories and files.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace p2::image {

inline std::string TestData(const std::string& name) {
  return std::string(P2_SOURCE_DIR "/tests/common/image/testdata/") + name;
}

inline std::vector<uint8_t> ReadBytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  return std::vector<uint8_t>(std::istreambuf_iterator<char>(in), {});
}

inline void WriteBytes(const std::string& path, const std::vector<uint8_t>& bytes) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

// The lines of pillow.txt that begin with `kind`, cut at blanks, without it.
inline std::vector<std::vector<std::string>> PillowFacts(const std::string& kind) {
  std::ifstream in(TestData("pillow.txt"));
  std::vector<std::vector<std::string>> facts;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::vector<std::string> fact(std::istream_iterator<std::string>(words), {});
    if (fact.empty() || fact[0] != kind) continue;
    fact.erase(fact.begin());
    facts.push_back(fact);
  }
  EXPECT_FALSE(facts.empty()) << kind;
  return facts;
}

// A directory of its own, removed at the end.
class TempDir {
 public:
  TempDir() {
    static std::atomic<int> next = 0;
    path_ = absl::StrCat(::testing::TempDir(), "/p2-image-", getpid(), "-", next++);
    std::filesystem::create_directories(path_);
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace p2::image
