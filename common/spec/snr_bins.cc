#include "common/spec/snr_bins.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace p2::spec {
namespace {

constexpr absl::string_view kStageNames[kStages] = {"coarse", "content", "clean-up"};
constexpr double kStageLows[kStages] = {0, 1e-2, 1};
constexpr int kStageBins[kStages] = {0, 6, 12};  // The first bin of each.

}  // namespace

Stage StageOf(double snr) {
  return snr < kStageLows[1] ? Stage::kCoarse : snr < kStageLows[2] ? Stage::kContent : Stage::kCleanUp;
}

absl::string_view StageName(Stage stage) { return kStageNames[static_cast<int>(stage)]; }

double StageLow(Stage stage) { return kStageLows[static_cast<int>(stage)]; }

int SnrBin(double snr) {
  const double position = (std::log10(snr) + 4) * (kSnrBins / 8.0);
  return static_cast<int>(std::clamp(std::floor(position), 0.0, kSnrBins - 1.0));
}

double SnrBinLow(int bin) { return std::pow(10, bin * 8.0 / kSnrBins - 4); }

Stage StageOfBin(int bin) {
  return bin < kStageBins[1] ? Stage::kCoarse : bin < kStageBins[2] ? Stage::kContent : Stage::kCleanUp;
}

std::vector<int64_t> SnrBinTable(absl::Span<const double> snr) {
  std::vector<int64_t> bins;
  for (const double value : snr) bins.push_back(SnrBin(value));
  return bins;
}

std::string SnrBinName(absl::string_view prefix, int bin) { return absl::StrCat(prefix, absl::StrFormat("%02d", bin)); }

}  // namespace p2::spec
