// Section 8: decoding, the crop and the normalised values. Errors are levels (0 to 255). What begins with a JPEG file
// may differ as decoders do; the crop of the decoded pixels is exact again.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/image/decode.h"
#include "common/image/pillow_resize.h"
#include "worker/check/sections.h"

namespace p2::check {
namespace {

torch::Tensor TensorOf(const image::Image& image) {
  torch::Tensor out = at::empty({image.height, image.width, image.channels}, torch::kUInt8);
  std::copy(image.pixels.begin(), image.pixels.end(), out.mutable_data_ptr<uint8_t>());
  return out;
}

image::Image ImageOf(const torch::Tensor& hwc) {
  TORCH_CHECK(hwc.dim() == 3 && hwc.scalar_type() == torch::kUInt8, "pixels are uint8 (H, W, C)");
  image::Image image{static_cast<int>(hwc.size(1)), static_cast<int>(hwc.size(0)), static_cast<int>(hwc.size(2)), {}};
  image.pixels.assign(hwc.const_data_ptr<uint8_t>(), hwc.const_data_ptr<uint8_t>() + hwc.numel());
  return image;
}

image::Image CropOf(const image::Image& image, int resolution) {
  auto crop = image::CenterCropAdm(image, resolution);
  TORCH_CHECK(crop.ok(), std::string(crop.status().message()));
  return *std::move(crop);
}

double SumOf(const image::Image& image) {
  double sum = 0;
  for (const uint8_t value : image.pixels) sum += value;
  return sum;
}

std::vector<uint8_t> ReadBytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  TORCH_CHECK(in.good(), path, " cannot be read");
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

struct Tolerances {
  double levels;
  double mean;
};

void AddPixels(const std::string& where, const torch::Tensor& got, const torch::Tensor& want, Tolerances allowed,
               Worst& worst) {
  worst.Add(where, MaxDifference(got, want), allowed.levels);
  if (got.sizes() != want.sizes()) return;
  const torch::Tensor difference = got.to(torch::kFloat64) - want.to(torch::kFloat64);
  worst.Add(where + " mean", difference.abs().mean().item<double>(), allowed.mean);
}

// The chain's sizes as center_crop_arr makes them.
bool SizesAgree(const nlohmann::json& expected, int width, int height) {
  const int resolution = expected.at("res");
  nlohmann::json boxes = nlohmann::json::array();
  while (std::min(width, height) >= 2 * resolution) {
    width /= 2;
    height /= 2;
    boxes.push_back({width, height});
  }
  const double scale = static_cast<double>(resolution) / std::min(width, height);
  width = static_cast<int>(std::nearbyint(width * scale));
  height = static_cast<int>(std::nearbyint(height * scale));
  return boxes == expected.at("box_sizes") && nlohmann::json({width, height}) == expected.at("bicubic_size") &&
         expected.at("crop_x") == (width - resolution) / 2 && expected.at("crop_y") == (height - resolution) / 2;
}

void CheckImage(const Fixtures& fixtures, const Tensors& tensors, const nlohmann::json& entry, const std::string& file,
                Report& report) {
  const std::vector<uint8_t> bytes = ReadBytes(fixtures.Path(file));
  const auto decoded = image::Decode(bytes, 3);
  TORCH_CHECK(decoded.ok(), std::string(decoded.status().message()));
  const bool jpeg = bytes[0] == 0xFF;
  const Tolerances allowed = jpeg ? Tolerances{3, 0.5} : Tolerances{0, 0};
  const std::string base = file.substr(file.rfind('/') + 1);
  const std::string decoded_key = base + ".decoded_rgb";

  Worst decoding;
  const double pixels = static_cast<double>(decoded->pixels.size());
  decoding.Add("width", std::abs(decoded->width - entry.at("width").get<int>()), 0);
  decoding.Add("height", std::abs(decoded->height - entry.at("height").get<int>()), 0);
  decoding.Add("bytes", std::abs(static_cast<double>(bytes.size()) - entry.at("bytes").get<double>()), 0);
  decoding.Add("sum", std::abs(SumOf(*decoded) - entry.at("decoded_rgb_sum").get<double>()) / pixels, allowed.mean);
  if (tensors.Has(decoded_key)) AddPixels("pixels", TensorOf(*decoded), tensors[decoded_key], allowed, decoding);
  report.Add(base + "/decoded", decoding);

  for (const nlohmann::json& expected : entry.at("expected")) {
    const std::string key = expected.at("key");
    report.Case(key, [&] {
      const int resolution = expected.at("res");
      const image::Image crop = CropOf(*decoded, resolution);
      const torch::Tensor want = tensors[key];
      Worst worst;
      AddPixels("from the file", TensorOf(crop), want, allowed, worst);
      if (tensors.Has(decoded_key))
        AddPixels("from decoded_rgb", TensorOf(CropOf(ImageOf(tensors[decoded_key]), resolution)), want, {0, 0}, worst);
      worst.Add("sum", std::abs(want.to(torch::kFloat64).sum().item<double>() - expected.at("sum").get<double>()), 0);
      worst.Add("sizes of the chain", SizesAgree(expected, decoded->width, decoded->height) ? 0 : 1, 0);
      report.Add(key, worst);
    });
  }
}

}  // namespace

void CheckPreprocess(const Fixtures& fixtures, Report& report) {
  const nlohmann::json json = fixtures.Json("preprocess.json");
  const Tensors tensors = fixtures.Tensors("preprocess.safetensors");
  for (const nlohmann::json& entry : json.at("images")) {
    const std::string file = entry.at("file");
    report.Case(file, [&] { CheckImage(fixtures, tensors, entry, file, report); });
  }
  report.Case("normalised_example", [&] {
    const torch::Tensor source = tensors[json.at("normalised_example_source")];  // (R, R, 3)
    const torch::Tensor chw = (source.to(torch::kFloat32) / 127.5 - 1).permute({2, 0, 1});
    int compared = 0;
    for (const std::string& name : tensors.Names()) {
      if (!name.starts_with("normalised_example.")) continue;
      ++compared;
      const bool flipped = name.ends_with("_flipped_chw");
      report.Add(name, MaxDifference(flipped ? chw.flip({2}) : chw, tensors[name]), 1e-6);
    }
    if (compared < 2)
      report.Skip("normalised_example", "preprocess.safetensors lacks the plain or the flipped example");
  });
}

}  // namespace p2::check
