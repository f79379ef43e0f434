#include "server/store/backup.h"

#include <fcntl.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/error_reason.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "google/protobuf/util/json_util.h"
#include "p2/storage/v1/records.pb.h"
#include "server/store/file_io.h"

namespace p2::store {
namespace {

namespace fs = std::filesystem;
namespace pb = p2::storage::v1;

constexpr char kPart[] = ".part";
constexpr char kInfoFile[] = "backup.json";
constexpr absl::string_view kIdForm = "dddddddd-dddddd-ddd";

std::string IdOf(absl::Time time) {
  const int64_t milliseconds = absl::ToUnixMillis(time) % 1000;
  return absl::StrCat(absl::FormatTime("%Y%m%d-%H%M%S", time, absl::UTCTimeZone()), "-",
                      absl::Dec(milliseconds, absl::kZeroPad3));
}

bool IsId(absl::string_view name) {
  return name.size() == kIdForm.size() && std::equal(name.begin(), name.end(), kIdForm.begin(), [](char c, char form) {
           return form == 'd' ? absl::ascii_isdigit(c) : c == form;
         });
}

void Remove(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) {
    P2_LOG(kWarning) << path << " is left: " << error.message();
  }
}

absl::Status Rename(const std::string& from, const std::string& to) {
  return std::rename(from.c_str(), to.c_str()) == 0 ? absl::OkStatus() : ErrnoError("rename", from);
}

void Merge(FileSums& into, const std::string& below, FileSums sums) {
  for (auto& [path, sum] : sums) into[absl::StrCat(below, "/", path)] = std::move(sum);
}

absl::StatusOr<FileSum> WriteInfo(const std::string& path, const Backup& backup, const StoreNumbers& numbers,
                                  const std::string& version) {
  pb::Backup info;
  info.set_create_time(absl::FormatTime(backup.create_time, absl::UTCTimeZone()));
  info.set_verify_time(absl::FormatTime(backup.verify_time, absl::UTCTimeZone()));
  info.set_size_bytes(backup.size_bytes);
  info.set_commits(backup.commits);
  info.set_schema_version(numbers.schema_version);
  info.set_p2d_version(version);
  google::protobuf::util::JsonPrintOptions style;
  style.add_whitespace = true;
  std::string json;
  if (!google::protobuf::util::MessageToJsonString(info, &json, style).ok())
    return absl::InternalError(absl::StrCat("cannot write ", path));
  return WriteFile(path, json);
}

// The directory of hard links in the data directory; removed at the end.
class LinkedCopy {
 public:
  explicit LinkedCopy(std::string path) : path_(std::move(path)) {}
  ~LinkedCopy() { Remove(path_); }
  LinkedCopy(const LinkedCopy&) = delete;
  LinkedCopy& operator=(const LinkedCopy&) = delete;
  const std::string& path() const { return path_; }

 private:
  const std::string path_;
};

}  // namespace

Backups::Backups(const Database& database, const DataDirectory& data, BackupOptions options)
    : database_(database), data_(data), options_(std::move(options)) {
  RemoveLeftovers();
}

absl::StatusOr<Backup> Backups::Create(const std::string& request_id, const Cancelled& cancelled) {
  absl::MutexLock lock(&mutex_);
  if (!request_id.empty() && request_id == last_request_) return last_answer_;
  P2_RETURN_IF_ERROR(MakeDirectories(options_.directory));
  RemoveLeftovers();
  absl::Time now = absl::Now();
  std::error_code error;
  while (fs::exists(absl::StrCat(options_.directory, "/", IdOf(now)), error)) now += absl::Milliseconds(1);
  const std::string path = absl::StrCat(options_.directory, "/", IdOf(now));
  const std::string part = path + kPart;
  absl::StatusOr<Backup> backup = Write(part, now, cancelled);
  absl::Status status = backup.status();
  if (status.ok()) status = Rename(part, path);
  if (status.ok()) status = SyncPath(options_.directory);
  if (!status.ok()) {
    Remove(part);
    return status;
  }
  backup->id = IdOf(now);
  backup->path = path;
  Prune(backup->id);
  last_request_ = request_id;
  last_answer_ = *backup;
  return backup;
}

absl::StatusOr<Backup> Backups::Write(const std::string& part, absl::Time now, const Cancelled& cancelled) const {
  // Tables as hard links within the data directory, which costs nothing; then copied, since a link would share the
  // damage of the disk's blocks. Logs and artifacts after the database: they are synced before a batch knows of them.
  const LinkedCopy links(links_path());
  P2_RETURN_IF_ERROR(database_.LinkCopy(links.path()));
  P2_ASSIGN_OR_RETURN(DiskSpace space, options_.disk_space(options_.directory));
  const int64_t needed = TreeBytes(links.path()) + TreeBytes(data_.blobs_path());
  const int64_t free_bytes = space.free_bytes;
  space.free_bytes -= needed;
  if (DiskWatermark().Update(space)) {
    return Error(ErrorReason::kDiskFull, absl::StrCat("a backup takes ", needed >> 20, " MiB and ", options_.directory,
                                                      " has ", free_bytes >> 20,
                                                      " MiB free: too little would be left; remove old backups, lower "
                                                      "--keep-backups, or give p2d a --backup-dir on another disk"));
  }
  FileSums sums;
  P2_ASSIGN_OR_RETURN(FileSums copied, CopyTree(links.path(), part + "/db", cancelled));
  Merge(sums, "db", std::move(copied));
  P2_ASSIGN_OR_RETURN(copied, CopyTree(data_.blobs_path(), part + "/blobs", cancelled));
  Merge(sums, "blobs", std::move(copied));

  P2_RETURN_IF_ERROR(VerifyTree(part, sums, cancelled));
  P2_ASSIGN_OR_RETURN(const auto copy, Database::OpenReadOnly({.database_path = part + "/db"}));
  P2_RETURN_IF_ERROR(copy->VerifyChecksums());
  P2_ASSIGN_OR_RETURN(const StoreNumbers numbers, copy->Numbers());

  Backup backup;
  backup.create_time = now;
  backup.verify_time = absl::Now();
  backup.commits = numbers.commits;
  for (const auto& [file, sum] : sums) backup.size_bytes += sum.size_bytes;
  P2_ASSIGN_OR_RETURN(sums[kInfoFile],
                      WriteInfo(absl::StrCat(part, "/", kInfoFile), backup, numbers, options_.p2d_version));
  P2_RETURN_IF_ERROR(WriteFile(absl::StrCat(part, "/", kSumsFile), FormatSums(sums)).status());
  P2_RETURN_IF_ERROR(SyncPath(part));
  return backup;
}

std::optional<Backup> Backups::Last() const {
  const std::vector<std::string> ids = Ids();
  if (ids.empty()) return std::nullopt;
  Backup backup{.id = ids.back(), .path = absl::StrCat(options_.directory, "/", ids.back())};
  const absl::StatusOr<File> file = File::Open(absl::StrCat(backup.path, "/", kInfoFile), O_RDONLY);
  if (!file.ok()) return backup;
  const absl::StatusOr<std::string> json = file->ReadAt(0, 1 << 16);
  pb::Backup info;
  if (!json.ok() || !google::protobuf::util::JsonStringToMessage(*json, &info).ok()) return backup;
  absl::ParseTime(absl::RFC3339_full, info.create_time(), &backup.create_time, nullptr);
  absl::ParseTime(absl::RFC3339_full, info.verify_time(), &backup.verify_time, nullptr);
  backup.size_bytes = info.size_bytes();
  backup.commits = info.commits();
  return backup;
}

void Backups::RemoveLeftovers() const {
  Remove(links_path());
  std::error_code error;
  for (fs::directory_iterator it(options_.directory, error); !error && it != fs::directory_iterator();
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (absl::EndsWith(name, kPart) && IsId(name.substr(0, kIdForm.size()))) Remove(it->path());
  }
}

void Backups::Prune(const std::string& newest) const {
  std::vector<std::string> ids = Ids();
  std::erase(ids, newest);  // Also where the clock was set back.
  const size_t keep = static_cast<size_t>(options_.keep) - 1;
  for (size_t i = 0; i + keep < ids.size(); ++i) {
    const std::string path = absl::StrCat(options_.directory, "/", ids[i]);
    // Its name goes first: what has one is whole.
    if (absl::Status status = Rename(path, path + kPart); !status.ok()) {
      P2_LOG(kWarning) << "an old backup is left: " << status.message();
    } else {
      Remove(path + kPart);
    }
  }
}

std::vector<std::string> Backups::Ids() const {
  std::vector<std::string> ids;
  std::error_code error;
  for (fs::directory_iterator it(options_.directory, error); !error && it != fs::directory_iterator();
       it.increment(error)) {
    if (const std::string name = it->path().filename().string(); IsId(name)) ids.push_back(name);
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

}  // namespace p2::store
