#include "worker/agent/storage_roots.h"

#include <fcntl.h>
#include <sys/statvfs.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/storage_layout.h"
#include "nlohmann/json.hpp"
#include "worker/agent/files.h"

namespace p2::agent {
namespace {

constexpr int64_t kMaxManifestBytes = int64_t{64} << 20;

bool IsUuid(absl::string_view text) {
  if (text.size() != 36) return false;
  for (size_t i = 0; i < text.size(); ++i)
    if (i == 8 || i == 13 || i == 18 || i == 23 ? text[i] != '-' : !absl::ascii_isxdigit(text[i])) return false;
  return true;
}

absl::StatusOr<std::string> FindRoot(const std::vector<std::pair<std::string, std::string>>& configured,
                                     const std::string& name, const std::string& id) {
  std::string other;
  for (const auto& [root, directory] : configured) {
    const absl::StatusOr<p2::v1::StorageRoot> read = ReadRoot(root, directory);
    if (read.ok() && read->id() == id) return directory;
    if (root == name)
      other = read.ok() ? absl::StrCat("; here ", name, " has ID ", read->id())
                        : absl::StrCat("; ", read.status().message());
  }
  return absl::FailedPreconditionError(absl::StrCat("storage root \"", name, "\" (ID ", id, ") is not visible", other,
                                                    "; start p2-worker with --root ", name,
                                                    "=DIR on a node that mounts it"));
}

// NOT_FOUND is for a source alone.
absl::Status MakeJobDirectory(const std::string& root, const std::string& below) {
  const absl::Status made = MakeDirectoriesBeneath(root, below);
  return absl::IsNotFound(made) ? absl::FailedPreconditionError(made.message()) : made;
}

// The directory of the dataset, with the fingerprint that the job wants; "" if it wants none.
absl::StatusOr<std::string> CheckDataset(const p2::v1::Prepare& prepare,
                                         const std::vector<std::pair<std::string, std::string>>& configured) {
  if (prepare.dataset_root().empty()) return "";
  P2_ASSIGN_OR_RETURN(const std::string root, FindRoot(configured, prepare.dataset_root(), prepare.dataset_root_id()));
  std::string directory = absl::StrCat(root, "/", prepare.dataset_path());
  const absl::StatusOr<std::string> manifest =
      ReadBeneath(root, absl::StrCat(prepare.dataset_path(), "/dataset.json"), kMaxManifestBytes);
  if (!manifest.ok())
    return absl::FailedPreconditionError(
        absl::StrCat("dataset ", directory, ": ", manifest.status().message(),
                     "; prepare it with `p2ctl dataset prepare`, or register its new place"));
  const nlohmann::json json = nlohmann::json::parse(*manifest, nullptr, /*allow_exceptions=*/false);
  const std::string fingerprint = json.is_object() && json.contains("fingerprint") && json["fingerprint"].is_string()
                                      ? json["fingerprint"].get<std::string>()
                                      : "";
  if (fingerprint != prepare.dataset_fingerprint())
    return absl::FailedPreconditionError(absl::StrCat("dataset ", directory, " has fingerprint \"", fingerprint,
                                                      "\", the job wants \"", prepare.dataset_fingerprint(),
                                                      "\"; register the changed dataset under a new name"));
  return directory;
}

}  // namespace

absl::StatusOr<p2::v1::StorageRoot> ReadRoot(const std::string& name, const std::string& directory) {
  absl::StatusOr<std::string> text = ReadFile(directory + "/.p2-root-id", 4096);
  if (!text.ok())
    return absl::FailedPreconditionError(absl::StrCat("root ", name, ": ", directory, " holds no .p2-root-id (",
                                                      text.status().message(), "); `p2ctl root init ", directory,
                                                      "` makes it a root"));
  const absl::string_view id = absl::StripAsciiWhitespace(*text);
  if (!IsUuid(id))
    return absl::FailedPreconditionError(absl::StrCat("root ", name, ": ", directory,
                                                      "/.p2-root-id holds no UUID; `p2ctl root init ", directory,
                                                      "` makes it a root"));
  struct statvfs space;
  if (statvfs(directory.c_str(), &space) != 0) return ErrnoError(directory);
  p2::v1::StorageRoot root;
  root.set_name(name);
  root.set_id(absl::AsciiStrToLower(id));
  root.set_path(directory);
  root.set_free_bytes(static_cast<int64_t>(space.f_bavail * space.f_frsize));
  root.set_total_bytes(static_cast<int64_t>(space.f_blocks * space.f_frsize));
  return root;
}

std::vector<p2::v1::StorageRoot> ReadRoots(const std::vector<std::pair<std::string, std::string>>& configured,
                                           std::vector<std::string>& problems) {
  std::vector<p2::v1::StorageRoot> roots;
  for (const auto& [name, directory] : configured) {
    absl::StatusOr<p2::v1::StorageRoot> root = ReadRoot(name, directory);
    if (root.ok())
      roots.push_back(*std::move(root));
    else
      problems.emplace_back(root.status().message());
  }
  return roots;
}

absl::StatusOr<JobDirectories> CheckStorage(const p2::v1::Prepare& prepare,
                                            const std::vector<std::pair<std::string, std::string>>& configured) {
  JobDirectories directories;
  P2_ASSIGN_OR_RETURN(directories.dataset_dir, CheckDataset(prepare, configured));
  P2_ASSIGN_OR_RETURN(directories.checkpoint_root,
                      FindRoot(configured, prepare.checkpoint_root(), prepare.checkpoint_root_id()));
  if (!prepare.source_root().empty()) {
    P2_ASSIGN_OR_RETURN(const std::string root, FindRoot(configured, prepare.source_root(), prepare.source_root_id()));
    if (const absl::Status there = OpenBeneath(root, prepare.source_path(), O_PATH).status(); !there.ok()) {
      const std::string what = absl::StrCat("the job starts from ", root, "/", prepare.source_path(), ": ",
                                            there.message(), "; put it there, or submit anew with the right path");
      return absl::IsNotFound(there) ? absl::NotFoundError(what) : absl::FailedPreconditionError(what);
    }
    directories.source = absl::StrCat(root, "/", prepare.source_path());
  }
  const std::string below = JobCheckpoints(prepare.job());
  P2_RETURN_IF_ERROR(MakeJobDirectory(directories.checkpoint_root, below));
  directories.checkpoint_dir = absl::StrCat(directories.checkpoint_root, "/", below);
  if (prepare.writes_output()) {
    const std::string output = JobOutput(prepare.job());
    P2_RETURN_IF_ERROR(MakeJobDirectory(directories.checkpoint_root, output));
    directories.output_dir = absl::StrCat(directories.checkpoint_root, "/", output);
  }
  return directories;
}

absl::StatusOr<int64_t> DeleteFromRoot(const p2::v1::DeletePath& request,
                                       const std::vector<std::pair<std::string, std::string>>& configured) {
  for (const auto& [name, directory] : configured) {
    const absl::StatusOr<p2::v1::StorageRoot> root = ReadRoot(name, directory);
    if (!root.ok() || root->id() != request.root_id()) continue;
    P2_ASSIGN_OR_RETURN(const int64_t bytes, DeleteBeneath(directory, request.path()));
    const std::string parent = request.path().substr(0, request.path().rfind('/'));
    if (absl::StartsWith(parent, absl::StrCat(kJobsDirectory, "/")))
      P2_RETURN_IF_ERROR(RemoveEmptyBeneath(directory, parent, /*keep=*/1));
    return bytes;
  }
  return absl::FailedPreconditionError(absl::StrCat("no storage root with ID ", request.root_id(), " is visible here"));
}

absl::Status RemoveEmptyJobDirectories(const std::string& checkpoint_root, const std::string& job) {
  return RemoveEmptyBeneath(checkpoint_root, JobCheckpoints(job), /*keep=*/1);
}

}  // namespace p2::agent
