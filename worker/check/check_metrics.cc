// Section 9: Frechet and kernel distance, a TorchScript feature extractor, clean-fid's resize.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "worker/check/sections.h"
#include "worker/metrics/clean_resize.h"
#include "worker/metrics/feature_extractor.h"
#include "worker/metrics/frechet_distance.h"
#include "worker/metrics/kernel_distance.h"

namespace p2::check {
namespace {

void CheckFrechet(const Tensors& tensors, const nlohmann::json& want, const std::string& name, Report& report) {
  const torch::Tensor features_a = tensors[name + ".a"], features_b = tensors[name + ".b"];
  const auto a = metrics::MakeFeatureStatistics(features_a), b = metrics::MakeFeatureStatistics(features_b);
  const metrics::FrechetDistance got = metrics::CalcFrechetDistance(a, b);
  const double tolerance = want.at("rank_deficient").get<bool>() ? 1e-6 : 1e-8;
  Worst worst;
  for (const auto& [key, value] : {std::pair("fid", got.distance),
                                   {"fid_cleanfid_function", got.distance},
                                   {"fid_symmetric_eigen_cross_check", got.distance},
                                   {"mean_term", got.mean_term},
                                   {"trace_a", got.trace_a},
                                   {"trace_b", got.trace_b},
                                   {"trace_sqrt", got.trace_sqrt}})
    worst.Add(key, RelativeError(value, want.at(key)), tolerance);
  // Of two numbers near 0 the distance counts, by the traces that cancel.
  const double self = metrics::CalcFrechetDistance(a, a).distance;
  worst.Add("fid_self", std::abs(self - want.at("fid_self").get<double>()) / got.trace_a, tolerance);
  report.Add("frechet/" + name, worst);
  report.Equal("frechet/" + name + "/shapes",
               want.at("n_a").get<int64_t>() == a.count && want.at("n_b").get<int64_t>() == b.count &&
                   want.at("dim").get<int64_t>() == a.mean.size(0),
               "n_a, n_b or dim is another");
}

void CheckKernel(const Tensors& tensors, const nlohmann::json& want, const std::string& name, Report& report) {
  const torch::Tensor a32 = tensors[name + ".a"], b32 = tensors[name + ".b"];
  const torch::Tensor a = a32.to(torch::kFloat64), b = b32.to(torch::kFloat64);
  const torch::Tensor rows_a = tensors[name + ".kid_idx_a"], rows_b = tensors[name + ".kid_idx_b"];
  constexpr double kTolerance = 1e-10;
  const metrics::MmdSquared mmd = metrics::PolynomialMmd(a, b);
  Worst worst;
  worst.Add("mmd2_unbiased_full", RelativeError(mmd.unbiased, want.at("mmd2_unbiased_full")), kTolerance);
  worst.Add("mmd2_biased_full", RelativeError(mmd.biased, want.at("mmd2_biased_full")), kTolerance);
  const metrics::KernelDistance kid = metrics::SubsetKernelDistance(a, b, rows_a, rows_b);
  const double mean = want.at("kid_cleanfid_subsets_float64");
  worst.Add("kid_cleanfid_subsets_float64", RelativeError(kid.mean, mean), kTolerance);
  worst.Add("per_subset", MaxRelativeError(kid.per_subset, want.at("per_subset").get<std::vector<double>>(), 0),
            kTolerance);
  report.Add("kid/" + name, worst);
  report.Equal("kid/" + name + "/subsets",
               want.at("num_subsets").get<int64_t>() == rows_a.size(0) &&
                   want.at("subset_size").get<int64_t>() == rows_a.size(1),
               "num_subsets or subset_size is another");
  // In float32 sums of a million terms depend on their order: ten times the reference's own error, as its noise fields
  // say.
  const double single = want.at("kid_cleanfid_subsets_float32_features");
  report.Add("kid/" + name + "/float32_features",
             RelativeError(metrics::SubsetKernelDistance(a32, b32, rows_a, rows_b).mean, single),
             10 * RelativeError(single, mean));
}

void CheckFeatures(const Fixtures& fixtures, const Tensors& tensors, const nlohmann::json& want, Report& report) {
  const auto extractor = metrics::FeatureExtractor::Load(fixtures.Path(want.at("file")));
  TORCH_CHECK(extractor.ok(), std::string(extractor.status().message()));
  const auto features = (*extractor)->Extract(tensors["features.in"]);
  TORCH_CHECK(features.ok(), std::string(features.status().message()));
  report.Add("features", MaxDifference(*features, tensors["features.out"]), 1e-4);
  report.Add("features/stats", StatError(*features, want.at("out")), 1e-5);
}

void CheckResize(const Tensors& tensors, const nlohmann::json& want, const std::string& name, Report& report) {
  const std::string prefix = "resize." + name + ".";
  const torch::Tensor in = tensors[prefix + "in_uint8_hwc"];  // (H, W, C)
  image::Image image{static_cast<int>(in.size(1)), static_cast<int>(in.size(0)), static_cast<int>(in.size(2)), {}};
  image.pixels.assign(in.const_data_ptr<uint8_t>(), in.const_data_ptr<uint8_t>() + in.numel());
  const int64_t size = want.at("out");
  auto resized = metrics::CleanResize(image, static_cast<int>(size));
  TORCH_CHECK(resized.ok(), std::string(resized.status().message()));
  const torch::Tensor out = at::from_blob(resized->data(), {in.size(2), size, size}, torch::kFloat32);
  const int64_t centre = want.at("centre_offset");
  constexpr double kTolerance = 2e-3;
  Worst worst;
  for (const char* part : {"top_left", "top_right", "bottom_left", "bottom_right", "centre"}) {
    const torch::Tensor block = tensors[prefix + part];  // (C, h, w)
    const std::string where = part;
    const int64_t h = block.size(1), w = block.size(2);
    const int64_t y = where == "centre" ? centre : where.starts_with("bottom") ? size - h : 0;
    const int64_t x = where == "centre" ? centre : where.ends_with("right") ? size - w : 0;
    worst.Add(where, MaxDifference(out.slice(1, y, y + h).slice(2, x, x + w), block), kTolerance);
  }
  report.Add("resize/" + name, worst);
  Worst stats;
  const nlohmann::json& channels = want.at("stats_per_channel");
  TORCH_CHECK(static_cast<int64_t>(channels.size()) == in.size(2), "stats_per_channel has ", channels.size(),
              " entries");
  for (int64_t c = 0; c < in.size(2); ++c)
    stats.Add(absl::StrCat("channel ", c), StatError(out[c], channels[static_cast<size_t>(c)]), 1e-8);
  report.Add("resize/" + name + "/stats", stats);
  Worst counts;
  for (const auto& [key, value] : {std::pair("count_at_0", 0), {"count_at_255", 255}})
    counts.Add(key, std::abs(out.eq(value).sum().item<double>() - want.at(key).get<double>()), 5);
  report.Add("resize/" + name + "/counts", counts);
  report.Equal("resize/" + name + "/sizes",
               want.at("in_width").get<int64_t>() == in.size(1) && want.at("in_height").get<int64_t>() == in.size(0),
               "in_width or in_height is another");
}

}  // namespace

void CheckMetrics(const Fixtures& fixtures, Report& report) {
  const nlohmann::json json = fixtures.Json("metrics.json");
  const Tensors tensors = fixtures.Tensors("metrics.safetensors");
  for (const auto& [name, want] : json.at("frechet").items())
    report.Case("frechet/" + name, [&, name = name, want = want] { CheckFrechet(tensors, want, name, report); });
  for (const auto& [name, want] : json.at("kid").items())
    report.Case("kid/" + name, [&, name = name, want = want] { CheckKernel(tensors, want, name, report); });
  report.Case("features", [&] { CheckFeatures(fixtures, tensors, json.at("features"), report); });
  for (const auto& [name, want] : json.at("resize").items())
    report.Case("resize/" + name, [&, name = name, want = want] { CheckResize(tensors, want, name, report); });
}

}  // namespace p2::check
