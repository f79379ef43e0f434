// How to train on a new set of images, after the recipes of the paper's Table A (arXiv:2204.00227).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace p2::ctl {

struct DatasetAdvice {
  std::string row;  // Of Table A, as the presets name them: the nearest in number of images.
  uint64_t row_images = 0;
  std::string preset;
  double gamma = 1;
  double dropout = 0;
  int64_t images = 0;                // To train on.
  double ema_rate = 0.9999;          // The presets' too.
  int64_t ema_half_life_images = 0;  // The same EMA, in images, at the paper's batch of 8.
  std::optional<double> hours;
  std::vector<std::string> notes;

  // A command line that submits it.
  std::string Command(const std::string& dataset) const;
};

// `image_count` images of `resolution` pixels; `images_per_second`: measured rate of training, 0 if unknown.
//
// The row is the one whose logarithm of images is nearest. Gamma, dropout and images are the row's: 0.5 and none from
// CelebA-HQ's size on, 1 and 0.1 below (the paper's rule for limited data). The EMA is the paper's 0.9999
// throughout: its half-life is below a twentieth of the shortest of these runs. Pure.
DatasetAdvice AdviseOn(uint64_t image_count, int resolution, double images_per_second);

}  // namespace p2::ctl
