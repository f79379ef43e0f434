// What the fuzz targets share. libFuzzer calls LLVMFuzzerTestOneInput on one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace p2::fuzz {

inline absl::string_view Text(const uint8_t* data, size_t size) {
  return absl::string_view(reinterpret_cast<const char*>(data), size);
}

// Ends the process, so that libFuzzer keeps the input, unless `holds`. `what`: the rule that was broken.
void Require(bool holds, const char* what);

// A file in memory that holds one input at a time, for readers that take a path.
class MemoryFile {
 public:
  MemoryFile();
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  // Replaces what it holds. Returns its path, the same each time.
  const std::string& Fill(const uint8_t* data, size_t size);

 private:
  int fd_;
  std::string path_;
};

// CRC-32 as zip and PNG use it (reflected 0x04C11DB7; "123456789" -> 0xCBF43926).
uint32_t Crc32(absl::string_view bytes);

// A zip archive of stored entries: (name, bytes).
std::string StoredZip(const std::vector<std::pair<std::string, absl::string_view>>& entries);

}  // namespace p2::fuzz
