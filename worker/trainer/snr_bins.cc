#include "worker/trainer/snr_bins.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"

namespace p2::trainer {

int SnrBin(double snr) {
  const double position = (std::log10(snr) + 4) * (kSnrBins / 8.0);
  return static_cast<int>(std::clamp(std::floor(position), 0.0, kSnrBins - 1.0));
}

std::vector<int64_t> SnrBinTable(absl::Span<const double> snr) {
  std::vector<int64_t> bins;
  for (const double value : snr) bins.push_back(SnrBin(value));
  return bins;
}

std::string SnrBinName(const char* prefix, int bin) { return absl::StrFormat("%s%02d", prefix, bin); }

}  // namespace p2::trainer
