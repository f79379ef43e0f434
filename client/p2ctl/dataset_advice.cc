#include "client/p2ctl/dataset_advice.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace p2::ctl {
namespace {

constexpr double kBatch = 8;

struct Row {
  const char* name;
  uint64_t images_in_set;
  double gamma;
  double dropout;
  int64_t images;
};

// Table A. AFHQ-Dog's count is what the set holds; the paper prints ten times as many.
constexpr Row kTableA[] = {
    {"metfaces", 1'000, 1.0, 0.1, 1'600'000},   {"afhq-dog", 5'000, 1.0, 0.1, 2'400'000},
    {"flowers", 8'000, 1.0, 0.1, 4'400'000},    {"cub", 12'000, 1.0, 0.1, 4'800'000},
    {"celeba-hq", 30'000, 0.5, 0.0, 4'400'000}, {"ffhq", 70'000, 0.5, 0.0, 18'000'000},
};

double Distance(const Row& row, uint64_t image_count) {
  return std::abs(std::log(static_cast<double>(row.images_in_set)) - std::log(static_cast<double>(image_count)));
}

// The EMA of `rate` forgets half in this many images.
double HalfLife(double rate) { return kBatch * std::log(0.5) / std::log(rate); }

}  // namespace

std::string DatasetAdvice::Command(const std::string& dataset) const {
  return absl::StrCat("p2ctl submit ", preset, " --dataset ", dataset, " --set objective.gamma=", gamma,
                      " --set model.dropout=", dropout, " --set training.images=", images);
}

DatasetAdvice AdviseOn(uint64_t image_count, int resolution, double images_per_second) {
  image_count = std::max<uint64_t>(image_count, 1);
  const Row& row = *std::min_element(std::begin(kTableA), std::end(kTableA), [&](const Row& a, const Row& b) {
    return Distance(a, image_count) < Distance(b, image_count);
  });
  DatasetAdvice advice;
  advice.row = row.name;
  advice.row_images = row.images_in_set;
  advice.preset = resolution <= 64 ? "own-64" : resolution <= 128 ? "own-128" : "own-256";
  advice.gamma = row.gamma;
  advice.dropout = row.dropout;
  advice.images = row.images;
  advice.ema_half_life_images = std::llround(HalfLife(advice.ema_rate));
  if (images_per_second > 0) advice.hours = static_cast<double>(advice.images) / images_per_second / 3600;
  const double passes = static_cast<double>(advice.images) / static_cast<double>(image_count);
  advice.notes.push_back(absl::StrFormat("%d images; Table A's %s has about %d. %.0f passes over the images.",
                                         image_count, advice.row, advice.row_images, passes));
  if (Distance(row, image_count) > std::log(3.0)) {
    advice.notes.push_back(
        "No set of the paper is near this size: take the numbers as a start, and look at samples early.");
  }
  if (resolution != 256) {
    advice.notes.push_back(absl::StrCat("The paper trains at 256 pixels; at ", resolution, " fewer images may do."));
  }
  return advice;
}

}  // namespace p2::ctl
