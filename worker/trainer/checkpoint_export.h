// A p2 checkpoint as files of others.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace p2::trainer {

struct ExportOptions {
  std::string checkpoint;  // Directory.
  std::string format;      // "pt": model, every EMA and the optimizer; "safetensors": model and every EMA; "diffusers".
  std::string out;         // Made if need be.
  std::string ema;         // Only this average; empty: as the format says.
  bool raw = false;        // Only the weights themselves. REQUIRES: no `ema`.
};

// Writes the files and prints their paths. The checkpoint's own errors; INVALID_ARGUMENT for an unknown average;
// FAILED_PRECONDITION if two averages would have one name; UNAVAILABLE or RESOURCE_EXHAUSTED if a file cannot be
// written.
absl::Status ExportCheckpoint(const ExportOptions& options);

}  // namespace p2::trainer
