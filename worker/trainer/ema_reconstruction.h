// Averages of any width, made after the run from the snapshots that it left (common/spec/power_ema.h): the core of
// `p2-trainer ema`. Free of torch.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace p2::trainer {

struct EmaReconstructionOptions {
  // REQUIRED. The directory of the snapshots, or one that holds ema-snapshots/: a job's, or --out of a standalone run.
  std::string snapshots;
  int64_t at_images = 0;  // Position of the wanted average; 0: that of the newest snapshot.
  double sigma_rel = 0;   // REQUIRED. Its width.
  std::string out;        // REQUIRED. The safetensors file to write, in the form of a checkpoint's ema_<profile> file.
  std::function<void(size_t done, size_t of)> progress;  // At each snapshot, then each tensor. May be empty.
};

struct EmaReconstructionReport {
  int64_t images_seen = 0;
  int64_t updates = 0;
  size_t snapshots = 0;                  // Read.
  std::vector<std::string> profiles;     // Averages in them.
  std::vector<std::string> passed_over;  // Damaged snapshots: what is wrong with each.
  double residual = 0;                   // spec::EmaReconstruction's
  double shares_norm = 0;
  double noise_gain = 0;
};

// Solves for the coefficients and writes the sum, added up in double precision, beside `out` and renamed. The file's
// metadata says sigma_rel, the position and the residual. NOT_FOUND if none is good; INVALID_ARGUMENT
// if there are none, or if sigma_rel or the position is outside of what they can give; FAILED_PRECONDITION if they are
// not of one model.
absl::StatusOr<EmaReconstructionReport> ReconstructEmaFile(const EmaReconstructionOptions& options);

// What became of it, for people: the file, what it was made of, how good it is. Ends in a newline.
std::string Describe(const EmaReconstructionReport& report, const EmaReconstructionOptions& options);

}  // namespace p2::trainer
