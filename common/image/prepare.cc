#include "common/image/prepare.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/clock.h"
#include "common/file_util.h"
#include "common/image/image_source.h"
#include "common/image/partial.h"
#include "common/image/record_pipeline.h"
#include "common/image/shard_set.h"
#include "common/sha256.h"
#include "common/status_macros.h"

namespace p2::image {
namespace {

namespace fs = std::filesystem;

absl::Status Cancelled() { return absl::CancelledError("stopped before the end"); }

// Counts, and calls back now and then.
class ProgressMeter {
 public:
  ProgressMeter(const std::function<void(const PrepareProgress&)>& callback, absl::Duration interval, uint64_t total)
      : callback_(callback), interval_(interval), start_(Clock::Real().Monotonic()), last_(start_) {
    progress_.total = total;
    progress_.eta = absl::InfiniteDuration();
  }

  // What an earlier prepare did: counted, but not in the rate.
  void Begin(uint64_t images, uint64_t bad, uint64_t bytes) {
    progress_.done = begun_ = images;
    progress_.bad = bad;
    progress_.bytes = bytes;
  }

  void Add(uint64_t images, uint64_t bad, uint64_t bytes) {
    progress_.done += images;
    progress_.bad += bad;
    progress_.bytes += bytes;
    const absl::Time now = Clock::Real().Monotonic();
    if (!callback_ || (now - last_ < interval_ && progress_.done < progress_.total)) return;
    last_ = now;
    const double seconds = std::max(absl::ToDoubleSeconds(now - start_), 1e-9);
    progress_.images_per_second = static_cast<double>(progress_.done - begun_) / seconds;
    progress_.eta = absl::Seconds(static_cast<double>(progress_.total - progress_.done) / progress_.images_per_second);
    callback_(progress_);
  }

 private:
  const std::function<void(const PrepareProgress&)>& callback_;
  const absl::Duration interval_;
  const absl::Time start_;
  absl::Time last_;
  uint64_t begun_ = 0;
  PrepareProgress progress_;
};

// `output`.tmp while it is being filled: locked, and gone again unless published or kept.
class Staging {
 public:
  static absl::StatusOr<std::unique_ptr<Staging>> Create(const std::string& output) {
    std::unique_ptr<Staging> staging(new Staging(output));
    std::error_code error;
    fs::create_directory(staging->path_, error);
    staging->lock_ = UniqueFd(open(staging->path_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!staging->lock_.ok()) return FileError("create", staging->path_);
    if (flock(staging->lock_.get(), LOCK_EX | LOCK_NB) != 0) {
      return absl::AbortedError(
          absl::StrCat("another prepare is writing ", staging->path_, "; wait for it or stop it"));
    }
    staging->owned_ = true;
    return staging;
  }
  ~Staging() {
    std::error_code ignored;
    if (owned_) fs::remove_all(path_, ignored);
  }

  // Removes everything but `files`: what a prepare that was killed left.
  absl::Status RemoveAllBut(const std::set<std::string>& files) {
    std::error_code error;
    for (fs::directory_iterator it(path_, error), end; !error && it != end; it.increment(error)) {
      if (!files.contains(it->path().filename())) fs::remove_all(it->path(), error);
    }
    if (error) return absl::InternalError(absl::StrCat("cannot empty ", path_, ": ", error.message()));
    return absl::OkStatus();
  }
  // From now on it stays, whatever happens. Any thread.
  void Keep() { owned_ = false; }

  absl::Status Publish() {
    P2_RETURN_IF_ERROR(RemoveFile(kPartialFile));
    P2_RETURN_IF_ERROR(SyncDirectory(path_));
    if (renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, output_.c_str(), RENAME_NOREPLACE) != 0) {
      return FileError("rename to", output_);
    }
    owned_ = false;
    const std::string parent = fs::path(output_).parent_path().string();
    return SyncDirectory(parent.empty() ? "." : parent);
  }
  const std::string& path() const { return path_; }

 private:
  explicit Staging(const std::string& output) : output_(output), path_(output + ".tmp") {}

  absl::Status RemoveFile(const char* name) {
    const std::string path = absl::StrCat(path_, "/", name);
    return unlink(path.c_str()) == 0 || errno == ENOENT ? absl::OkStatus() : FileError("remove", path);
  }

  const std::string output_;
  const std::string path_;
  UniqueFd lock_;
  std::atomic<bool> owned_ = false;
};

bool IsDatasetName(absl::string_view name) {
  const auto plain = [](char c) { return absl::ascii_islower(c) || absl::ascii_isdigit(c); };
  return !name.empty() && name.size() <= 63 && plain(name[0]) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return plain(c) || c == '.' || c == '_' || c == '-'; });
}

absl::Status CheckOptions(const PrepareOptions& options) {
  if (!IsDatasetName(options.name)) {
    return absl::InvalidArgumentError(
        absl::StrCat("dataset name \"", options.name, "\" is not [a-z0-9][a-z0-9._-]*, at most 63 characters"));
  }
  if (options.resolution < 1 || options.resolution > kMaxResolution) {
    return absl::InvalidArgumentError(
        absl::StrCat("resolution is ", options.resolution, "; 1 to ", kMaxResolution, " is possible"));
  }
  if (options.channels != 1 && options.channels != 3) {
    return absl::InvalidArgumentError(
        absl::StrCat("channels is ", options.channels, "; 1 (grey) or 3 (RGB) is possible"));
  }
  if (options.threads < 0 || options.shard_bytes < 1) {
    return absl::InvalidArgumentError("threads may not be negative, nor shard_bytes 0");
  }
  const DecodeLimits& limits = options.limits;
  if (limits.max_pixels < 1 || limits.max_pixels > kMostPixels || limits.max_file_bytes < 1 ||
      limits.max_file_bytes > kMostFileBytes) {
    return absl::InvalidArgumentError(absl::StrCat("max_pixels is ", limits.max_pixels, ", max_file_bytes ",
                                                   limits.max_file_bytes, "; 1 to ", kMostPixels, " and 1 to ",
                                                   kMostFileBytes, " are possible"));
  }
  return absl::OkStatus();
}

// What lies at `output` already: nothing, or a dataset that this prepare could be making again.
absl::StatusOr<std::optional<DatasetManifest>> FindExisting(const PrepareOptions& options) {
  std::error_code error;
  if (fs::symlink_status(options.output, error).type() == fs::file_type::not_found) return std::nullopt;
  absl::StatusOr<DatasetManifest> existing = LoadManifest(options.output);
  if (!existing.ok()) {
    return absl::AlreadyExistsError(absl::StrCat(options.output, " exists and is no readable dataset (",
                                                 existing.status().message(), "); remove it or take another name"));
  }
  if (existing->name != options.name || existing->resolution != options.resolution ||
      existing->channels != options.channels) {
    return absl::AlreadyExistsError(absl::StrCat(options.output, " holds dataset \"", existing->name, "\" of ",
                                                 existing->resolution, " px and ", existing->channels,
                                                 " channels; remove it or take another name"));
  }
  return *std::move(existing);
}

absl::Status CheckSpace(const std::string& output, uint64_t needed) {
  const std::string parent = fs::path(output).parent_path().string();
  struct statvfs info;
  if (statvfs(parent.empty() ? "." : parent.c_str(), &info) != 0) return FileError("find the free space of", parent);
  const uint64_t available = static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
  if (needed <= available) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("the dataset needs ", needed >> 20, " MiB, ", available >> 20,
                                                   " MiB are free beside ", output,
                                                   "; free some, or prepare to another root"));
}

absl::Status NoneReadable(const std::string& input, const DatasetManifest& manifest) {
  std::string reasons;
  for (size_t i = 0; i < manifest.bad_images.size() && i < 3; ++i) {
    absl::StrAppend(&reasons, i == 0 ? "" : "; ", manifest.bad_images[i].path, ": ", manifest.bad_images[i].reason);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("none of the ", manifest.bad_count, " images in ", input, " can be read: ", reasons));
}

// Reads a shard that the manifest, or what is kept, describes; `record` hears of each record's digest. DATA_LOSS says
// what is wrong with it.
absl::Status CheckShard(const std::string& directory, const ShardInfo& shard, uint64_t record_bytes,
                        std::stop_token stop, const std::function<void(const Fingerprint::Digest&)>& record_done) {
  const std::string path = absl::StrCat(directory, "/", shard.file);
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.ok())
    return errno == ENOENT ? absl::DataLossError(absl::StrCat(path, " is missing")) : FileError("open", path);
  std::array<uint8_t, kShardHeaderBytes> header;
  P2_RETURN_IF_ERROR(PReadAll(fd.get(), path, 0, absl::MakeSpan(header)));
  // A damaged header or damaged checksums are found by the digest; here they only name no record.
  std::vector<uint32_t> checksums;
  if (const absl::StatusOr<ShardHeader> decoded = DecodeShardHeader(header);
      decoded.ok() && decoded->count == shard.count && decoded->record_bytes() == record_bytes) {
    if (absl::StatusOr<std::vector<uint32_t>> read = ReadChecksums(fd.get(), path, *decoded); read.ok())
      checksums = *std::move(read);
  }
  absl::Status damaged;
  std::vector<uint8_t> record(record_bytes);
  Sha256 sha;
  sha.Update(header);
  for (uint64_t i = 0; i < shard.count; ++i) {
    if (stop.stop_requested()) return Cancelled();
    P2_RETURN_IF_ERROR(PReadAll(fd.get(), path, kShardHeaderBytes + i * record.size(), absl::MakeSpan(record)));
    sha.Update(record);
    if (!checksums.empty()) damaged.Update(CheckRecord(record, checksums[i], path, i));
    record_done(Fingerprint::OfRecord(record));
  }
  std::vector<uint8_t> rest(1 << 16);  // The checksums.
  for (uint64_t at = kShardHeaderBytes + shard.count * record_bytes; at < shard.bytes; at += rest.size()) {
    rest.resize(std::min<uint64_t>(rest.size(), shard.bytes - at));
    P2_RETURN_IF_ERROR(PReadAll(fd.get(), path, at, absl::MakeSpan(rest)));
    sha.Update(rest);
  }
  const std::string digest = Hex(sha.Finish());
  if (digest != shard.sha256) {
    return absl::DataLossError(absl::StrCat(path, " is damaged: its SHA-256 is ", digest, ", the manifest says ",
                                            shard.sha256,
                                            damaged.ok() ? "" : "; the first damaged record: ", damaged.message()));
  }
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return FileError("stat", path);
  if (static_cast<uint64_t>(info.st_size) != shard.bytes) {
    return absl::DataLossError(absl::StrCat(path, " has ", info.st_size, " bytes, the manifest says ", shard.bytes));
  }
  absl::StatusOr<ShardHeader> decoded = DecodeShardHeader(header);
  if (!decoded.ok()) return absl::DataLossError(absl::StrCat(path, ": ", decoded.status().message()));
  return absl::OkStatus();
}

absl::Status Stopped(const Partial& partial, const std::string& staging) {
  if (partial.shards.empty()) return absl::CancelledError("stopped; nothing was left behind");
  return absl::CancelledError(absl::StrCat("stopped; the ", partial.shards.size(), " complete shards (",
                                           partial.images_done, " images) stay in ", staging,
                                           "; the same command goes on there"));
}

// What the bytes of the dataset depend on.
absl::StatusOr<std::string> IdentityOfWork(const ImageSource& source, const PrepareOptions& options,
                                           uint64_t records_per_shard) {
  P2_ASSIGN_OR_RETURN(const std::string input, source.Identity());
  return Sha256Hex(absl::StrCat(P2_VERSION, " ", kShardVersion, " ", options.name, " ", options.resolution, " ",
                                options.channels, " ", options.exif, " ", options.limits.max_pixels, " ",
                                options.limits.max_file_bytes, " ", records_per_shard, " ", input));
}

// What an earlier prepare of the same work left in `directory` and still is what it was, its records' digests added to
// `fingerprint`; else nothing done.
absl::StatusOr<Partial> Resume(const std::string& directory, const std::string& identity, uint64_t record_bytes,
                               uint64_t records_per_shard, std::stop_token stop, Fingerprint& fingerprint) {
  absl::StatusOr<Partial> partial = LoadPartial(directory);
  Partial nothing{.identity = identity};
  if (!partial.ok() || partial->identity != identity) return nothing;
  Fingerprint kept;
  for (size_t i = 0; i < partial->shards.size(); ++i) {
    const ShardInfo& shard = partial->shards[i];
    if (shard.file != ShardFileName(i) || shard.count != records_per_shard) return nothing;
    const absl::Status whole = CheckShard(directory, shard, record_bytes, stop,
                                          [&kept](const Fingerprint::Digest& digest) { kept.Add(digest); });
    if (absl::IsCancelled(whole)) return whole;
    if (!whole.ok()) return nothing;
  }
  fingerprint = std::move(kept);
  return *std::move(partial);
}

}  // namespace

absl::StatusOr<DatasetManifest> PrepareDataset(const PrepareOptions& given) {
  PrepareOptions options = given;
  while (options.output.size() > 1 && options.output.back() == '/') options.output.pop_back();
  P2_RETURN_IF_ERROR(CheckOptions(options));
  const std::string parent = fs::path(options.output).parent_path().string();
  P2_ASSIGN_OR_RETURN(const std::unique_ptr<ImageSource> source,
                      ImageSource::Open(options.input, {.resolution = options.resolution,
                                                        .max_file_bytes = options.limits.max_file_bytes,
                                                        .scratch = parent.empty() ? "." : parent}));
  const uint64_t total = source->names().size();
  if (total == 0) {
    return absl::InvalidArgumentError(absl::StrCat("no image in ", options.input, ": ", source->others(),
                                                   " files, none named .jpg, .jpeg, .png, .gif or .webp"));
  }
  P2_ASSIGN_OR_RETURN(const std::optional<DatasetManifest> existing, FindExisting(options));

  DatasetManifest manifest;
  manifest.name = options.name;
  manifest.resolution = options.resolution;
  manifest.channels = options.channels;
  manifest.created_by = absl::StrCat("p2 ", P2_VERSION);
  const uint64_t record_bytes = manifest.record_bytes();
  const uint64_t shard_bytes = std::max(options.shard_bytes, total * record_bytes / 512);
  const uint64_t records_per_shard = std::max<uint64_t>(1, shard_bytes / record_bytes);
  P2_ASSIGN_OR_RETURN(const std::unique_ptr<Staging> staging, Staging::Create(options.output));

  Partial partial;
  Fingerprint fingerprint;
  if (!existing) {
    P2_ASSIGN_OR_RETURN(const std::string identity, IdentityOfWork(*source, options, records_per_shard));
    P2_ASSIGN_OR_RETURN(partial,
                        Resume(staging->path(), identity, record_bytes, records_per_shard, options.stop, fingerprint));
    if (!partial.shards.empty()) staging->Keep();
    const uint64_t left = (total - std::min(total, partial.images_done)) * record_bytes;
    P2_RETURN_IF_ERROR(CheckSpace(options.output, left + left / 100));
  }
  std::set<std::string> kept = {kPartialFile};
  for (const ShardInfo& shard : partial.shards) kept.insert(shard.file);
  P2_RETURN_IF_ERROR(staging->RemoveAllBut(kept));

  const uint32_t side = static_cast<uint32_t>(options.resolution);
  ShardSet shards(staging->path(), {static_cast<uint32_t>(options.channels), side, side}, records_per_shard,
                  [&staging] { staging->Keep(); });
  shards.Begin(partial);
  {
    const int cores = static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, 16u));
    RecordPipeline pipeline(*source, options, options.threads > 0 ? options.threads : cores, partial.images_done);
    ProgressMeter meter(options.progress, options.progress_interval, total);
    meter.Begin(partial.images_done, partial.bad_count, fingerprint.count() * record_bytes);
    Record record;
    for (uint64_t i = partial.images_done; i < total; ++i) {
      const absl::Status read = pipeline.Next(record);
      if (options.stop.stop_requested()) {
        (void)shards.Wait();
        return Stopped(shards.kept(), staging->path());
      }
      partial.images_done = i + 1;
      if (!read.ok()) {
        ++partial.bad_count;
        if (partial.bad_images.size() < kMaxBadImagesListed) {
          partial.bad_images.push_back({source->names()[i], std::string(read.message())});
        }
        meter.Add(1, 1, 0);
        continue;
      }
      fingerprint.Add(record.digest);
      if (!existing) P2_RETURN_IF_ERROR(shards.Append(record.pixels, partial));
      meter.Add(1, 0, record_bytes);
    }
  }
  manifest.bad_count = partial.bad_count;
  manifest.bad_images = std::move(partial.bad_images);
  manifest.count = fingerprint.count();
  if (manifest.count == 0) return NoneReadable(options.input, manifest);
  manifest.fingerprint = fingerprint.Finish(options.resolution, options.channels);
  if (existing) {
    if (existing->fingerprint == manifest.fingerprint) return *existing;
    return absl::AlreadyExistsError(absl::StrCat(options.output, " holds other images (fingerprint ",
                                                 existing->fingerprint, ", now ", manifest.fingerprint,
                                                 "); remove it or take another name"));
  }
  P2_ASSIGN_OR_RETURN(manifest.shards, shards.Finish());
  P2_RETURN_IF_ERROR(SaveManifest(manifest, staging->path()));
  P2_RETURN_IF_ERROR(staging->Publish());
  return manifest;
}

absl::StatusOr<DatasetManifest> VerifyDataset(const std::string& directory,
                                              const std::function<void(const PrepareProgress&)>& progress,
                                              std::stop_token stop) {
  P2_ASSIGN_OR_RETURN(DatasetManifest manifest, LoadManifest(directory));
  ProgressMeter meter(progress, PrepareOptions().progress_interval, manifest.count);
  Fingerprint fingerprint;
  std::string wrong;
  for (const ShardInfo& shard : manifest.shards) {
    const absl::Status status =
        CheckShard(directory, shard, manifest.record_bytes(), stop, [&](const Fingerprint::Digest& digest) {
          fingerprint.Add(digest);
          meter.Add(1, 0, manifest.record_bytes());
        });
    if (!status.ok() && !absl::IsDataLoss(status)) return status;
    if (!status.ok()) absl::StrAppend(&wrong, status.message(), "\n");
  }
  if (const std::string found = fingerprint.Finish(manifest.resolution, manifest.channels);
      found != manifest.fingerprint) {
    absl::StrAppend(&wrong, directory, ": the records' fingerprint is ", found, ", the manifest says ",
                    manifest.fingerprint, "\n");
  }
  if (!wrong.empty()) return absl::DataLossError(wrong + "prepare the dataset again, or copy it again");
  return manifest;
}

}  // namespace p2::image
