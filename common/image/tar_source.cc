#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/file_util.h"
#include "common/image/image_source.h"
#include "common/status_macros.h"

namespace p2::image {
namespace {

// Unpacking leaves the disk this much.
constexpr uint64_t kKeepFreeBytes = uint64_t{256} << 20;

// A stretch of a file as libarchive reads it; confined to one thread.
struct Window {
  int fd;
  uint64_t at;
  uint64_t end;
  std::vector<uint8_t> buffer;
};

struct FreeArchive {
  void operator()(archive* a) const { archive_read_free(a); }
};
using Archive = std::unique_ptr<archive, FreeArchive>;

std::string Reason(archive* a) {
  const char* text = archive_error_string(a);
  return text == nullptr ? "not a tar file" : text;
}

la_ssize_t ReadWindow(archive* a, void* data, const void** out) {
  Window& window = *static_cast<Window*>(data);
  const size_t wanted = std::min<uint64_t>(window.buffer.size(), window.end - window.at);
  const ssize_t n = pread(window.fd, window.buffer.data(), wanted, static_cast<off_t>(window.at));
  if (n < 0) {
    archive_set_error(a, errno, "cannot read the file");
    return -1;
  }
  window.at += static_cast<uint64_t>(n);
  *out = window.buffer.data();
  return n;
}

la_int64_t SkipWindow(archive*, void* data, la_int64_t request) {
  Window& window = *static_cast<Window*>(data);
  const uint64_t step = std::min<uint64_t>(request < 0 ? 0 : static_cast<uint64_t>(request), window.end - window.at);
  window.at += step;
  return static_cast<la_int64_t>(step);
}

absl::Status OpenWindow(archive* a, Window& window, const std::string& path) {
  archive_read_set_read_callback(a, ReadWindow);
  archive_read_set_skip_callback(a, SkipWindow);
  archive_read_set_callback_data(a, &window);
  if (archive_read_open1(a) == ARCHIVE_OK) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", Reason(a)));
}

std::string NameOf(archive_entry* entry) {
  const char* raw = archive_entry_pathname(entry);
  if (raw == nullptr) raw = archive_entry_pathname_utf8(entry);
  absl::string_view name = raw == nullptr ? "" : raw;
  while (absl::StartsWith(name, "./")) name.remove_prefix(2);
  return std::string(name);
}

struct TarFile {
  std::string path;
  UniqueFd fd;
  uint64_t size = 0;
};

struct TarEntry {
  std::vector<std::string> components;
  std::string name;
  size_t file;
  uint64_t offset;  // Of its header.
};

bool IsCompressed(int fd) {
  std::array<uint8_t, 4> start = {};
  if (pread(fd, start.data(), start.size(), 0) < 4) return false;
  return (start[0] == 0x1f && start[1] == 0x8b) ||
         (start[0] == 0x28 && start[1] == 0xb5 && start[2] == 0x2f && start[3] == 0xfd);
}

// An unnamed file in `scratch` with what the compressed file holds.
absl::StatusOr<UniqueFd> Unpack(const TarFile& file, const std::string& scratch) {
  UniqueFd out(open(scratch.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!out.ok()) {  // Not every file system has unnamed files.
    std::string name = scratch + "/.p2-unpack-XXXXXX";
    out = UniqueFd(mkostemp(name.data(), O_CLOEXEC));
    if (!out.ok()) return FileError("create a file in", scratch);
    unlink(name.c_str());
  }
  Window window{file.fd.get(), 0, file.size, std::vector<uint8_t>(1 << 18)};
  const Archive a(archive_read_new());
  archive_read_support_filter_gzip(a.get());
  archive_read_support_filter_zstd(a.get());
  archive_read_support_format_raw(a.get());
  P2_RETURN_IF_ERROR(OpenWindow(a.get(), window, file.path));
  const auto damaged = [&] {
    return absl::InvalidArgumentError(
        absl::StrCat(file.path, " cannot be unpacked: it is cut short or damaged: ", Reason(a.get())));
  };
  archive_entry* entry = nullptr;
  if (archive_read_next_header(a.get(), &entry) != ARCHIVE_OK) return damaged();
  std::vector<uint8_t> block(1 << 20);
  for (uint64_t blocks = 0;; ++blocks) {
    const la_ssize_t n = archive_read_data(a.get(), block.data(), block.size());
    if (n < 0) return damaged();
    if (n == 0) break;
    struct statvfs info;
    if (blocks % 64 == 0 && fstatvfs(out.get(), &info) == 0 &&
        static_cast<uint64_t>(info.f_bavail) * info.f_frsize < kKeepFreeBytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat("unpacking ", file.path, " leaves less than ", kKeepFreeBytes >> 20, " MiB free in ", scratch,
                       "; free some, or unpack it elsewhere and prepare the directory"));
    }
    P2_RETURN_IF_ERROR(WriteAll(out.get(), scratch, absl::MakeConstSpan(block).first(static_cast<size_t>(n))));
  }
  return out;
}

class TarReader : public ImageReader {
 public:
  TarReader(const std::vector<TarFile>& files, const std::vector<TarEntry>& entries, uint64_t max_bytes)
      : files_(files), entries_(entries), max_bytes_(max_bytes) {}

  absl::StatusOr<std::vector<uint8_t>> Read(size_t index) override {
    const TarEntry& wanted = entries_[index];
    const TarFile& file = files_[wanted.file];
    Window window{file.fd.get(), wanted.offset, file.size, std::move(buffer_)};
    window.buffer.resize(1 << 16);
    absl::StatusOr<std::vector<uint8_t>> bytes = ReadOne(window);
    buffer_ = std::move(window.buffer);
    return bytes;
  }

 private:
  absl::StatusOr<std::vector<uint8_t>> ReadOne(Window& window) const {
    const Archive a(archive_read_new());
    archive_read_support_format_tar(a.get());
    P2_RETURN_IF_ERROR(OpenWindow(a.get(), window, "tar"));
    archive_entry* entry = nullptr;
    if (archive_read_next_header(a.get(), &entry) < ARCHIVE_WARN) return Damaged(a.get());
    const la_int64_t size = archive_entry_size(entry);
    if (size < 0 || static_cast<uint64_t>(size) > max_bytes_) {
      return absl::InvalidArgumentError(
          absl::StrCat("the entry has ", size, " bytes; at most ", max_bytes_, " are read"));
    }
    std::vector<uint8_t> bytes(static_cast<size_t>(size));
    for (size_t at = 0; at < bytes.size();) {
      const la_ssize_t n = archive_read_data(a.get(), bytes.data() + at, bytes.size() - at);
      if (n <= 0) return Damaged(a.get());
      at += static_cast<size_t>(n);
    }
    return bytes;
  }
  static absl::Status Damaged(archive* a) {
    return absl::InvalidArgumentError(absl::StrCat("the tar entry is damaged: ", Reason(a)));
  }

  const std::vector<TarFile>& files_;
  const std::vector<TarEntry>& entries_;
  const uint64_t max_bytes_;
  std::vector<uint8_t> buffer_;
};

class TarSource : public ImageSource {
 public:
  explicit TarSource(const SourceOptions& options) : options_(options) {}

  absl::Status Scan(const std::vector<std::string>& paths) {
    for (const std::string& path : paths) {
      paths_.push_back(path);
      files_.push_back({path, UniqueFd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK))});
      TarFile& file = files_.back();
      if (!file.fd.ok()) return FileError("open", path);
      P2_RETURN_IF_ERROR(Measure(file));
      if (IsCompressed(file.fd.get())) {
        P2_ASSIGN_OR_RETURN(file.fd, Unpack(file, options_.scratch));
        P2_RETURN_IF_ERROR(Measure(file));
      }
      const size_t first = entries_.size();
      P2_RETURN_IF_ERROR(ScanFile(files_.size() - 1, paths.size() > 1));
      SortFrom(first);
    }
    for (const TarEntry& entry : entries_) names_.push_back(entry.name);
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<ImageReader>> NewReader() const override {
    return std::make_unique<TarReader>(files_, entries_, options_.max_file_bytes);
  }
  absl::StatusOr<std::string> Identity() const override { return IdentityOf(names_, paths_); }

 private:
  static absl::Status Measure(TarFile& file) {
    struct stat info;
    if (fstat(file.fd.get(), &info) != 0) return FileError("stat", file.path);
    if (!S_ISREG(info.st_mode)) return absl::InvalidArgumentError(absl::StrCat(file.path, " is no regular file"));
    file.size = static_cast<uint64_t>(info.st_size);
    return absl::OkStatus();
  }

  absl::Status ScanFile(size_t index, bool prefixed) {
    const TarFile& file = files_[index];
    Window window{file.fd.get(), 0, file.size, std::vector<uint8_t>(1 << 16)};
    const Archive a(archive_read_new());
    archive_read_support_format_tar(a.get());
    P2_RETURN_IF_ERROR(OpenWindow(a.get(), window, file.path));
    const std::string prefix = prefixed ? std::filesystem::path(file.path).filename().string() + "/" : "";
    for (uint64_t seen = 0;; ++seen) {
      archive_entry* entry = nullptr;
      const int code = archive_read_next_header(a.get(), &entry);
      if (code == ARCHIVE_EOF) return absl::OkStatus();
      if (code < ARCHIVE_WARN) {
        return absl::InvalidArgumentError(
            absl::StrCat(file.path,
                         seen == 0 ? " is not a readable tar: "
                                   : absl::StrCat(" is cut short or damaged after ", seen, " entries: "),
                         Reason(a.get())));
      }
      if (archive_entry_filetype(entry) == AE_IFDIR) continue;
      const std::string name = NameOf(entry);
      if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) != nullptr || !IsImageName(name)) {
        ++others_;
        continue;
      }
      const uint64_t offset = static_cast<uint64_t>(archive_read_header_position(a.get()));
      const la_int64_t size = archive_entry_size(entry);
      if (size < 0 || static_cast<uint64_t>(size) > file.size - std::min(offset, file.size)) {
        return absl::InvalidArgumentError(absl::StrCat(file.path, " is cut short: ", name, " has ", size,
                                                       " bytes at offset ", offset, ", the tar ends at ", file.size));
      }
      entries_.push_back({absl::StrSplit(name, '/'), prefix + name, index, offset});
    }
  }

  // By name; of several with one name the last stays.
  void SortFrom(size_t first) {
    const auto begin = entries_.begin() + static_cast<std::ptrdiff_t>(first);
    std::stable_sort(begin, entries_.end(),
                     [](const TarEntry& a, const TarEntry& b) { return a.components < b.components; });
    auto out = begin;
    for (auto it = begin; it != entries_.end(); ++it) {
      if (std::next(it) != entries_.end() && std::next(it)->components == it->components) {
        ++others_;
        continue;
      }
      if (out != it) *out = std::move(*it);
      ++out;
    }
    entries_.erase(out, entries_.end());
  }

  const SourceOptions options_;
  std::vector<std::string> paths_;
  std::vector<TarFile> files_;
  std::vector<TarEntry> entries_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ImageSource>> OpenTars(const std::vector<std::string>& paths,
                                                      const SourceOptions& options) {
  auto source = std::make_unique<TarSource>(options);
  P2_RETURN_IF_ERROR(source->Scan(paths));
  return source;
}

}  // namespace p2::image
