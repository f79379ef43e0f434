// Section 4: the tiny model: time embedding, forward pass and every block, p(x_{t-1} | x_t), losses and gradients.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/spec/weighting.h"
#include "worker/check/gradients.h"
#include "worker/check/reference_model.h"
#include "worker/check/sections.h"
#include "worker/diffusion/loss.h"
#include "worker/model/timestep_embedding.h"

namespace p2::check {
namespace {

constexpr double kForward = 3e-5, kStats = 1e-5;

struct Tiny {
  nlohmann::json json;
  Tensors cases;
  std::shared_ptr<model::Unet> unet;
  torch::Device device;
};

void CheckTimeEmbedding(const Tiny& tiny, Report& report) {
  int dims = 0;
  for (const std::string& name : tiny.cases.Names()) {
    int dim = 0;
    if (!name.starts_with("temb.dim") || !absl::SimpleAtoi(name.substr(8), &dim)) continue;
    ++dims;
    report.Case(name, [&] {
      report.Add(name, MaxDifference(model::TimestepEmbedding(tiny.cases["temb.t"], dim), tiny.cases[name]), 1e-4);
    });
  }
  if (dims == 0) report.Skip("temb", "tiny_cases.safetensors holds no temb.dimN");
}

void AddShapedStats(const torch::Tensor& got, const nlohmann::json& stats, const std::string& where, double tolerance,
                    Worst& worst) {
  worst.Add(where, StatError(got, stats), tolerance);
  if (stats.contains("shape"))
    worst.Add(where + " shape", got.sizes().vec() == stats.at("shape").get<std::vector<int64_t>>() ? 0 : 1, 0);
}

void CheckForward(const Tiny& tiny, Report& report) {
  const torch::NoGradGuard no_grad;
  const nlohmann::json& json = tiny.json.at("forward");
  const torch::Tensor x = tiny.cases["fwd.x"];
  const torch::Tensor out = tiny.unet->forward(x, tiny.cases["fwd.t"]);
  report.Add("forward/out", MaxDifference(out, tiny.cases["fwd.out"]), kForward);
  Worst worst;
  worst.Add("out", StatError(out, json.at("out")), kStats);
  worst.Add("out_rms", RelativeError(out.to(torch::kFloat64).square().mean().sqrt().item<double>(), json.at("out_rms")),
            kStats);
  report.Add("forward/stats", worst);
  const torch::Tensor fraction = tiny.cases["fwd.frac_t"];
  report.Add("forward/fractional_t",
             MaxDifference(tiny.unet->forward(x.narrow(0, 0, fraction.size(0)), fraction), tiny.cases["fwd.frac_out"]),
             kForward);
}

// Runs the stages one by one, as Unet::forward does, to see their outputs.
void CheckActivations(const Tiny& tiny, Report& report) {
  const torch::NoGradGuard no_grad;
  const nlohmann::json& stats = tiny.json.at("forward").at("activations");
  const auto modules = tiny.unet->named_modules();
  const auto parameters = tiny.unet->named_parameters();
  std::set<std::string> seen;
  Worst worst;
  const auto compare = [&](const std::string& name, const torch::Tensor& value) {
    seen.insert(name);
    AddShapedStats(value, stats.at(name), name, kStats, worst);
    const std::string key = "fwd.act." + name;
    if (!tiny.cases.Has(key)) return;
    const torch::Tensor want = tiny.cases[key];
    report.Add("forward/" + name, MaxDifference(value.narrow(0, 0, want.size(0)), want), kForward);
  };
  torch::Tensor emb = at::linear(model::TimestepEmbedding(tiny.cases["fwd.t"], tiny.unet->options().model_channels),
                                 parameters["time_embed.0.weight"], parameters["time_embed.0.bias"]);
  emb = at::linear(at::silu(emb), parameters["time_embed.2.weight"], parameters["time_embed.2.bias"]);
  compare("time_embed", emb);
  emb = at::silu(emb);
  const auto run = [&](const std::string& name, const torch::Tensor& x) {
    const torch::Tensor y = std::dynamic_pointer_cast<model::Stage>(modules[name])->forward(x, emb, nullptr);
    compare(name, y);
    return y;
  };
  torch::Tensor h =
      at::conv2d(tiny.cases["fwd.x"], parameters["input_blocks.0.0.weight"], parameters["input_blocks.0.0.bias"], 1, 1);
  compare("input_blocks.0", h);
  std::vector<torch::Tensor> skips = {h};
  for (int i = 1; modules.contains(absl::StrCat("input_blocks.", i)); ++i)
    skips.push_back(h = run(absl::StrCat("input_blocks.", i), h));
  h = run("middle_block", h);
  for (int i = 0; modules.contains(absl::StrCat("output_blocks.", i)); ++i) {
    h = run(absl::StrCat("output_blocks.", i), at::cat({h, skips.back()}, 1));
    skips.pop_back();
  }
  for (const auto& [name, entry] : stats.items()) {
    if (seen.count(name) == 0) worst.Add(name + " (no such block)", 1, 0);
  }
  report.Add("forward/activations", worst);
}

void CheckReverseStep(const Tiny& tiny, Report& report) {
  const torch::NoGradGuard no_grad;
  const Process process = MakeProcess(tiny.json.at("losses").at(0).at("diffusion_args"), tiny.device);
  const torch::Tensor x = tiny.cases["fwd.x"], t = tiny.cases["pmv.t"];
  const torch::Tensor output = tiny.unet->forward(x, process.diffusion->ModelTimesteps(t));
  for (const bool clip : {true, false}) {
    const diffusion::ModelPrediction got = process.diffusion->PMeanVariance(output, x, t, clip);
    const std::string name = clip ? "clip_True" : "clip_False";
    const nlohmann::json& json = tiny.json.at("p_mean_variance").at(name);
    const std::pair<const char*, torch::Tensor> parts[] = {{"mean", got.reverse.mean},
                                                           {"log_variance", got.reverse.log_variance.expand_as(x)},
                                                           {"pred_xstart", got.pred_xstart}};
    Worst stats;
    for (const auto& [part, value] : parts) {
      stats.Add(part, StatError(value, json.at(part)), kStats);
      if (!json.at(part).contains("per_sample_max_abs")) continue;
      const auto largest = json.at(part).at("per_sample_max_abs").get<std::vector<double>>();
      TORCH_CHECK(static_cast<int64_t>(largest.size()) == x.size(0), "per_sample_max_abs has ", largest.size(),
                  " entries");
      for (int64_t i = 0; i < x.size(0); ++i)
        stats.Add(absl::StrCat(part, " per_sample_max_abs ", i),
                  RelativeError(value[i].abs().max().item<double>(), largest[static_cast<size_t>(i)]), kStats);
    }
    report.Add(absl::StrCat("p_mean_variance/", name, "/stats"), stats);
    if (!clip) continue;
    report.Add("p_mean_variance/mean", MaxDifference(got.reverse.mean, tiny.cases["pmv.clip.mean"]), 1e-5);
    report.Add("p_mean_variance/log_variance", MaxDifference(parts[1].second, tiny.cases["pmv.clip.log_variance"]),
               2e-5);
    const torch::Tensor want = tiny.cases["pmv.clip.pred_xstart"];
    TORCH_CHECK(want.sizes() == x.sizes(), "pmv.clip.pred_xstart is ", want.sizes());
    Worst amplified;
    for (int64_t i = 0; i < x.size(0); ++i) {
      const int64_t step = t[i].item<int64_t>();
      const double factor = process.spaced.schedule.sqrt_recipm1_alphas_cumprod.at(static_cast<size_t>(step));
      amplified.Add(absl::StrCat("t = ", step), MaxDifference(got.pred_xstart[i], want[i]),
                    1e-5 * std::max(1.0, factor));
    }
    report.Add("p_mean_variance/pred_xstart", amplified);
  }
}

void CheckInputs(const Tiny& tiny, Report& report) {
  report.Add("loss.x0",
             MaxDifference(tiny.cases["loss.x0_uint8"].to(torch::kFloat32) / 127.5 - 1, tiny.cases["loss.x0"]), 1e-6);
  const Process process = MakeProcess(tiny.json.at("losses").at(0).at("diffusion_args"), tiny.device);
  report.Add(
      "q_sample",
      MaxDifference(process.diffusion->QSample(tiny.cases["loss.x0"], tiny.cases["loss.t"], tiny.cases["loss.noise"]),
                    tiny.cases["loss.x_t"]),
      1e-6);
}

// One entry of "losses" as it is computed here.
class LossCase {
 public:
  LossCase(const Tiny& tiny, const nlohmann::json& entry)
      : tiny_(tiny),
        args_(entry.at("diffusion_args")),
        process_(MakeProcess(args_, tiny.device)),
        t_(tiny.cases[entry.at("t_tensor")]) {
    const auto weights = spec::ObjectiveWeights("p2", args_.at("p2_gamma"), args_.at("p2_k"), process_.spaced.schedule);
    TORCH_CHECK(weights.ok(), std::string(weights.status().message()));
    loss_ = std::make_unique<diffusion::TrainingLoss>(
        *process_.diffusion, *weights,
        diffusion::LossOptions{.rescale_vb = args_.at("rescale_learned_sigmas"),
                               .kl_only = args_.value("use_kl", false)});
  }

  // Samples [begin, end) of the batch; gradients of the mean loss are added to the model's.
  diffusion::LossTerms Run(int64_t begin, int64_t end) const {
    const auto rows = [&](const torch::Tensor& x) { return x.slice(0, begin, end); };
    const torch::Tensor x0 = rows(tiny_.cases["loss.x0"]), noise = rows(tiny_.cases["loss.noise"]), t = rows(t_);
    const torch::Tensor x_t = process_.diffusion->QSample(x0, t, noise);
    diffusion::LossTerms terms =
        (*loss_)(tiny_.unet->forward(x_t, process_.diffusion->ModelTimesteps(t)), x0, x_t, t, noise);
    terms.loss.mean().backward();
    return terms;
  }

  const torch::Tensor& t() const { return t_; }
  int64_t batch() const { return t_.size(0); }
  bool respaced() const { return !args_.at("timestep_respacing").get<std::string>().empty(); }
  // The decoder's term at t = 0 subtracts two nearly equal numbers.
  bool has_first_step() const { return t_.eq(0).any().item<bool>(); }
  double gradient_tolerance() const { return respaced() ? 2e-4 : has_first_step() ? 1e-2 : 1e-4; }
  std::string loss_type() const {
    const bool rescale = args_.at("rescale_learned_sigmas");
    return absl::StrCat(rescale ? "RESCALED_" : "", args_.value("use_kl", false) ? "KL" : "MSE");
  }

 private:
  const Tiny& tiny_;
  const nlohmann::json args_;
  const Process process_;
  const torch::Tensor t_;
  std::unique_ptr<diffusion::TrainingLoss> loss_;
};

void AddPerSample(const char* what, const torch::Tensor& got, const nlohmann::json& want, const torch::Tensor& t,
                  Worst& worst) {
  TORCH_CHECK(want.is_array() && static_cast<int64_t>(want.size()) == t.numel(), what, " has not ", t.numel(),
              " entries");
  for (int64_t i = 0; i < t.numel(); ++i) {
    const int64_t step = t[i].item<int64_t>();
    worst.Add(absl::StrCat(what, " at t = ", step), RelativeError(got[i].item<double>(), want[static_cast<size_t>(i)]),
              step == 0 ? 5e-5 : 1e-5);
  }
}

void CheckLoss(const Fixtures& fixtures, const Tiny& tiny, const nlohmann::json& entry, const std::string& name,
               Report& report) {
  const LossCase loss(tiny, entry);
  const nlohmann::json& args = entry.at("diffusion_args");
  report.Equal(absl::StrCat(name, "/description"),
               MaxDifference(loss.t(), TensorOf(entry.at("t"))) == 0 && entry.at("p2_gamma") == args.at("p2_gamma") &&
                   entry.at("p2_k") == args.at("p2_k") && entry.at("loss_type") == loss.loss_type(),
               "t, p2_gamma, p2_k or loss_type contradict the case's tensors and arguments");
  ZeroGradients(*tiny.unet);
  const diffusion::LossTerms terms = loss.Run(0, loss.batch());
  Worst worst;
  AddPerSample("loss", terms.loss.detach(), entry.at("loss"), loss.t(), worst);
  if (!entry.at("mse").is_null()) AddPerSample("mse", terms.mse, entry.at("mse"), loss.t(), worst);
  if (!entry.at("vb").is_null()) AddPerSample("vb", terms.vb, entry.at("vb"), loss.t(), worst);
  worst.Add("mean_loss", RelativeError(terms.loss.mean().item<double>(), entry.at("mean_loss")),
            loss.has_first_step() ? 5e-5 : 1e-5);
  report.Add(absl::StrCat(name, "/loss"), worst);

  const GradientRules rules{tiny.unet->options(), Degenerate(entry), loss.gradient_tolerance()};
  report.Add(absl::StrCat(name, "/gradients"), CompareGradientStats(*tiny.unet, entry.at("grads"), rules));
  Worst norms;
  const torch::Tensor all = FlatGradient(*tiny.unet);
  norms.Add("grad_global_norm", RelativeError(all.norm().item<double>(), entry.at("grad_global_norm")),
            rules.tolerance);
  norms.Add("grad_global_max_abs", RelativeError(all.abs().max().item<double>(), entry.at("grad_global_max_abs")),
            rules.tolerance);
  report.Add(absl::StrCat(name, "/gradient_norm"), norms);
  if (!entry.contains("full_gradients_in")) return;
  report.Add(absl::StrCat(name, "/full_gradients"),
             CompareWholeGradients(*tiny.unet, fixtures.Tensors(entry.at("full_gradients_in")), rules));

  // Two ranks: the mean of the halves' gradients is the batch's; their sum is twice it.
  const nlohmann::json& note = tiny.json.at("data_parallel_note");
  ZeroGradients(*tiny.unet);
  loss.Run(0, loss.batch() / 2);
  loss.Run(loss.batch() / 2, loss.batch());
  const torch::Tensor sum = FlatGradient(*tiny.unet);
  report.Add("data_parallel/mean_of_halves", RelativeL2(sum / 2, all),
             std::max(1e-6, 10 * note.at("mean_of_two_half_batch_grads_vs_full_batch_rel_l2").get<double>()));
  report.Add("data_parallel/norm_of_sum",
             RelativeError(sum.norm().item<double>(), note.at("sum_of_two_microbatch_grads_global_norm")),
             rules.tolerance);
}

}  // namespace

void CheckTiny(const Fixtures& fixtures, Report& report) {
  const Tiny tiny{fixtures.Json("tiny.json"), fixtures.Tensors("tiny_cases.safetensors"), TinyUnet(fixtures),
                  fixtures.device()};
  int64_t parameters = 0;
  for (const auto& item : tiny.unet->named_parameters()) parameters += item.value().numel();
  report.Case("num_parameters", [&] {
    report.Add("num_parameters",
               static_cast<double>(std::abs(parameters - tiny.json.at("num_parameters").get<int64_t>())), 0);
  });
  report.Case("temb", [&] { CheckTimeEmbedding(tiny, report); });
  report.Case("forward", [&] { CheckForward(tiny, report); });
  report.Case("forward/activations", [&] { CheckActivations(tiny, report); });
  report.Case("p_mean_variance", [&] { CheckReverseStep(tiny, report); });
  report.Case("inputs", [&] { CheckInputs(tiny, report); });
  for (const nlohmann::json& entry : tiny.json.at("losses")) {
    const std::string name = "losses/" + entry.at("name").get<std::string>();
    report.Case(name, [&] { CheckLoss(fixtures, tiny, entry, name, report); });
  }
}

}  // namespace p2::check
