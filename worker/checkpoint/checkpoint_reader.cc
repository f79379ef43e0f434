#include "worker/checkpoint/checkpoint_reader.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/file_util.h"
#include "common/safetensors/safetensors.h"
#include "common/sha256.h"
#include "common/status_macros.h"

namespace p2::checkpoint {
namespace {

constexpr size_t kMaxTextBytes = 64 << 20;
constexpr size_t kDigestPieceBytes = 1 << 20;

std::string ShapeText(absl::Span<const int64_t> shape) { return absl::StrCat("(", absl::StrJoin(shape, ", "), ")"); }

absl::StatusOr<std::string> ReadText(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.ok()) return FileError("open", path);
  P2_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, ReadWhole(fd.get(), path, kMaxTextBytes));
  return std::string(bytes.begin(), bytes.end());
}

absl::Status InFile(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

absl::Status VerifyFile(const std::string& directory, const FileEntry& promised) {
  const std::string path = absl::StrCat(directory, "/", promised.path);
  const absl::StatusOr<FileEntry> found = DigestFile(directory, promised.path);
  if (absl::IsNotFound(found.status())) return absl::DataLossError(absl::StrCat(path, " is missing"));
  P2_RETURN_IF_ERROR(found.status());
  if (found->size_bytes != promised.size_bytes) {
    return absl::DataLossError(
        absl::StrCat(path, " has ", found->size_bytes, " bytes; the manifest says ", promised.size_bytes));
  }
  if (found->sha256 != promised.sha256) {
    return absl::DataLossError(
        absl::StrCat(path, " is damaged: SHA-256 ", found->sha256, "; the manifest says ", promised.sha256));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<FileEntry> DigestFile(const std::string& directory, const std::string& name) {
  const std::string path = absl::StrCat(directory, "/", name);
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.ok()) return FileError("open", path);
  Sha256 sha256;
  std::vector<uint8_t> piece(kDigestPieceBytes);
  int64_t size = 0;
  for (;;) {
    const ssize_t n = ::read(fd.get(), piece.data(), piece.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return FileError("read", path);
    if (n == 0) return FileEntry{name, size, Hex(sha256.Finish())};
    sha256.Update(absl::MakeConstSpan(piece.data(), static_cast<size_t>(n)));
    size += n;
  }
}

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(const std::string& directory) {
  auto checkpoint = std::make_unique<Checkpoint>();
  checkpoint->directory_ = directory;
  const std::string manifest_path = absl::StrCat(directory, "/", kManifestFile);
  const absl::StatusOr<std::string> text = ReadText(manifest_path);
  if (absl::IsNotFound(text.status())) {
    return absl::NotFoundError(absl::StrCat(directory, " is not a checkpoint: it has no ", kManifestFile));
  }
  P2_RETURN_IF_ERROR(text.status());
  absl::StatusOr<Manifest> manifest = ManifestFromJson(*text);
  if (!manifest.ok()) return InFile(manifest_path, manifest.status());
  checkpoint->manifest_ = *std::move(manifest);
  for (const FileEntry& file : checkpoint->manifest_.files) P2_RETURN_IF_ERROR(VerifyFile(directory, file));

  const std::string state_path = absl::StrCat(directory, "/", kStateFile);
  P2_ASSIGN_OR_RETURN(const std::string state_text, ReadText(state_path));
  absl::StatusOr<TrainState> state = TrainStateFromJson(state_text);
  if (!state.ok()) return InFile(state_path, state.status());
  checkpoint->state_ = *std::move(state);
  const Manifest& promised = checkpoint->manifest_;
  const std::string name = std::filesystem::path(directory).filename();
  if (name != DirectoryName(promised.images_seen, promised.epoch) ||
      checkpoint->state_.images_seen != promised.images_seen) {
    return absl::DataLossError(absl::StrCat(manifest_path, " speaks of ", promised.images_seen, " images and epoch ",
                                            promised.epoch, ", ", kStateFile, " of ", checkpoint->state_.images_seen,
                                            " images, the directory is ", name));
  }
  P2_ASSIGN_OR_RETURN(checkpoint->spec_json_, ReadText(absl::StrCat(directory, "/", kSpecFile)));
  return checkpoint;
}

absl::Status Checkpoint::Read(const std::string& path, absl::Span<const MutableTensorView> tensors) const {
  const std::string file = absl::StrCat(directory_, "/", path);
  const auto promised = std::find_if(manifest_.files.begin(), manifest_.files.end(),
                                     [&](const FileEntry& entry) { return entry.path == path; });
  if (promised == manifest_.files.end()) {
    return absl::FailedPreconditionError(absl::StrCat(directory_, " holds no ", path, "; another spec wrote it"));
  }
  return ReadTensors(file, tensors);
}

absl::Status ReadTensors(const std::string& file, absl::Span<const MutableTensorView> tensors) {
  P2_ASSIGN_OR_RETURN(auto reader, safetensors::Reader::Open(file));
  std::set<std::string> wanted;
  for (const MutableTensorView& tensor : tensors) {
    const safetensors::TensorInfo* const info = reader->Find(tensor.name);
    if (info == nullptr) return absl::FailedPreconditionError(absl::StrCat(file, " has no tensor ", tensor.name));
    if (info->shape != tensor.shape || info->dtype != safetensors::DType::kF32) {
      return absl::FailedPreconditionError(absl::StrCat(file, ": ", tensor.name, " is ",
                                                        safetensors::DTypeName(info->dtype), ShapeText(info->shape),
                                                        "; this spec's is F32", ShapeText(tensor.shape)));
    }
    P2_RETURN_IF_ERROR(reader->Read(
        tensor.name, {reinterpret_cast<std::byte*>(tensor.values.data()), tensor.values.size() * sizeof(float)}));
    wanted.insert(tensor.name);
  }
  for (const safetensors::TensorInfo& info : reader->tensors()) {
    if (wanted.count(info.name) == 0) {
      return absl::FailedPreconditionError(
          absl::StrCat(file, " also has ", info.name, ", which this spec's model has not"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<FirstGood> OpenFirstGood(const std::string& parent, const std::vector<std::string>& candidates) {
  FirstGood result;
  const UniqueFd directory(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!candidates.empty() && !directory.ok()) {
    return absl::UnavailableError(FileError("open the directory of the checkpoints,", parent).message());
  }
  for (const std::string& name : candidates) {
    int64_t images = 0, epoch = 0;
    absl::StatusOr<std::unique_ptr<Checkpoint>> opened =
        ParseDirectoryName(name, &images, &epoch)
            ? Checkpoint::Open(absl::StrCat(parent, "/", name))
            : absl::InvalidArgumentError(absl::StrCat("\"", name, "\" is no checkpoint's name"));
    if (opened.ok()) {
      result.checkpoint = *std::move(opened);
      break;
    }
    const absl::Status& why = opened.status();
    if (!absl::IsDataLoss(why) && !absl::IsNotFound(why) && !absl::IsInvalidArgument(why)) return why;
    result.passed_over.push_back(why);
  }
  return result;
}

std::vector<std::string> NamesIn(const std::string& directory) {
  std::vector<std::string> names;
  DIR* const stream = ::opendir(directory.c_str());
  if (stream == nullptr) return names;
  while (const dirent* const entry = ::readdir(stream)) names.push_back(entry->d_name);
  ::closedir(stream);
  return names;
}

std::vector<std::string> ListCheckpoints(const std::string& parent) {
  std::vector<std::tuple<int64_t, int64_t, std::string>> found;
  for (std::string& name : NamesIn(parent)) {
    int64_t images = 0, epoch = 0;
    if (ParseDirectoryName(name, &images, &epoch)) found.emplace_back(images, epoch, std::move(name));
  }
  std::sort(found.rbegin(), found.rend());
  std::vector<std::string> names;
  for (auto& item : found) names.push_back(std::move(std::get<2>(item)));
  return names;
}

}  // namespace p2::checkpoint
