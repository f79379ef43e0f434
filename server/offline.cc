#include "server/offline.h"

#include <filesystem>
#include <memory>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "server/store/data_directory.h"
#include "server/store/database.h"
#include "server/store/restore.h"
#include "server/store/store_check.h"

namespace p2::server {

absl::StatusOr<std::string> RestoreOffline(const ServerOptions& options) {
  P2_ASSIGN_OR_RETURN(const store::Restored restored, store::RestoreBackup(options.restore, options.data_dir));
  return absl::StrCat(
      "restored ", options.restore, " into ", options.data_dir, ": ", restored.size_bytes, " bytes, verified; ",
      restored.commits, " commits; ", restored.live_jobs, " live jobs, each at an epoch higher by ",
      store::kRestoreEpochs,
      ": what runs since before is killed when its worker connects, and its reports are refused.\nStart it with: p2d "
      "--data-dir ",
      options.data_dir, "\n");
}

absl::StatusOr<OfflineCheck> CheckOffline(const ServerOptions& options) {
  std::error_code error;
  if (!std::filesystem::exists(options.data_dir + "/db", error))
    return absl::NotFoundError(absl::StrCat("--data-dir ", options.data_dir, " holds no database"));
  // For its lock; the ballast, which that frees, is taken again.
  P2_ASSIGN_OR_RETURN(const auto directory, store::DataDirectory::Open({.path = options.data_dir}));
  P2_RETURN_IF_ERROR(directory->RestoreBallast());
  P2_ASSIGN_OR_RETURN(const auto database, store::Database::OpenReadOnly({.database_path = directory->database_path(),
                                                                          .commits_path = directory->commits_path()}));
  P2_ASSIGN_OR_RETURN(const store::StoreReport report, store::CheckStore(*database, nullptr));
  OfflineCheck check{.whole = report.finding_count == 0};
  for (const store::StoreFinding& finding : report.findings)
    absl::StrAppend(&check.text, finding.subject, ": ", finding.message, "\n");
  int64_t records = 0;
  for (const auto& [kind, count] : report.records) records += count;
  absl::StrAppend(&check.text, options.data_dir, ": ", records, " records, ", report.numbers.commits,
                  " commits, schema version ", report.numbers.schema_version, ": ",
                  check.whole ? "whole" : absl::StrCat(report.finding_count, " findings; restore a backup"), "\n");
  return check;
}

}  // namespace p2::server
