// Section 7: bits per dimension. Errors are relative; vb's are |d| / max(|ref|, 1e-2), which makes 1e-3 also the
// absolute 1e-5.
#include <ATen/ATen.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "worker/check/reference_model.h"
#include "worker/check/sections.h"
#include "worker/diffusion/bits_per_dim.h"

namespace p2::check {
namespace {

double BoundError(const torch::Tensor& got, const torch::Tensor& want) {
  const torch::Tensor scale = want.cpu().to(torch::kFloat64).abs().clamp_min(1e-2);
  return MaxDifference(got.cpu().to(torch::kFloat64) / scale, want.cpu().to(torch::kFloat64) / scale);
}

}  // namespace

void CheckBpd(const Fixtures& fixtures, Report& report) {
  const nlohmann::json json = fixtures.Json("bpd.json");
  const Tensors tensors = fixtures.Tensors("bpd.safetensors");
  const torch::Tensor noise = fixtures.Tensors("sampling.safetensors")["noise"];
  const torch::Tensor x_start = tensors["x_start"];
  report.Add("x_start", MaxDifference(tensors["x_start_uint8"].to(torch::kFloat32) / 127.5 - 1, x_start), 1e-6);
  const auto unet = TinyUnet(fixtures);
  for (const nlohmann::json& entry : json.at("cases")) {
    const std::string name = entry.at("name");
    report.Case(name, [&] {
      const Process process = MakeProcess(entry.at("noise_schedule"), BaseSteps(fixtures, entry),
                                          entry.at("timestep_respacing"), /*learn_sigma=*/true, fixtures.device());
      report.Equal(name + "/num_timesteps", entry.at("num_timesteps").get<int>() == process.diffusion->num_timesteps(),
                   absl::StrCat("p2 has ", process.diffusion->num_timesteps()));
      const diffusion::BitsPerDim got = diffusion::CalcBitsPerDim(
          [&](const torch::Tensor& x, const torch::Tensor& t) { return unet->forward(x, t); }, *process.diffusion,
          x_start, [&](int i) { return noise[i]; }, entry.at("clip_denoised"));
      const auto compare = [&](const char* part, const torch::Tensor& value, double tolerance) {
        report.Case(absl::StrCat(name, "/", part), [&] {
          Worst worst;
          for (const bool from_json : {true, false}) {
            const torch::Tensor want = from_json ? TensorOf(entry.at(part)) : tensors[absl::StrCat(name, ".", part)];
            worst.Add(from_json ? "bpd.json" : "bpd.safetensors",
                      std::string(part) == "vb" ? BoundError(value, want) : MaxRelativeError(value, want), tolerance);
          }
          report.Add(absl::StrCat(name, "/", part), worst);
        });
      };
      compare("total_bpd", got.total, 1e-5);
      compare("prior_bpd", got.prior, 1e-3);
      compare("vb", got.vb, 1e-3);
      compare("xstart_mse", got.xstart_mse, 1e-5);
      compare("mse", got.mse, 1e-5);
    });
  }
}

}  // namespace p2::check
