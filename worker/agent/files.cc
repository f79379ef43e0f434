#include "worker/agent/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/status_macros.h"

namespace p2::agent {
namespace {

bool IsLowerOrDigit(char c) { return absl::ascii_islower(c) || absl::ascii_isdigit(c); }

absl::StatusOr<std::vector<std::string>> Components(absl::string_view path) {
  std::vector<std::string> parts = absl::StrSplit(path, '/');
  for (const std::string& part : parts)
    if (part.empty() || part == "." || part == ".." || part.find('\0') != std::string::npos)
      return absl::InvalidArgumentError(
          absl::StrCat("path \"", path, "\" must be relative, without empty, '.' or '..' parts"));
  return parts;
}

// Opens the directory that holds the last component.
absl::StatusOr<UniqueFd> OpenParent(const std::string& root, const std::vector<std::string>& parts) {
  UniqueFd directory(open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.ok()) return ErrnoError(root);
  for (size_t i = 0; i + 1 < parts.size(); ++i) {
    UniqueFd next(openat(directory.get(), parts[i].c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!next.ok()) return ErrnoError(absl::StrCat(root, ": \"", parts[i], "\""));
    directory = std::move(next);
  }
  return directory;
}

absl::StatusOr<std::string> ReadAll(int fd, const std::string& what, int64_t max_bytes) {
  std::string content;
  char buffer[65536];
  while (true) {
    const ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoError(what);
    if (n == 0) return content;
    content.append(buffer, static_cast<size_t>(n));
    if (static_cast<int64_t>(content.size()) > max_bytes)
      return absl::ResourceExhaustedError(absl::StrCat(what, " is larger than ", max_bytes, " bytes"));
  }
}

// Adds the bytes of what it removes to `bytes`.
absl::Status DeleteAt(int parent, const char* name, const std::string& what, int64_t& bytes) {
  struct stat info = {};
  const bool is_file = fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(info.st_mode);
  if (unlinkat(parent, name, 0) == 0) {
    if (is_file) bytes += info.st_size;
    return absl::OkStatus();
  }
  if (errno == ENOENT) return absl::OkStatus();
  if (errno != EISDIR && errno != EPERM) return ErrnoError(what);
  UniqueFd directory(openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!directory.ok()) return errno == ENOENT ? absl::OkStatus() : ErrnoError(what);
  DIR* stream = fdopendir(dup(directory.get()));
  if (stream == nullptr) return ErrnoError(what);
  std::vector<std::string> names;
  while (const dirent* entry = readdir(stream)) names.emplace_back(entry->d_name);
  closedir(stream);
  for (const std::string& child : names) {
    if (child == "." || child == "..") continue;
    P2_RETURN_IF_ERROR(DeleteAt(directory.get(), child.c_str(), absl::StrCat(what, "/", child), bytes));
  }
  if (unlinkat(parent, name, AT_REMOVEDIR) != 0 && errno != ENOENT) return ErrnoError(what);
  return absl::OkStatus();
}

}  // namespace

bool IsFileName(absl::string_view text) {
  return !text.empty() && text.size() <= 255 && text.front() != '.' &&
         std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isprint(c) && c != '/'; });
}

std::string ResourceIdFromHost(absl::string_view host) {
  std::string id = absl::AsciiStrToLower(host);
  for (char& c : id)
    if (!IsLowerOrDigit(c)) c = '-';
  id.erase(0, std::min(id.find_first_not_of('-'), id.size()));
  if (!id.empty() && absl::ascii_isdigit(id.front())) id = absl::StrCat("w", id);
  id.resize(std::min<size_t>(id.size(), 63));
  while (!id.empty() && id.back() == '-') id.pop_back();
  return id.empty() ? "worker" : id;
}

absl::Status ErrnoError(absl::string_view what) {
  const int error = errno;
  const std::string message = absl::StrCat(what, ": ", strerror(error));
  if (error == ENOENT) return absl::NotFoundError(message);
  if (error == ENOSPC || error == EDQUOT) return absl::ResourceExhaustedError(message);
  return absl::InternalError(message);
}

absl::StatusOr<UniqueFd> OpenBeneath(const std::string& root, absl::string_view path, int flags) {
  P2_ASSIGN_OR_RETURN(const std::vector<std::string> parts, Components(path));
  P2_ASSIGN_OR_RETURN(const UniqueFd parent, OpenParent(root, parts));
  UniqueFd file(openat(parent.get(), parts.back().c_str(), flags | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file.ok()) return ErrnoError(absl::StrCat(root, "/", path));
  return file;
}

absl::StatusOr<std::string> ReadBeneath(const std::string& root, absl::string_view path, int64_t max_bytes) {
  P2_ASSIGN_OR_RETURN(const UniqueFd file, OpenBeneath(root, path, O_RDONLY | O_NONBLOCK));
  return ReadAll(file.get(), absl::StrCat(root, "/", path), max_bytes);
}

absl::Status MakeDirectoriesBeneath(const std::string& root, absl::string_view path) {
  P2_ASSIGN_OR_RETURN(const std::vector<std::string> parts, Components(path));
  UniqueFd directory(open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.ok()) return ErrnoError(root);
  for (const std::string& part : parts) {
    const std::string what = absl::StrCat(root, "/", path, " (\"", part, "\")");
    const bool made = mkdirat(directory.get(), part.c_str(), 0777) == 0;
    if (!made && errno != EEXIST) return ErrnoError(what);
    if (made && fsync(directory.get()) != 0) return ErrnoError(what);
    UniqueFd next(openat(directory.get(), part.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!next.ok()) return ErrnoError(what);
    directory = std::move(next);
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> DeleteBeneath(const std::string& root, absl::string_view path) {
  P2_ASSIGN_OR_RETURN(const std::vector<std::string> parts, Components(path));
  if (parts.size() < 2)
    return absl::InvalidArgumentError(
        absl::StrCat("\"", path, "\" is a whole part of the root; name a directory inside it"));
  absl::StatusOr<UniqueFd> parent = OpenParent(root, parts);
  if (absl::IsNotFound(parent.status())) return 0;
  P2_RETURN_IF_ERROR(parent.status());
  int64_t bytes = 0;
  P2_RETURN_IF_ERROR(DeleteAt(parent->get(), parts.back().c_str(), absl::StrCat(root, "/", path), bytes));
  return bytes;
}

absl::Status RemoveEmptyBeneath(const std::string& root, absl::string_view path, size_t keep) {
  P2_ASSIGN_OR_RETURN(std::vector<std::string> parts, Components(path));
  for (; parts.size() > keep; parts.pop_back()) {
    const absl::StatusOr<UniqueFd> parent = OpenParent(root, parts);
    if (absl::IsNotFound(parent.status())) continue;
    P2_RETURN_IF_ERROR(parent.status());
    if (unlinkat(parent->get(), parts.back().c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT) continue;
    if (errno == ENOTEMPTY || errno == EEXIST) return absl::OkStatus();
    return ErrnoError(absl::StrCat(root, ": \"", parts.back(), "\""));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes) {
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.ok()) return ErrnoError(path);
  return ReadAll(file.get(), path, max_bytes);
}

}  // namespace p2::agent
