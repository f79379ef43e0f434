#include "worker/checkpoint/checkpoint_writer.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/failpoint.h"
#include "common/file_util.h"
#include "common/safetensors/safetensors.h"
#include "common/status_macros.h"
#include "worker/checkpoint/checkpoint_reader.h"

namespace p2::checkpoint {
namespace {

constexpr char kTemporaryPrefix[] = ".tmp-";

absl::Status WriteText(const std::string& path, absl::string_view text) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd.ok()) return FileError("create", path);
  P2_RETURN_IF_ERROR(WriteAll(fd.get(), path, {reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
  return ::fsync(fd.get()) == 0 ? absl::OkStatus() : FileError("sync", path);
}

absl::Status WriteTensors(const std::string& path, const TensorFile& file) {
  std::vector<safetensors::TensorInfo> infos;
  for (const TensorView& tensor : file.tensors) infos.push_back({tensor.name, safetensors::DType::kF32, tensor.shape});
  P2_ASSIGN_OR_RETURN(auto writer, safetensors::Writer::Create(path, std::move(infos), {{"format", "pt"}}));
  for (const TensorView& tensor : file.tensors) {
    P2_RETURN_IF_ERROR(writer->Append(
        {reinterpret_cast<const std::byte*>(tensor.values.data()), tensor.values.size() * sizeof(float)}));
  }
  return writer->Finish();
}

absl::StatusOr<WrittenCheckpoint> WriteInto(const std::string& directory, const Snapshot& snapshot,
                                            const std::function<void()>& tick) {
  Manifest manifest{snapshot.state.images_seen, snapshot.epoch, snapshot.attempt, snapshot.ema_profiles, {}};
  const auto finish_file = [&](const std::string& name) -> absl::Status {
    P2_ASSIGN_OR_RETURN(FileEntry entry, DigestFile(directory, name));
    manifest.files.push_back(std::move(entry));
    if (tick) tick();
    return absl::OkStatus();
  };
  P2_RETURN_IF_ERROR(P2_FAILPOINT("checkpoint.before_write"));
  for (const TensorFile& file : snapshot.tensors) {
    P2_RETURN_IF_ERROR(WriteTensors(absl::StrCat(directory, "/", file.path), file));
    P2_RETURN_IF_ERROR(finish_file(file.path));
  }
  const std::pair<const char*, std::string> texts[] = {{kStateFile, TrainStateToJson(snapshot.state)},
                                                       {kSpecFile, snapshot.spec_json}};
  for (const auto& [name, text] : texts) {
    P2_RETURN_IF_ERROR(WriteText(absl::StrCat(directory, "/", name), text));
    P2_RETURN_IF_ERROR(finish_file(name));
  }
  P2_RETURN_IF_ERROR(P2_FAILPOINT("checkpoint.before_manifest"));
  P2_RETURN_IF_ERROR(WriteText(absl::StrCat(directory, "/", kManifestFile), ManifestToJson(manifest)));
  P2_RETURN_IF_ERROR(SyncDirectory(directory));
  P2_ASSIGN_OR_RETURN(const FileEntry self, DigestFile(directory, kManifestFile));
  P2_RETURN_IF_ERROR(P2_FAILPOINT("checkpoint.before_rename"));
  return WrittenCheckpoint{DirectoryName(manifest.images_seen, manifest.epoch), std::move(manifest), self.sha256};
}

}  // namespace

absl::StatusOr<WrittenCheckpoint> WriteCheckpoint(const std::string& parent, const Snapshot& snapshot,
                                                  const std::function<void()>& tick) {
  std::error_code error;
  std::filesystem::create_directories(parent, error);
  if (error) return absl::UnavailableError(absl::StrCat("cannot create ", parent, ": ", error.message()));
  const std::string name = DirectoryName(snapshot.state.images_seen, snapshot.epoch);
  const std::string path = absl::StrCat(parent, "/", name),
                    temporary = absl::StrCat(parent, "/", kTemporaryPrefix, name);
  if (std::filesystem::exists(path, error)) {
    if (absl::StatusOr<std::unique_ptr<Checkpoint>> there = Checkpoint::Open(path); there.ok()) {
      P2_ASSIGN_OR_RETURN(const FileEntry self, DigestFile(path, kManifestFile));
      return WrittenCheckpoint{name, (*there)->manifest(), self.sha256};
    }
    RemoveTree(path);
  }
  RemoveTree(temporary);
  if (::mkdir(temporary.c_str(), 0755) != 0) return FileError("create", temporary);
  absl::StatusOr<WrittenCheckpoint> written = WriteInto(temporary, snapshot, tick);
  if (written.ok() && ::rename(temporary.c_str(), path.c_str()) != 0) written = FileError("rename", temporary);
  if (!written.ok()) {
    RemoveTree(temporary);
    return written;
  }
  P2_RETURN_IF_ERROR(P2_FAILPOINT("checkpoint.before_parent_sync"));
  P2_RETURN_IF_ERROR(SyncDirectory(parent));
  P2_RETURN_IF_ERROR(P2_FAILPOINT("checkpoint.after_parent_sync"));
  return written;
}

void RemoveStaleTemporaries(const std::string& parent, int64_t epoch) {
  for (const std::string& name : NamesIn(parent)) {
    int64_t images = 0, of_epoch = 0;
    if (absl::StartsWith(name, kTemporaryPrefix) &&
        ParseDirectoryName(name.substr(sizeof(kTemporaryPrefix) - 1), &images, &of_epoch) && of_epoch < epoch) {
      RemoveTree(absl::StrCat(parent, "/", name));
    }
  }
}

bool RemoveTree(const std::string& path) {
  const auto remove_entry = [](const char* entry, const struct stat*, int, struct FTW*) { return ::remove(entry); };
  return ::nftw(path.c_str(), remove_entry, /*nopenfd=*/16, FTW_DEPTH | FTW_PHYS) == 0;
}

BackgroundWriter::BackgroundWriter(std::string parent, std::function<void()> tick, OnDone on_done)
    : parent_(std::move(parent)), tick_(std::move(tick)), on_done_(std::move(on_done)) {}

BackgroundWriter::~BackgroundWriter() {
  if (thread_.joinable()) thread_.join();
}

void BackgroundWriter::Start(Snapshot snapshot) {
  if (thread_.joinable()) thread_.join();
  thread_ = std::thread([this, snapshot = std::move(snapshot)]() mutable {
    const auto arrive = std::exchange(snapshot.arrive, nullptr);
    const absl::Status arrived = arrive ? arrive(&snapshot) : absl::OkStatus();
    const absl::StatusOr<WrittenCheckpoint> written =
        arrived.ok() ? WriteCheckpoint(parent_, snapshot, tick_) : absl::StatusOr<WrittenCheckpoint>(arrived);
    result_ = written.status();
    on_done_(written);
  });
}

absl::Status BackgroundWriter::Wait() {
  if (thread_.joinable()) thread_.join();
  return std::exchange(result_, absl::OkStatus());
}

}  // namespace p2::checkpoint
