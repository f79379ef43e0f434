#include "common/image/image_source.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <zip.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/file_util.h"
#include "common/sha256.h"
#include "common/status_macros.h"

namespace p2::image {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxDepth = 64;

bool IsTarName(absl::string_view name) {
  const std::string lower = absl::AsciiStrToLower(name);
  for (absl::string_view end : {".tar", ".tar.gz", ".tgz", ".tar.zst"}) {
    if (absl::EndsWith(lower, end)) return true;
  }
  return false;
}

// Opens a file below `root` for reading; the kernel refuses a path that leaves it, by ".." or by a link.
int OpenBeneath(int root, const std::string& path) {
  open_how how = {};
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;  // Nothing waits at a FIFO; ReadWhole refuses it.
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  const int fd = static_cast<int>(syscall(SYS_openat2, root, path.c_str(), &how, sizeof(how)));
  // Without that system call no link is followed at all; the directories above were found as real ones.
  if (fd < 0 && errno == ENOSYS) return openat(root, path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
  return fd;
}

class DirectoryReader : public ImageReader {
 public:
  DirectoryReader(int root, const std::vector<std::string>& names, uint64_t max_bytes)
      : root_(root), names_(names), max_bytes_(max_bytes) {}

  absl::StatusOr<std::vector<uint8_t>> Read(size_t index) override {
    const UniqueFd fd(OpenBeneath(root_, names_[index]));
    if (!fd.ok() && (errno == EXDEV || errno == ELOOP)) {
      return absl::InvalidArgumentError("a symbolic link that leaves the input directory; copy the file into it");
    }
    if (!fd.ok()) return FileError("open", names_[index]);
    return ReadWhole(fd.get(), names_[index], max_bytes_);
  }

 private:
  const int root_;
  const std::vector<std::string>& names_;
  const uint64_t max_bytes_;
};

class DirectorySource : public ImageSource {
 public:
  explicit DirectorySource(const SourceOptions& options) : max_bytes_(options.max_file_bytes) {}

  absl::Status Scan(const std::string& input) {
    input_ = input;
    root_ = UniqueFd(open(input.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!root_.ok()) return FileError("open", input);
    return ScanDirectory(input, "", 0);
  }
  absl::StatusOr<std::unique_ptr<ImageReader>> NewReader() const override {
    return std::make_unique<DirectoryReader>(root_.get(), names_, max_bytes_);
  }
  absl::StatusOr<std::string> Identity() const override {
    std::vector<std::string> paths;
    for (const std::string& name : names_) paths.push_back(absl::StrCat(input_, "/", name));
    return IdentityOf(names_, paths);
  }

 private:
  absl::Status ScanDirectory(const fs::path& directory, const std::string& prefix, int depth) {
    if (depth > kMaxDepth) {
      return absl::InvalidArgumentError(
          absl::StrCat(directory.string(), " is more than ", kMaxDepth, " directories deep"));
    }
    std::error_code error;
    std::vector<fs::directory_entry> entries;
    for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error))
      entries.push_back(*it);
    if (error) return absl::UnavailableError(absl::StrCat("cannot list ", directory.string(), ": ", error.message()));
    std::sort(entries.begin(), entries.end(),
              [](const auto& a, const auto& b) { return a.path().filename().native() < b.path().filename().native(); });
    for (const fs::directory_entry& entry : entries) {
      const std::string name = entry.path().filename().native();
      // A link to a directory is not entered: its images would come twice, or for ever.
      if (entry.symlink_status(error).type() == fs::file_type::directory) {
        P2_RETURN_IF_ERROR(ScanDirectory(entry.path(), absl::StrCat(prefix, name, "/"), depth + 1));
      } else if (IsImageName(name)) {
        names_.push_back(prefix + name);
      } else {
        ++others_;
      }
    }
    return absl::OkStatus();
  }

  const uint64_t max_bytes_;
  std::string input_;
  UniqueFd root_;
};

struct CloseZip {
  void operator()(zip_t* zip) const { zip_discard(zip); }
};
using Zip = std::unique_ptr<zip_t, CloseZip>;

absl::StatusOr<Zip> OpenZip(const std::string& path) {
  int code = 0;
  Zip zip(zip_open(path.c_str(), ZIP_RDONLY, &code));
  if (zip != nullptr) return zip;
  zip_error_t error;
  zip_error_init_with_code(&error, code);
  const std::string reason = zip_error_strerror(&error);
  zip_error_fini(&error);
  return absl::InvalidArgumentError(
      absl::StrCat(path, " is neither a directory nor a readable ZIP, tar or LMDB: ", reason));
}

struct CloseZipFile {
  void operator()(zip_file_t* file) const { zip_fclose(file); }
};

class ZipReader : public ImageReader {
 public:
  ZipReader(Zip zip, const std::vector<zip_uint64_t>& entries, uint64_t max_bytes)
      : zip_(std::move(zip)), entries_(entries), max_bytes_(max_bytes) {}

  absl::StatusOr<std::vector<uint8_t>> Read(size_t index) override {
    zip_stat_t info;
    if (zip_stat_index(zip_.get(), entries_[index], 0, &info) != 0 || (info.valid & ZIP_STAT_SIZE) == 0) return Error();
    if (info.size > max_bytes_) {
      return absl::InvalidArgumentError(
          absl::StrCat("the entry has ", info.size, " bytes; at most ", max_bytes_, " are read"));
    }
    const std::unique_ptr<zip_file_t, CloseZipFile> file(zip_fopen_index(zip_.get(), entries_[index], 0));
    if (file == nullptr) return Error();
    std::vector<uint8_t> bytes(info.size);
    for (size_t at = 0; at < bytes.size();) {
      const zip_int64_t n = zip_fread(file.get(), bytes.data() + at, bytes.size() - at);
      if (n <= 0)
        return absl::InvalidArgumentError(absl::StrCat("the ZIP entry is damaged: ", zip_file_strerror(file.get())));
      at += static_cast<size_t>(n);
    }
    // libzip compares the checksum when it meets the end.
    uint8_t beyond;
    if (zip_fread(file.get(), &beyond, 1) != 0) {
      return absl::InvalidArgumentError(absl::StrCat("the ZIP entry is damaged: ", zip_file_strerror(file.get())));
    }
    return bytes;
  }

 private:
  absl::Status Error() { return absl::InvalidArgumentError(absl::StrCat("ZIP: ", zip_strerror(zip_.get()))); }

  const Zip zip_;
  const std::vector<zip_uint64_t>& entries_;
  const uint64_t max_bytes_;
};

class ZipSource : public ImageSource {
 public:
  ZipSource(std::string path, const SourceOptions& options)
      : path_(std::move(path)), max_bytes_(options.max_file_bytes) {}

  absl::Status Scan() {
    P2_ASSIGN_OR_RETURN(const Zip zip, OpenZip(path_));
    struct Entry {
      std::vector<std::string> components;
      std::string name;
      zip_uint64_t index;
    };
    std::vector<Entry> entries;
    const zip_int64_t count = zip_get_num_entries(zip.get(), 0);
    for (zip_int64_t i = 0; i < count; ++i) {
      const char* raw = zip_get_name(zip.get(), i, ZIP_FL_ENC_RAW);
      const std::string name = raw == nullptr ? "" : raw;
      if (absl::EndsWith(name, "/")) continue;
      if (!IsImageName(name)) {
        ++others_;
        continue;
      }
      entries.push_back({absl::StrSplit(name, '/'), name, static_cast<zip_uint64_t>(i)});
    }
    // Component by component: the order that the extracted directory would have.
    std::stable_sort(entries.begin(), entries.end(),
                     [](const Entry& a, const Entry& b) { return a.components < b.components; });
    for (Entry& entry : entries) {
      names_.push_back(std::move(entry.name));
      indices_.push_back(entry.index);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<ImageReader>> NewReader() const override {
    P2_ASSIGN_OR_RETURN(Zip zip, OpenZip(path_));
    return std::make_unique<ZipReader>(std::move(zip), indices_, max_bytes_);
  }
  absl::StatusOr<std::string> Identity() const override { return IdentityOf(names_, {path_}); }

 private:
  const std::string path_;
  const uint64_t max_bytes_;
  std::vector<zip_uint64_t> indices_;
};

// What a file holds, by its first bytes, else its name.
enum class Container { kZip, kTar, kLmdb };

absl::StatusOr<Container> Recognize(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.ok()) return FileError("open", path);
  std::array<uint8_t, 512> start = {};
  if (pread(fd.get(), start.data(), start.size(), 0) < 0) return FileError("read", path);
  const auto holds = [&](size_t at, absl::string_view what) {
    return std::equal(what.begin(), what.end(), start.begin() + at,
                      [](char a, uint8_t b) { return static_cast<uint8_t>(a) == b; });
  };
  if (holds(0, "PK")) return Container::kZip;
  if (holds(16, "\xde\xc0\xef\xbe")) return Container::kLmdb;
  if (holds(0, "\x1f\x8b") || holds(0, "\x28\xb5\x2f\xfd") || holds(257, "ustar") || IsTarName(path)) {
    return Container::kTar;
  }
  return Container::kZip;  // One may begin with anything; libzip says what is wrong.
}

absl::StatusOr<std::unique_ptr<ImageSource>> OpenDirectory(const std::string& input, const SourceOptions& options) {
  std::error_code error;
  const std::string lmdb = input + "/data.mdb";
  if (fs::is_regular_file(lmdb, error)) return OpenLmdb(lmdb, options);
  auto source = std::make_unique<DirectorySource>(options);
  P2_RETURN_IF_ERROR(source->Scan(input));
  if (!source->names().empty()) return source;
  std::vector<std::string> tars;
  for (fs::directory_iterator it(input, error), end; !error && it != end; it.increment(error)) {
    if (IsTarName(it->path().filename().native())) tars.push_back(it->path());
  }
  if (tars.empty()) return source;
  std::sort(tars.begin(), tars.end());
  return OpenTars(tars, options);
}

}  // namespace

bool IsImageName(absl::string_view name) {
  const std::string lower = absl::AsciiStrToLower(name);
  for (absl::string_view end : {".jpg", ".jpeg", ".png", ".gif", ".webp"}) {
    if (absl::EndsWith(lower, end)) return true;
  }
  return false;
}

absl::StatusOr<std::string> IdentityOf(const std::vector<std::string>& names, const std::vector<std::string>& paths) {
  Sha256 sha;
  const auto add = [&sha](const std::string& text) {
    sha.Update(absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(text.c_str()), text.size() + 1));
  };
  for (const std::string& name : names) add(name);
  for (const std::string& path : paths) {
    struct stat info = {};
    if (stat(path.c_str(), &info) != 0 && errno != ENOENT && errno != ELOOP) return FileError("stat", path);
    add(absl::StrCat(info.st_size, " ", info.st_mtim.tv_sec, " ", info.st_mtim.tv_nsec));
  }
  return Hex(sha.Finish());
}

absl::StatusOr<std::unique_ptr<ImageSource>> ImageSource::Open(const std::string& input, const SourceOptions& options) {
  std::error_code error;
  const fs::file_status status = fs::status(input, error);
  if (status.type() == fs::file_type::not_found)
    return absl::NotFoundError(absl::StrCat("input ", input, " does not exist"));
  if (fs::is_directory(status)) return OpenDirectory(input, options);
  if (!fs::is_regular_file(status)) {
    return absl::InvalidArgumentError(absl::StrCat("input ", input, " is neither a directory nor a regular file"));
  }
  P2_ASSIGN_OR_RETURN(const Container container, Recognize(input));
  if (container == Container::kTar) return OpenTars({input}, options);
  if (container == Container::kLmdb) return OpenLmdb(input, options);
  auto source = std::make_unique<ZipSource>(input, options);
  P2_RETURN_IF_ERROR(source->Scan());
  return source;
}

}  // namespace p2::image
