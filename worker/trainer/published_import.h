// The published code's files as a p2 checkpoint that training goes on from.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/checkpoint/checkpoint_writer.h"
#include "worker/trainer/train_options.h"

namespace p2::trainer {

struct PublishedFiles {
  std::string model;              // modelNNNNNN.pt
  std::vector<std::string> emas;  // ema_RATE_NNNNNN.pt, or NAME=FILE.
  std::string opt;                // optNNNNNN.pt; empty: the optimizer starts anew.
};

// The files of the save `step` in `directory`, of the highest if none is named, with the averages whose rate `spec`
// keeps. INVALID_ARGUMENT naming what is there.
absl::StatusOr<PublishedFiles> FindPublishedFiles(const std::string& directory, std::optional<int64_t> step,
                                                  const TrainSpec& spec);

struct ImportOptions {
  PublishedFiles files;
  int64_t updates = -1;  // Behind the files; -1: what the optimizer says, else the model's name.
  bool partial = false;  // Keys that do not fit stay as a new run of the spec's seed has them.
  std::string parent;    // Directory that gets the checkpoint.
  int64_t epoch = 1;
  int attempt = 1;
};

// Writes the checkpoint of `run`'s spec and says on stdout what was loaded, what starts anew, and which keys did not
// fit. The readers' errors; INVALID_ARGUMENT for a file whose name tells no profile. May throw as torch does.
absl::StatusOr<checkpoint::WrittenCheckpoint> ImportPublished(const TrainOptions& run, const ImportOptions& options);

}  // namespace p2::trainer
