// Where in the noise a sample lies: 24 bins of log10 SNR(t), three a decade from 1e-4 to 1e4 (the paper's stages end at
// 1e-2 and 1: the borders before bins 6 and 12). Timesteps beyond either end belong to the outermost bin.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"

namespace p2::trainer {

inline constexpr int kSnrBins = 24;

int SnrBin(double snr);

// The bin of every timestep, (T). `snr`: SNR(t), (T).
std::vector<int64_t> SnrBinTable(absl::Span<const double> snr);

// "loss_snr_07" for prefix "loss_snr_".
std::string SnrBinName(const char* prefix, int bin);

}  // namespace p2::trainer
