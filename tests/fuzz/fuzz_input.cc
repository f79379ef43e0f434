#include "tests/fuzz/fuzz_input.h"

#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"

namespace p2::fuzz {

void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "a rule is broken: %s\n", what);
  std::abort();
}

MemoryFile::MemoryFile() : fd_(memfd_create("fuzz", MFD_CLOEXEC)), path_(absl::StrCat("/proc/self/fd/", fd_)) {
  Require(fd_ >= 0, "memfd_create works");
}

MemoryFile::~MemoryFile() { close(fd_); }

const std::string& MemoryFile::Fill(const uint8_t* data, size_t size) {
  Require(ftruncate(fd_, 0) == 0 && pwrite(fd_, data, size, 0) == static_cast<ssize_t>(size), "memory is written");
  return path_;
}

uint32_t Crc32(absl::string_view bytes) {
  return static_cast<uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size())));
}

std::string StoredZip(const std::vector<std::pair<std::string, absl::string_view>>& entries) {
  const auto put = [](std::string& out, uint64_t value, int bytes) {
    for (; bytes > 0; --bytes, value >>= 8) out.push_back(static_cast<char>(value));
  };
  std::string zip, directory;
  for (const auto& [name, bytes] : entries) {
    std::string common;  // What the local and the central header have in common.
    put(common, 10, 2);  // Version needed.
    put(common, 0, 8);   // Flags, method (stored), time, date.
    put(common, Crc32(bytes), 4);
    put(common, bytes.size(), 4);
    put(common, bytes.size(), 4);
    put(common, name.size(), 2);
    put(common, 0, 2);  // Extra field.
    put(directory, 0x02014b50, 4);
    put(directory, 10, 2);
    directory += common;
    put(directory, 0, 10);  // Comment, disk, attributes.
    put(directory, zip.size(), 4);
    directory += name;
    put(zip, 0x04034b50, 4);
    absl::StrAppend(&zip, common, name, bytes);
  }
  const size_t at = zip.size();
  zip += directory;
  put(zip, 0x06054b50, 4);
  put(zip, 0, 4);  // Disks.
  put(zip, entries.size(), 2);
  put(zip, entries.size(), 2);
  put(zip, directory.size(), 4);
  put(zip, at, 4);
  put(zip, 0, 2);
  return zip;
}

}  // namespace p2::fuzz
