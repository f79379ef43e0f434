#include "client/p2ctl/storage_root.h"

#include <fcntl.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

namespace fs = std::filesystem;

std::string IdPath(const std::string& directory) { return (fs::path(directory) / kRootIdFile).string(); }

// O_EXCL: of two that make the same root at once, one wins and both read its ID.
absl::Status WriteNewId(const std::string& path) {
  uuid_t id;
  uuid_generate_random(id);
  char text[38];
  uuid_unparse_lower(id, text);
  text[36] = '\n';
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0)
    return errno == EEXIST ? absl::OkStatus() : absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
  const bool written = write(fd, text, 37) == 37 && fsync(fd) == 0;
  const int error = errno;
  close(fd);
  return written ? absl::OkStatus() : absl::ErrnoToStatus(error, absl::StrCat("cannot write ", path));
}

}  // namespace

absl::StatusOr<std::string> ReadRootId(const std::string& directory) {
  std::ifstream file(IdPath(directory));
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const std::string id = absl::AsciiStrToLower(absl::StripAsciiWhitespace(text));
  uuid_t parsed;
  if (uuid_parse(id.c_str(), parsed) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(directory, " is no storage root (", file ? "no UUID in " : "no ",
                                                      kRootIdFile, "); `p2ctl root init ", directory,
                                                      "` makes it one"));
  }
  return id;
}

absl::StatusOr<std::string> InitRoot(const std::string& directory) {
  std::error_code error;
  fs::create_directories(fs::path(directory) / kDatasetsDirectory, error);
  if (error) return absl::InvalidArgumentError(absl::StrCat("cannot make ", directory, ": ", error.message()));
  P2_RETURN_IF_ERROR(WriteNewId(IdPath(directory)));
  return ReadRootId(directory);
}

absl::StatusOr<RootedPath> FindRootAbove(const std::string& path) {
  std::error_code error;
  const fs::path absolute = fs::weakly_canonical(path, error);
  for (fs::path at = absolute; !error && at.has_relative_path(); at = at.parent_path()) {
    if (!fs::exists(at / kRootIdFile, error)) continue;
    P2_ASSIGN_OR_RETURN(std::string id, ReadRootId(at.string()));
    return RootedPath{at.string(), std::move(id), absolute.lexically_relative(at).string()};
  }
  return absl::FailedPreconditionError(
      absl::StrCat(path, " lies in no storage root (no ", kRootIdFile,
                   " in a directory above it); `p2ctl root init DIR` makes a directory one"));
}

}  // namespace p2::ctl
