#include "worker/sampling/sample_output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/file_util.h"
#include "common/image/npz_write.h"
#include "common/image/png_write.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"

namespace p2::sampling {
namespace {

constexpr char kRunFile[] = "sample.json";
constexpr char kParts[] = "parts";
constexpr size_t kMaxRunFileBytes = 1 << 20;
constexpr int kGridPadding = 2;
constexpr int64_t kMaxGrid = 4096;

absl::Status MakeDirectory(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return absl::UnavailableError(absl::StrCat("cannot create ", path, ": ", error.message()));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<uint8_t>> ReadFile(const std::string& path, size_t limit) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.ok()) return FileError("open", path);
  return ReadWhole(fd.get(), path, limit);
}

absl::Status Rename(const std::string& from, const std::string& to) {
  return std::rename(from.c_str(), to.c_str()) == 0 ? absl::OkStatus() : FileError("rename to", to);
}

}  // namespace

absl::StatusOr<SampleFormat> ParseSampleFormat(absl::string_view name) {
  if (name == "png") return SampleFormat::kPng;
  if (name == "npz") return SampleFormat::kNpz;
  if (name == "grid") return SampleFormat::kGrid;
  return absl::InvalidArgumentError(absl::StrCat("format \"", name, "\" is none of png, npz, grid"));
}

int GridColumns(int64_t count) { return static_cast<int>(std::ceil(std::sqrt(static_cast<double>(count)))); }

std::string IndexName(uint64_t index) { return absl::StrFormat("%06d", index); }

bool FileExists(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0;
}

absl::Status ClaimDirectory(const std::string& directory, int rank, const std::map<std::string, std::string>& run) {
  P2_RETURN_IF_ERROR(MakeDirectory(directory));
  const std::string path = absl::StrCat(directory, "/", kRunFile);
  if (!FileExists(path)) {
    // Ranks that start together all write it; renaming a file of one's own leaves a whole one whoever is last.
    const std::string mine = absl::StrCat(directory, "/.", kRunFile, "-", rank);
    P2_RETURN_IF_ERROR(ReplaceFile(mine, nlohmann::json(run).dump(1) + "\n"));
    P2_RETURN_IF_ERROR(Rename(mine, path));
  }
  P2_ASSIGN_OR_RETURN(const std::vector<uint8_t> text, ReadFile(path, kMaxRunFileBytes));
  const nlohmann::json found = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!found.is_object()) return absl::DataLossError(absl::StrCat(path, " is damaged; name another --out"));
  for (const auto& [key, value] : run) {
    const auto there = found.find(key);
    const std::string before = there != found.end() && there->is_string() ? there->get<std::string>() : "unknown";
    if (before == value) continue;
    return absl::FailedPreconditionError(absl::StrCat(directory, " holds images of another run: its ", key, " is ",
                                                      before, ", this one's ", value, "; name another --out"));
  }
  return absl::OkStatus();
}

SampleOutput::SampleOutput(SampleOutputOptions options) : options_(std::move(options)) {}

absl::StatusOr<std::unique_ptr<SampleOutput>> SampleOutput::Open(SampleOutputOptions options) {
  if (options.format == SampleFormat::kGrid && options.count > kMaxGrid) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.count, " images do not fit on one sheet: at most ", kMaxGrid, "; take png or npz"));
  }
  P2_RETURN_IF_ERROR(ClaimDirectory(options.directory, options.rank, options.run));
  std::unique_ptr<SampleOutput> output(new SampleOutput(std::move(options)));
  if (output->options_.format != SampleFormat::kPng && !FileExists(output->WholePath())) {
    P2_RETURN_IF_ERROR(MakeDirectory(absl::StrCat(output->options_.directory, "/", kParts)));
  }
  return output;
}

std::string SampleOutput::ImagePath(uint64_t index) const {
  return options_.format == SampleFormat::kPng
             ? absl::StrCat(options_.directory, "/", IndexName(index), ".png")
             : absl::StrCat(options_.directory, "/", kParts, "/", IndexName(index), ".u8");
}

std::string SampleOutput::WholePath() const {
  switch (options_.format) {
    case SampleFormat::kPng:
      return options_.directory;
    case SampleFormat::kNpz:
      return absl::StrCat(options_.directory, "/samples_", options_.count, "x", options_.height, "x", options_.width,
                          "x", options_.channels, ".npz");
    case SampleFormat::kGrid:
      return absl::StrCat(options_.directory, "/grid.png");
  }
  return "";
}

std::string SampleOutput::TemporaryPath() const {
  return absl::StrCat(options_.directory, "/.whole-", options_.rank, "-", ::getpid());
}

std::vector<uint64_t> SampleOutput::Missing(int64_t begin, int64_t end) const {
  std::vector<uint64_t> missing;
  if (options_.format != SampleFormat::kPng && FileExists(WholePath())) return missing;
  for (int64_t i = begin; i < end; ++i) {
    const uint64_t index = options_.first + static_cast<uint64_t>(i);
    if (!FileExists(ImagePath(index))) missing.push_back(index);
  }
  return missing;
}

absl::Status SampleOutput::Write(uint64_t index, const image::Image& image) const {
  if (options_.format == SampleFormat::kPng) return image::WritePng(image, ImagePath(index));
  return ReplaceFile(ImagePath(index), {reinterpret_cast<const char*>(image.pixels.data()), image.pixels.size()});
}

absl::StatusOr<std::vector<uint8_t>> SampleOutput::ReadPart(uint64_t index) const {
  const size_t bytes = size_t{1} * options_.height * options_.width * options_.channels;
  P2_ASSIGN_OR_RETURN(std::vector<uint8_t> pixels, ReadFile(ImagePath(index), bytes));
  if (pixels.size() != bytes) {
    return absl::DataLossError(
        absl::StrCat(ImagePath(index), " has ", pixels.size(), " bytes, not ", bytes, "; remove it and go on"));
  }
  return pixels;
}

absl::Status SampleOutput::Assemble(const std::function<void()>& tick) const {
  if (options_.format == SampleFormat::kNpz) {
    P2_ASSIGN_OR_RETURN(const auto npz, image::NpzWriter::Create(TemporaryPath(), {options_.count, options_.height,
                                                                                   options_.width, options_.channels}));
    for (int64_t i = 0; i < options_.count; ++i) {
      P2_ASSIGN_OR_RETURN(const auto pixels, ReadPart(options_.first + static_cast<uint64_t>(i)));
      P2_RETURN_IF_ERROR(npz->Append(pixels));
      if (tick) tick();
    }
    P2_RETURN_IF_ERROR(npz->Finish());
  } else {
    std::vector<image::Image> images;
    for (int64_t i = 0; i < options_.count; ++i) {
      P2_ASSIGN_OR_RETURN(auto pixels, ReadPart(options_.first + static_cast<uint64_t>(i)));
      images.push_back({options_.width, options_.height, options_.channels, std::move(pixels)});
      if (tick) tick();
    }
    P2_ASSIGN_OR_RETURN(const image::Image grid, image::MakeGrid(images, GridColumns(options_.count), kGridPadding));
    P2_RETURN_IF_ERROR(image::WritePng(grid, TemporaryPath()));
  }
  P2_RETURN_IF_ERROR(Rename(TemporaryPath(), WholePath()));
  return SyncDirectory(options_.directory);
}

absl::StatusOr<std::string> SampleOutput::Finish(const std::function<void()>& tick) const {
  if (!Missing(0, options_.count).empty()) return "";
  if (options_.format == SampleFormat::kPng) return WholePath();
  if (!FileExists(WholePath())) {
    const absl::Status assembled = Assemble(tick);
    // Another rank may have been quicker and have removed the parts meanwhile.
    if (!assembled.ok() && !FileExists(WholePath())) return assembled;
  }
  ::unlink(TemporaryPath().c_str());
  for (int64_t i = 0; i < options_.count; ++i) {
    ::unlink(ImagePath(options_.first + static_cast<uint64_t>(i)).c_str());
  }
  ::rmdir(absl::StrCat(options_.directory, "/", kParts).c_str());
  return WholePath();
}

}  // namespace p2::sampling
