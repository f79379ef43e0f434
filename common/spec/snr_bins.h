// Where in the noise a sample lies: the paper's three stages, and 24 bins of log10 SNR(t), three a decade from 1e-4 to
// 1e4, on whose borders the stages end. What lies beyond either end belongs to the outermost bin.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace p2::spec {

// Section 3.1 of the paper: coarse attributes at SNR below 1e-2, content up to 1, clean-up above.
enum class Stage { kCoarse = 0, kContent = 1, kCleanUp = 2 };
inline constexpr int kStages = 3;

Stage StageOf(double snr);
// "coarse", "content", "clean-up".
absl::string_view StageName(Stage stage);
// The SNR at which it begins: 0, 1e-2, 1.
double StageLow(Stage stage);

inline constexpr int kSnrBins = 24;

int SnrBin(double snr);
// The SNR at which bin `bin` begins; of kSnrBins the end of the last one, 1e4.
double SnrBinLow(int bin);
// The stage that bin `bin` lies in.
Stage StageOfBin(int bin);

// The bin of every timestep, (T). `snr`: SNR(t), (T).
std::vector<int64_t> SnrBinTable(absl::Span<const double> snr);

// "loss_snr_07" for prefix "loss_snr_".
std::string SnrBinName(absl::string_view prefix, int bin);

}  // namespace p2::spec
