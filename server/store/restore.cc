#include "server/store/restore.h"

#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "server/store/backup_files.h"
#include "server/store/commit_counter.h"
#include "server/store/data_directory.h"
#include "server/store/database.h"
#include "server/store/keys.h"
#include "server/store/record_codec.h"

namespace p2::store {
namespace {

namespace fs = std::filesystem;

absl::Status CheckEmpty(const std::string& directory) {
  std::error_code error;
  if (!fs::exists(directory, error) || (fs::is_directory(directory, error) && fs::is_empty(directory, error)))
    return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "--data-dir ", directory, " is not an empty directory: a restore writes into a new one; give another"));
}

// The copy's own digests against those that the backup promised: it was read again since it was verified.
absl::Status CopyPart(const std::string& backup_dir, const std::string& part, const std::string& to,
                      const FileSums& sums) {
  P2_ASSIGN_OR_RETURN(const FileSums copied, CopyTree(backup_dir + "/" + part, to, nullptr));
  for (const auto& [path, sum] : sums) {
    if (!absl::StartsWith(path, part + "/")) continue;
    const auto copy = copied.find(path.substr(part.size() + 1));
    if (copy == copied.end() || copy->second.sha256 != sum.sha256)
      return absl::DataLossError(absl::StrCat("backup ", backup_dir, ": ", path, " changed while it was copied"));
  }
  return absl::OkStatus();
}

// Puts every live job at its new epoch. Its number of live jobs.
absl::StatusOr<int> Fence(const Database& database, Batch& batch) {
  int jobs = 0;
  bool whole = true;
  P2_RETURN_IF_ERROR(
      Database::View(database).Scan(Key(kLiveJobs), "", [&](absl::string_view, absl::string_view payload) {
        pb::Job message;
        whole = message.ParseFromArray(payload.data(), static_cast<int>(payload.size()));
        if (!whole) return false;
        scheduler::JobRecord job = FromStorage(message);
        job.epoch += kRestoreEpochs;
        if (scheduler::Attempt* attempt = job.EditLiveAttempt(); attempt != nullptr) attempt->epoch = job.epoch;
        batch.Put(Key(kLiveJobs).Text(job.id), ToStorage(job));
        ++jobs;
        return true;
      }));
  if (!whole) return absl::DataLossError("a live job of the backup cannot be parsed: use another backup");
  return jobs;
}

}  // namespace

absl::StatusOr<Restored> RestoreBackup(const std::string& backup_dir, const std::string& data_dir) {
  P2_RETURN_IF_ERROR(CheckEmpty(data_dir));
  std::error_code error;
  if (!fs::is_directory(backup_dir, error)) {
    return absl::NotFoundError(
        absl::StrCat("no directory ", backup_dir, "; backups lie in p2d's --backup-dir, by default DATA_DIR/backups"));
  }
  P2_ASSIGN_OR_RETURN(const FileSums sums, ReadSums(backup_dir));
  P2_RETURN_IF_ERROR(VerifyTree(backup_dir, sums, nullptr));
  Restored restored;
  {
    P2_ASSIGN_OR_RETURN(const auto backup, Database::OpenReadOnly({.database_path = backup_dir + "/db"}));
    P2_ASSIGN_OR_RETURN(const StoreNumbers numbers, backup->Numbers());
    restored.commits = numbers.commits + 1;
  }
  P2_ASSIGN_OR_RETURN(const auto directory, DataDirectory::Open({.path = data_dir}));
  // The counter first, and one ahead: p2d refuses the directory until the batch below is in it.
  P2_RETURN_IF_ERROR(CommitCounter::Create(directory->commits_path(), restored.commits).status());
  P2_RETURN_IF_ERROR(CopyPart(backup_dir, "blobs", directory->blobs_path(), sums));
  P2_RETURN_IF_ERROR(CopyPart(backup_dir, "db", directory->database_path(), sums));
  for (const auto& [path, sum] : sums) restored.size_bytes += sum.size_bytes;

  P2_ASSIGN_OR_RETURN(const auto database, Database::Open({.database_path = directory->database_path()}));
  Batch batch;
  P2_ASSIGN_OR_RETURN(restored.live_jobs, Fence(*database, batch));
  P2_RETURN_IF_ERROR(database->Write(batch));
  return restored;
}

}  // namespace p2::store
