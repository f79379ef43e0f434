// Section 6: the ancestral sampler and DDIM with given noise, every step and the images.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "worker/check/reference_model.h"
#include "worker/check/sections.h"
#include "worker/sampling/sampler.h"

namespace p2::check {
namespace {

// The share of pixels that differ, by one level at most; infinity where one differs by more.
double PixelError(const torch::Tensor& got, const torch::Tensor& want) {
  if (got.sizes() != want.sizes()) return std::numeric_limits<double>::infinity();
  const torch::Tensor difference = (got.cpu().to(torch::kInt16) - want.cpu().to(torch::kInt16)).abs();
  if (difference.max().item<int>() > 1) return std::numeric_limits<double>::infinity();
  return difference.ne(0).to(torch::kFloat64).mean().item<double>();
}

// The published sampling script's .npz: no rounding. (n, C, H, W) -> (n, H, W, C)
torch::Tensor TruncatedPixels(const torch::Tensor& x) {
  return ((x + 1) * 127.5).clamp(0, 255).to(torch::kUInt8).permute({0, 2, 3, 1});
}

void CheckCase(const Fixtures& fixtures, const Tensors& tensors, model::Unet& unet, const nlohmann::json& entry,
               const std::string& name, Report& report) {
  const std::string kind = entry.at("kind");
  TORCH_CHECK(kind == "ancestral" || kind == "ddim", "p2 has no sampler \"", kind, "\"");
  const Process process = MakeProcess(entry.at("noise_schedule"), BaseSteps(fixtures, entry),
                                      entry.at("timestep_respacing"), /*learn_sigma=*/true, fixtures.device());
  const nlohmann::json& per_step = entry.at("per_step");
  const int steps = process.diffusion->num_timesteps();
  report.Equal(name + "/timestep_map",
               process.spaced.timestep_map == entry.at("timestep_map").get<std::vector<int>>() &&
                   entry.at("num_steps").get<int>() == steps && per_step.size() == static_cast<size_t>(steps),
               "other steps");
  sampling::SamplerOptions options;
  options.clip_denoised = entry.at("clip_denoised");
  if (kind == "ddim") options.ddim_eta = entry.at("eta").get<double>();
  const double tolerance = options.ddim_eta == 0.0 ? 3e-4 : 1e-4;
  constexpr double kStats = 1e-5;

  const torch::Tensor noise = tensors["noise"];
  std::vector<int64_t> model_timesteps;
  Worst stats, values;
  const auto images = sampling::Sample(
      [&](const torch::Tensor& x, const torch::Tensor& t) {
        model_timesteps.push_back(t[0].item<int64_t>());
        return unet.forward(x, t);
      },
      *process.diffusion, [&](std::optional<int> step) { return step ? noise[*step] : tensors["x_T"]; }, options,
      [&](const sampling::SamplerStep& step) {
        const nlohmann::json& want = per_step.at(static_cast<size_t>(step.index));
        const std::string where = absl::StrCat("step", step.index);
        stats.Add(where + ".sample", StatError(step.sample, want.at("sample")), kStats);
        stats.Add(where + ".pred_xstart", StatError(step.pred_xstart, want.at("pred_xstart")), kStats);
        stats.Add(where + ".spaced_t", want.at("spaced_t").get<int>() == steps - 1 - step.index ? 0 : 1, 0);
        stats.Add(where + ".model_t", want.at("model_t").get<int64_t>() == model_timesteps.back() ? 0 : 1, 0);
        const double saturated = step.pred_xstart.abs().ge(1).to(torch::kFloat64).mean().item<double>();
        // An element at the limit may fall on either side.
        stats.Add(where + ".saturated_fraction", std::abs(saturated - want.at("saturated_fraction").get<double>()),
                  1e-3);
        for (const auto& [part, value] :
             {std::pair(".sample", &step.sample), std::pair(".pred_xstart", &step.pred_xstart)}) {
          const std::string key = absl::StrCat(name, ".", where, part);
          const auto listed = entry.at("intermediate_steps").get<std::vector<int>>();
          const bool expected = std::find(listed.begin(), listed.end(), step.index) != listed.end();
          // The model's error grows in x_0 as in section 4.
          const double amplified = 1e-5 * process.spaced.schedule.sqrt_recipm1_alphas_cumprod.at(
                                              static_cast<size_t>(steps - 1 - step.index));
          const double allowed = value == &step.sample ? tolerance : std::max(tolerance, amplified);
          if (expected || tensors.Has(key)) values.Add(where + part, MaxDifference(*value, tensors[key]), allowed);
        }
        return true;
      });
  TORCH_CHECK(images.has_value(), "the sampler stopped");
  report.Add(name + "/steps", stats);
  values.Add("final", MaxDifference(*images, tensors[name + ".final"]), tolerance);
  report.Add(name + "/values", values);
  report.Add(name + "/final_stats", StatError(*images, entry.at("final")), kStats);
  report.Add(name + "/final_uint8_png", PixelError(sampling::ToUint8(*images), tensors[name + ".final_uint8_png"]),
             0.005);
  report.Add(name + "/final_uint8_npz", PixelError(TruncatedPixels(*images), tensors[name + ".final_uint8_npz"]),
             0.005);
}

}  // namespace

void CheckSampling(const Fixtures& fixtures, Report& report) {
  const nlohmann::json json = fixtures.Json("sampling.json");
  const Tensors tensors = fixtures.Tensors("sampling.safetensors");
  const auto unet = TinyUnet(fixtures);
  for (const nlohmann::json& entry : json.at("cases")) {
    const std::string name = entry.at("name");
    report.Case(name, [&] { CheckCase(fixtures, tensors, *unet, entry, name, report); });
  }
}

}  // namespace p2::check
