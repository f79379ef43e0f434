#include "server/store/data_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/status_macros.h"

namespace p2::store {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

int64_t StopBelow(int64_t total_bytes) { return std::min(total_bytes / 20, 2 * kGiB); }
int64_t ResumeAbove(int64_t total_bytes) { return std::min(total_bytes / 10, 4 * kGiB); }

}  // namespace

bool DiskWatermark::Update(const DiskSpace& space) {
  full_ = space.free_bytes < (full_ ? ResumeAbove(space.total_bytes) : StopBelow(space.total_bytes));
  return full_;
}

std::string DiskWatermark::Message(const DiskSpace& space, absl::string_view directory) {
  return absl::StrFormat(
      "the disk of p2d's data directory %s has %d of %d MiB free; new jobs and attempts wait until %d MiB are: delete "
      "ended "
      "jobs (`p2ctl delete`) or make space; what runs goes on",
      directory, space.free_bytes >> 20, space.total_bytes >> 20, ResumeAbove(space.total_bytes) >> 20);
}

absl::StatusOr<DiskSpace> StatDiskSpace(const std::string& path) {
  struct statvfs info;
  if (statvfs(path.c_str(), &info) != 0) return ErrnoError("statvfs", path);
  const auto block = static_cast<int64_t>(info.f_frsize);
  return DiskSpace{.free_bytes = static_cast<int64_t>(info.f_bavail) * block,
                   .total_bytes = static_cast<int64_t>(info.f_blocks) * block};
}

absl::StatusOr<std::unique_ptr<DataDirectory>> DataDirectory::Open(DataDirectoryOptions options) {
  if (const absl::Status made = MakeDirectories(options.path); !made.ok()) {
    return absl::Status(made.code(), absl::StrCat("the data directory cannot be used: ", made.message(),
                                                  "; choose another with --data-dir"));
  }
  P2_ASSIGN_OR_RETURN(File lock, File::Open(options.path + "/LOCK", O_RDWR | O_CREAT));
  if (flock(lock.fd(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return ErrnoError("flock", options.path + "/LOCK");
    P2_ASSIGN_OR_RETURN(const std::string holder, lock.ReadAt(0, 32));
    return absl::FailedPreconditionError(
        absl::StrCat("data directory ", options.path, " is in use by another p2d (process ",
                     absl::StripAsciiWhitespace(holder), "); stop it or give this one its own --data-dir"));
  }
  P2_RETURN_IF_ERROR(lock.Truncate(0));
  // The number is for people only; on a full disk the lock holds without it.
  if (absl::Status written = lock.WriteAt(0, absl::StrCat(getpid(), "\n")); absl::IsInternal(written)) return written;
  const std::string ballast = options.path + "/ballast";
  if (unlink(ballast.c_str()) != 0 && errno != ENOENT) return ErrnoError("unlink", ballast);
  return std::unique_ptr<DataDirectory>(new DataDirectory(std::move(options), std::move(lock)));
}

absl::Status DataDirectory::RestoreBallast() {
  const std::string path = options_.path + "/ballast";
  struct stat info;
  if (stat(path.c_str(), &info) == 0 && info.st_size == options_.ballast_bytes) return absl::OkStatus();
  P2_ASSIGN_OR_RETURN(const DiskSpace space, Space());
  if (space.free_bytes < 4 * options_.ballast_bytes) return absl::OkStatus();
  P2_ASSIGN_OR_RETURN(const File file, File::Open(path, O_RDWR | O_CREAT));
  if (const int error = posix_fallocate(file.fd(), 0, options_.ballast_bytes); error != 0) {
    errno = error;
    const absl::Status status = ErrnoError("fallocate", path);
    unlink(path.c_str());
    return status;
  }
  return absl::OkStatus();
}

}  // namespace p2::store
