// What a rank does that does not train: plain structs of p2.v1.TaskSpec. Names, units and ranges as there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace p2::trainer {

struct Reconstruction {
  std::vector<double> snrs;
  std::vector<int> timesteps;
};

struct SampleTask {
  int64_t count = 1;
  uint64_t first = 0;
  uint64_t seed = 0;
  std::string steps;
  std::optional<double> ddim_eta;
  std::string ema;
  bool raw = false;
  bool no_clip = false;
  std::string format = "png";                 // As SampleOptions.
  std::optional<Reconstruction> reconstruct;  // Of images in TrainOptions.dataset_dir.
};

struct ImportTask {
  std::optional<int64_t> step;
  bool partial = false;
};

struct ExportTask {
  std::string format;  // As ExportOptions.
  std::string ema;
  bool raw = false;
};

struct AverageTask {
  double sigma_rel = 0;
  int64_t images_seen = 0;
};

using Task = std::variant<SampleTask, ImportTask, ExportTask, AverageTask>;

}  // namespace p2::trainer
