#include "worker/trainer/ema_reconstruction.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "common/file_util.h"
#include "common/safetensors/safetensors.h"
#include "common/spec/power_ema.h"
#include "common/status_macros.h"
#include "common/storage_layout.h"
#include "worker/checkpoint/checkpoint_reader.h"
#include "worker/trainer/spec_seam.h"
#include "worker/trainer/train_options.h"

namespace p2::trainer {
namespace {

namespace fs = std::filesystem;

constexpr double kPoorResidual = 0.1;  // Of the wanted shares.

// One average of one snapshot.
struct Stored {
  spec::PowerEma ema;
  std::string file;
};

struct Found {
  std::vector<Stored> stored;
  std::map<int64_t, int64_t> updates_at;  // Images seen -> updates, of every snapshot; (0, 0) too.
  EmaReconstructionReport report;
};

std::string DirectoryOf(const std::string& given) {
  const fs::path path(given), inside = path / kSnapshotsDirectory;
  std::error_code error;
  if (fs::is_directory(inside, error)) return inside;
  const fs::path beside = path.parent_path() / kSnapshotsDirectory;
  return path.filename() == "checkpoints" && fs::is_directory(beside, error) ? beside.string() : given;
}

// Without what ranks of an older epoch wrote beyond the first snapshot of a newer one: they had been cut off.
std::vector<std::string> OfOneRun(std::vector<std::string> names) {
  const auto parts = [](const std::string& name) {
    std::pair<int64_t, int64_t> of;  // Images, epoch.
    checkpoint::ParseDirectoryName(name, &of.first, &of.second);
    return of;
  };
  // Newest first, and of one position the newest epoch first.
  std::map<int64_t, int64_t> first_of_epoch;
  for (const std::string& name : names) {
    const auto [images, epoch] = parts(name);
    first_of_epoch[epoch] = images;
  }
  std::erase_if(names, [&](const std::string& name) {
    const auto [images, epoch] = parts(name);
    return std::any_of(first_of_epoch.upper_bound(epoch), first_of_epoch.end(),
                       [at = images](const auto& later) { return later.second <= at; });
  });
  return names;
}

absl::StatusOr<Found> Read(const std::string& given, const std::function<void(size_t, size_t)>& progress) {
  const std::string directory = DirectoryOf(given);
  Found found;
  found.updates_at[0] = 0;
  std::set<std::string> profiles;
  const std::vector<std::string> names = OfOneRun(checkpoint::ListCheckpoints(directory));
  for (const std::string& name : names) {
    if (progress) progress(found.report.snapshots, names.size());
    absl::StatusOr<std::unique_ptr<checkpoint::Checkpoint>> opened =
        checkpoint::Checkpoint::Open(absl::StrCat(directory, "/", name));
    if (absl::IsDataLoss(opened.status()) || absl::IsNotFound(opened.status())) {  // The run may have thinned it out.
      found.report.passed_over.emplace_back(opened.status().message());
      continue;
    }
    P2_RETURN_IF_ERROR(opened.status());
    const checkpoint::Checkpoint& snapshot = **opened;
    // Of two at one position the newer epoch comes first.
    if (!found.updates_at.emplace(snapshot.state().images_seen, snapshot.state().updates).second) continue;
    if (snapshot.state().updates < 1) continue;
    ++found.report.snapshots;
    P2_ASSIGN_OR_RETURN(const TrainSpec spec, SpecFromJson(snapshot.spec_json()));
    for (const EmaProfile& profile : spec.emas) {
      const std::string file = checkpoint::EmaFile(profile.name);
      const std::vector<checkpoint::FileEntry>& files = snapshot.manifest().files;
      const auto is_it = [&](const checkpoint::FileEntry& entry) { return entry.path == file; };
      if (!profile.gamma || std::none_of(files.begin(), files.end(), is_it)) continue;
      profiles.insert(profile.name);
      found.stored.push_back(
          {{*profile.gamma, snapshot.state().updates}, absl::StrCat(snapshot.directory(), "/", file)});
    }
  }
  found.report.profiles.assign(profiles.begin(), profiles.end());
  if (!found.stored.empty()) return found;
  if (!found.report.passed_over.empty()) {
    return absl::NotFoundError(absl::StrCat("none of the ", names.size(), " snapshots in ", directory,
                                            " is good; the first: ", found.report.passed_over.front()));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(directory,
                   " holds no snapshots of averages; a run writes them with ema: [{sigma_rel: 0.05}, "
                   "{sigma_rel: 0.10}] and ema_snapshots.every_images in its spec"));
}

// Updates behind `images`: between two snapshots as many a number of images as between them.
absl::StatusOr<int64_t> UpdatesAt(const std::map<int64_t, int64_t>& known, int64_t images) {
  const auto after = known.lower_bound(images);
  if (images < 1 || after == known.end()) {
    return absl::InvalidArgumentError(absl::StrCat("the average at ", images,
                                                   " images is wanted; the snapshots can "
                                                   "give 1 to ",
                                                   known.rbegin()->first));
  }
  if (after->first == images) return after->second;
  const auto before = std::prev(after);
  const double part = static_cast<double>(images - before->first) / static_cast<double>(after->first - before->first);
  const double updates = static_cast<double>(after->second - before->second) * part;
  return std::max<int64_t>(before->second + static_cast<int64_t>(updates), 1);
}

class Sum {
 public:
  absl::Status Add(double coefficient, const std::string& file) {
    P2_ASSIGN_OR_RETURN(auto reader, safetensors::Reader::Open(file));
    if (!parts_.empty() && reader->tensors() != parts_.front().reader->tensors()) {
      return absl::FailedPreconditionError(absl::StrCat(file, " and ", parts_.front().reader->path(),
                                                        " hold different tensors: they are of two models"));
    }
    for (const safetensors::TensorInfo& tensor : reader->tensors()) {
      if (tensor.dtype == safetensors::DType::kF32) continue;
      return absl::FailedPreconditionError(
          absl::StrCat(file, ": ", tensor.name, " is ", safetensors::DTypeName(tensor.dtype), ", not F32"));
    }
    parts_.push_back({coefficient, std::move(reader)});
    return absl::OkStatus();
  }

  absl::Status Write(const std::string& path, const safetensors::Metadata& metadata,
                     const std::function<void(size_t, size_t)>& progress) const {
    const std::vector<safetensors::TensorInfo>& tensors = parts_.front().reader->tensors();
    P2_ASSIGN_OR_RETURN(auto writer, safetensors::Writer::Create(path, tensors, metadata));
    std::vector<float> values;
    std::vector<double> sum;
    for (size_t i = 0; i < tensors.size(); ++i) {
      const size_t count = tensors[i].size / sizeof(float);
      values.resize(count);
      sum.assign(count, 0.0);
      const absl::Span<std::byte> bytes(reinterpret_cast<std::byte*>(values.data()), count * sizeof(float));
      for (const Part& part : parts_) {
        P2_RETURN_IF_ERROR(part.reader->Read(tensors[i].name, bytes));
        for (size_t j = 0; j < count; ++j) sum[j] += part.coefficient * static_cast<double>(values[j]);
      }
      std::transform(sum.begin(), sum.end(), values.begin(), [](double value) { return static_cast<float>(value); });
      P2_RETURN_IF_ERROR(writer->Append(bytes));
      if (progress) progress(i + 1, tensors.size());
    }
    return writer->Finish();
  }

 private:
  struct Part {
    double coefficient;
    std::unique_ptr<safetensors::Reader> reader;
  };
  std::vector<Part> parts_;
};

}  // namespace

absl::StatusOr<EmaReconstructionReport> ReconstructEmaFile(const EmaReconstructionOptions& options) {
  if (!(options.sigma_rel >= spec::kLeastSigmaRel && options.sigma_rel <= spec::kMostSigmaRel)) {
    return absl::InvalidArgumentError(absl::StrCat("sigma_rel is ", options.sigma_rel, "; must be ",
                                                   spec::kLeastSigmaRel, " to ", spec::kMostSigmaRel));
  }
  P2_ASSIGN_OR_RETURN(Found found, Read(options.snapshots, options.progress));
  EmaReconstructionReport& report = found.report;
  report.images_seen = options.at_images != 0 ? options.at_images : found.updates_at.rbegin()->first;
  P2_ASSIGN_OR_RETURN(report.updates, UpdatesAt(found.updates_at, report.images_seen));

  std::vector<spec::PowerEma> stored;
  for (const Stored& one : found.stored) stored.push_back(one.ema);
  P2_ASSIGN_OR_RETURN(const spec::EmaReconstruction solved,
                      spec::ReconstructEma(stored, {spec::PowerEmaGamma(options.sigma_rel), report.updates}));
  report.residual = solved.residual;
  report.shares_norm = solved.shares_norm;
  report.noise_gain = solved.noise_gain;

  Sum sum;
  for (size_t i = 0; i < stored.size(); ++i) {
    if (solved.coefficients[i] != 0) P2_RETURN_IF_ERROR(sum.Add(solved.coefficients[i], found.stored[i].file));
  }
  const std::string temporary = absl::StrCat(options.out, ".tmp");
  const absl::Status written = sum.Write(temporary,
                                         {{"format", "pt"},
                                          {"sigma_rel", absl::StrCat(options.sigma_rel)},
                                          {"images_seen", absl::StrCat(report.images_seen)},
                                          {"updates", absl::StrCat(report.updates)},
                                          {"residual", absl::StrCat(report.residual)}},
                                         options.progress);
  if (!written.ok() || std::rename(temporary.c_str(), options.out.c_str()) != 0) {
    const absl::Status why = written.ok() ? FileError("rename", temporary) : written;
    std::remove(temporary.c_str());
    return why;
  }
  const std::string parent = fs::path(options.out).parent_path();
  P2_RETURN_IF_ERROR(SyncDirectory(parent.empty() ? "." : parent));
  return report;
}

std::string Describe(const EmaReconstructionReport& report, const EmaReconstructionOptions& options) {
  std::string text = absl::StrCat(options.out, "\n");
  for (const std::string& why : report.passed_over) absl::StrAppend(&text, "passed over: ", why, "\n");
  absl::StrAppendFormat(&text, "sigma_rel %g at %d images (%d updates), from %d snapshots of %s\n", options.sigma_rel,
                        report.images_seen, report.updates, report.snapshots, absl::StrJoin(report.profiles, ", "));
  absl::StrAppendFormat(
      &text, "residual %.3g of the wanted shares; rounding errors of the stored averages times at most %.3g\n",
      report.residual, report.noise_gain);
  if (report.residual > kPoorResidual) {
    absl::StrAppend(&text,
                    "warning: the snapshots cannot give this average well: take a sigma_rel between those of the run, "
                    "or a position at a snapshot\n");
  }
  return text;
}

}  // namespace p2::trainer
