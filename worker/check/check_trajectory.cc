// Section 5: training: the loss, AdamW and EMA over some steps, from new and from published optimizer state;
// microbatches. Errors of parameters are distances divided by the length of the reference's update of that tensor.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/spec/weighting.h"
#include "worker/check/gradients.h"
#include "worker/check/published.h"
#include "worker/check/reference_model.h"
#include "worker/check/sections.h"
#include "worker/diffusion/loss.h"
#include "worker/optim/adamw.h"
#include "worker/optim/ema.h"
#include "worker/optim/flat_parameters.h"

namespace p2::check {
namespace {

constexpr double kLoss = 2e-5, kUpdate = 5e-3, kGradientStats = 2e-4;

// A key third moves by rounding noise alone.
double TensorTolerance(const std::string& name) { return name.ends_with(".qkv.bias") ? 0.3 : 3e-2; }

struct Setup {
  nlohmann::json json;
  Tensors tensors;
  spec::UnetOptions options;
  NamedTensors weights;
  std::string model_path;
  torch::Device device;
  Process process;
  std::unique_ptr<diffusion::TrainingLoss> loss;

  // The EMA or optimizer file saved with the model.
  std::string Beside(checkpoint::PublishedName::Kind kind, const std::string& rate) const {
    const auto name = checkpoint::ParsePublishedName(model_path);
    TORCH_CHECK(name.has_value(), model_path, " is no name of the published code's");
    return (std::filesystem::path(model_path).parent_path() / checkpoint::PublishedFileName({kind, rate, name->step}))
        .string();
  }

  // Backward of the mean loss of samples [begin, end) of step `step` (from 0); gradients are added.
  diffusion::LossTerms Backward(model::Unet& unet, int64_t step, int64_t begin, int64_t end) const {
    const auto rows = [&](const char* key) { return tensors[key][step].slice(0, begin, end); };
    const torch::Tensor x0 = rows("traj.x0"), t = rows("traj.t"), noise = rows("traj.noise");
    const torch::Tensor x_t = process.diffusion->QSample(x0, t, noise);
    diffusion::LossTerms terms = (*loss)(unet.forward(x_t, process.diffusion->ModelTimesteps(t)), x0, x_t, t, noise);
    terms.loss.mean().backward();
    return terms;
  }
};

Setup MakeSetup(const Fixtures& fixtures) {
  Setup setup{fixtures.Json("trajectory.json"),
              fixtures.Tensors("trajectory.safetensors"),
              {},
              {},
              "",
              fixtures.device(),
              {},
              nullptr};
  setup.model_path = fixtures.Path(setup.json.at("model"));
  setup.options = UnetOptionsFromArgs(fixtures.Json("checkpoint.json").at("model_args"));
  setup.weights = ReadStateDictFile(setup.model_path).tensors;
  setup.process = MakeProcess(setup.json.at("diffusion_args"), setup.device);
  const auto weights =
      spec::ObjectiveWeights("p2", setup.json.at("p2_gamma"), setup.json.at("p2_k"), setup.process.spaced.schedule);
  TORCH_CHECK(weights.ok(), std::string(weights.status().message()));
  setup.loss = std::make_unique<diffusion::TrainingLoss>(
      *setup.process.diffusion, *weights,
      diffusion::LossOptions{.rescale_vb = setup.json.at("diffusion_args").at("rescale_learned_sigmas")});
  return setup;
}

void CheckOutputs(const Setup& setup, Report& report) {
  const torch::NoGradGuard no_grad;
  const torch::Tensor x = setup.tensors["ckpt.x"], t = setup.tensors["ckpt.t"];
  report.Case("ckpt.model_out", [&] {
    report.Add("ckpt.model_out",
               MaxDifference(MakeUnet(setup.options, setup.weights, setup.device)->forward(x, t),
                             setup.tensors["ckpt.model_out"]),
               3e-5);
  });
  report.Case("ckpt.ema_out", [&] {
    for (const auto& [rate, unused] : setup.json.at("runs").at("fresh").at("steps").at(0).at("ema").items()) {
      const std::string path = setup.Beside(checkpoint::PublishedName::Kind::kEma, rate);
      if (!std::filesystem::exists(path)) continue;
      const auto unet = MakeUnet(setup.options, ReadStateDictFile(path).tensors, setup.device);
      return report.Add("ckpt.ema_out", MaxDifference(unet->forward(x, t), setup.tensors["ckpt.ema_out"]), 3e-5);
    }
    report.Skip("ckpt.ema_out", "no ema_RATE file of trajectory.json's rates lies beside the model");
  });
}

struct Average {
  std::string rate_text;
  double rate;
  optim::Ema ema;
  torch::Tensor formula;  // r ema + (1 - r) p by float64, over the flat buffer
};

// One run: a model in training and the reference's numbers beside it.
class Run {
 public:
  Run(const Setup& setup, const std::string& name, const nlohmann::json& json)
      : setup_(setup),
        name_(name),
        json_(json),
        degenerate_(Degenerate(json)),
        unet_(MakeUnet(setup.options, setup.weights, setup.device)),
        flat_(*unet_, setup.device),
        initial_(flat_.params().clone()) {
    TORCH_CHECK(name == "fresh" || name == "resume", "p2 knows the runs fresh and resume");
    const bool resume = name == "resume";
    const nlohmann::json& settings = setup.json.at("optimizer");
    TORCH_CHECK(settings.at("type") == "torch.optim.AdamW", "p2 has AdamW alone");
    optim::AdamWOptions options{.learning_rate = settings.at("lr"),
                                .beta1 = settings.at("betas").at(0),
                                .beta2 = settings.at("betas").at(1),
                                .epsilon = settings.at("eps"),
                                .weight_decay = settings.at("weight_decay")};
    std::optional<OptimizerFile> file;
    if (resume) {
      std::vector<NamedShape> shapes;
      for (const optim::FlatView& view : flat_.layout().views()) shapes.push_back({view.name, view.sizes});
      file = ReadOptimizerFile(setup.Beside(checkpoint::PublishedName::Kind::kOptimizer, ""), shapes);
      const checkpoint::PublishedOptimizer& s = file->settings;  // They replace what was asked for.
      options = {s.learning_rate, s.beta1, s.beta2, s.epsilon, s.weight_decay};
    }
    adamw_ = std::make_unique<optim::AdamW>(options, flat_.params());
    if (file) {
      Fill(adamw_->m(), file->exp_avg);
      Fill(adamw_->v(), file->exp_avg_sq);
      adamw_->updates().fill_(static_cast<double>(file->settings.step));
    }
    for (const auto& [rate_text, unused] : json.at("steps").at(0).at("ema").items()) {
      double rate = 0;
      TORCH_CHECK(absl::SimpleAtod(rate_text, &rate), "\"", rate_text, "\" is no rate");
      Average average{rate_text, rate, optim::Ema({rate_text, rate}, flat_.params()), {}};
      const std::string path = setup.Beside(checkpoint::PublishedName::Kind::kEma, rate_text);
      if (resume && std::filesystem::exists(path)) Fill(average.ema.value(), ReadStateDictFile(path).tensors);
      average.formula = average.ema.value().to(torch::kFloat64);
      averages_.push_back(std::move(average));
    }
    const auto rates = setup.json.at("ema_rates").get<std::vector<double>>();
    TORCH_CHECK(rates.size() == averages_.size(), "ema_rates names ", rates.size(), " rates, the steps ",
                averages_.size());
    for (const double rate : rates) {
      TORCH_CHECK(std::any_of(averages_.begin(), averages_.end(), [&](const Average& a) { return a.rate == rate; }),
                  "the steps have no EMA of rate ", rate);
    }
  }

  void CheckSteps(Report& report) {
    const nlohmann::json& steps = json_.at("steps");
    TORCH_CHECK(steps.size() == json_.at("num_steps").get<size_t>(), "num_steps and steps differ");
    for (size_t s = 0; s < steps.size(); ++s) {
      const nlohmann::json& want = steps[s];
      const std::string name = absl::StrCat(name_, "/step", s + 1);
      report.Case(name, [&] { CheckStep(static_cast<int64_t>(s), want, name, report); });
    }
  }

 private:
  void Fill(const torch::Tensor& flat, const NamedTensors& values) const {
    for (const optim::FlatView& view : flat_.layout().views())
      flat_.layout().View(flat, view).copy_(values.at(view.name));
  }

  void CheckStep(int64_t s, const nlohmann::json& want, const std::string& name, Report& report) {
    const double norm_before = flat_.params().to(torch::kFloat64).norm().item<double>();
    flat_.ZeroGrads();
    const diffusion::LossTerms terms = setup_.Backward(*unet_, s, 0, setup_.tensors["traj.t"].size(1));
    Worst worst;
    worst.Add("step", want.at("step").get<int64_t>() == s + 1 ? 0 : 1, 0);
    worst.Add("loss", RelativeError(terms.loss.mean().item<double>(), want.at("loss")), kLoss);
    const nlohmann::json& per_sample = want.at("per_sample");
    // t = 0 as in section 4.
    const double sample_tolerance = setup_.tensors["traj.t"][s].eq(0).any().item<bool>() ? 5e-5 : kLoss;
    for (const auto& [part, value] : {std::pair("loss", terms.loss.detach()), {"mse", terms.mse}, {"vb", terms.vb}})
      worst.Add(absl::StrCat("per_sample.", part), MaxRelativeError(value, TensorOf(per_sample.at(part))),
                sample_tolerance);
    worst.Add("grad_norm", RelativeError(flat_.grads().to(torch::kFloat64).norm().item<double>(), want.at("grad_norm")),
              kLoss);
    worst.Add("param_norm_before", RelativeError(norm_before, want.at("param_norm_before")), kLoss);
    report.Add(name + "/loss", worst);

    const torch::Tensor found_inf = at::zeros({}, torch::dtype(torch::kFloat32).device(setup_.device));
    adamw_->Step(flat_.grads(), found_inf);
    for (Average& average : averages_) {
      average.ema.Update(flat_.params(), adamw_->updates(), found_inf);
      average.formula = average.rate * average.formula + (1 - average.rate) * flat_.params().to(torch::kFloat64);
      report.Add(absl::StrCat(name, "/ema_", average.rate_text, "/formula"),
                 MaxDifference(average.ema.value(), average.formula), 1e-6);
    }
    if (!want.contains("params")) return;
    CheckParameters(s, want.at("params"), name, report);
    for (const Average& average : averages_)
      CheckAverage(s, average, want, absl::StrCat(name, "/ema_", average.rate_text), report);
  }

  void CheckParameters(int64_t s, const nlohmann::json& stats, const std::string& name, Report& report) {
    Worst values, blocks;
    double distance2 = 0, update2 = 0;
    bool whole = true;  // The file holds every tensor of this step.
    for (const optim::FlatView& view : flat_.layout().views()) {
      const nlohmann::json& want = stats.at(view.name);
      const bool degenerate = degenerate_.count(view.name) > 0;
      blocks.Add(view.name + " degenerate", want.at("degenerate").get<bool>() == degenerate ? 0 : 1, 0);
      if (degenerate) continue;
      const double tolerance = TensorTolerance(view.name), update = want.at("update_l2");
      const torch::Tensor got = flat_.layout().View(flat_.params(), view).to(torch::kFloat64);
      const torch::Tensor start = flat_.layout().View(initial_, view).to(torch::kFloat64);
      blocks.Add(view.name, StatDistance(got, want) / update, tolerance);
      blocks.Add(view.name + " update_l2", RelativeError((got - start).norm().item<double>(), update), tolerance);
      const std::string key = absl::StrCat(name_, ".step", s + 1, ".param.", view.name);
      if (!setup_.tensors.Has(key)) {
        whole = false;
        continue;
      }
      const torch::Tensor reference = setup_.tensors[key].to(torch::kFloat64);
      TORCH_CHECK(reference.sizes() == got.sizes(), key, " is ", reference.sizes());
      const torch::Tensor error = got - reference, moved = reference - start;
      values.Add(view.name, error.norm().item<double>() / moved.norm().item<double>(), tolerance);
      distance2 += error.square().sum().item<double>();
      update2 += moved.square().sum().item<double>();
    }
    report.Add(name + "/params/stats", blocks);
    report.Add(name + "/params/each", values);
    // The tolerance is that of all tensors together: of the small ones alone noise is a larger part.
    // The format promises all of them after the last step of `fresh`.
    const bool promised = name_ == "fresh" && static_cast<size_t>(s) + 1 == json_.at("steps").size();
    if (whole) {
      report.Add(name + "/params/together", std::sqrt(distance2 / update2), kUpdate);
    } else if (promised) {
      report.Skip(name + "/params/together", "trajectory.safetensors lacks parameters of this step");
    }
  }

  // An average follows its part 1 - r^n of the parameters' error, besides float32's rounding.
  void CheckAverage(int64_t s, const Average& average, const nlohmann::json& want, const std::string& name,
                    Report& report) {
    const double share = 1 - std::pow(average.rate, static_cast<double>(s + 1));
    const nlohmann::json& stats = want.at("ema").at(average.rate_text);
    Worst worst;
    for (const optim::FlatView& view : flat_.layout().views()) {
      if (degenerate_.count(view.name) > 0) continue;
      const torch::Tensor got = flat_.layout().View(average.ema.value(), view);
      const double update = want.at("params").at(view.name).at("update_l2");
      const double tolerance =
          TensorTolerance(view.name) * share * update + 2e-7 * std::sqrt(static_cast<double>(view.numel));
      worst.Add(view.name, StatDistance(got, stats.at(view.name)), tolerance);
      const std::string key = absl::StrCat(name_, ".step", s + 1, ".ema_", average.rate_text, ".", view.name);
      if (!setup_.tensors.Has(key)) continue;
      const torch::Tensor reference = setup_.tensors[key];
      TORCH_CHECK(reference.sizes() == got.sizes(), key, " is ", reference.sizes());
      worst.Add(view.name + " (tensor)", (got - reference).to(torch::kFloat64).norm().item<double>(), tolerance);
    }
    report.Add(name, worst);
  }

  const Setup& setup_;
  const std::string name_;
  const nlohmann::json& json_;
  const std::set<std::string> degenerate_;
  const std::shared_ptr<model::Unet> unet_;
  optim::FlatParameters flat_;
  const torch::Tensor initial_;
  std::unique_ptr<optim::AdamW> adamw_;
  std::vector<Average> averages_;
};

// The published code's sum of the chunks' own means.
void CheckMicrobatch(const Setup& setup, const std::string& key, const nlohmann::json& want, Report& report) {
  const auto unet = MakeUnet(setup.options, setup.weights, setup.device);
  const int64_t batch = setup.tensors["traj.t"].size(1);
  int64_t chunk = batch;
  TORCH_CHECK(key == "none" || (absl::SimpleAtoi(key, &chunk) && chunk > 0), "\"", key, "\" is no microbatch");
  setup.Backward(*unet, 0, 0, batch);
  const torch::Tensor full = FlatGradient(*unet);
  ZeroGradients(*unet);
  int64_t chunks = 0;
  for (int64_t i = 0; i < batch; i += chunk, ++chunks) setup.Backward(*unet, 0, i, std::min(i + chunk, batch));
  const torch::Tensor gradient = FlatGradient(*unet);
  Worst worst;
  worst.Add("num_microbatches", std::abs(static_cast<double>(chunks) - want.at("num_microbatches").get<double>()), 0);
  worst.Add("grad_global_norm", RelativeError(gradient.norm().item<double>(), want.at("grad_global_norm")), kLoss);
  const double distance = RelativeL2(full * static_cast<double>(chunks), gradient);
  worst.Add("distance to the full batch's",
            std::abs(distance - want.at("rel_l2_distance_to_full_batch_grad_times_num_microbatches").get<double>()),
            1e-5);
  report.Add("microbatch/" + key, worst);
  const GradientRules rules{setup.options, Degenerate(setup.json.at("runs").at("fresh")), kGradientStats};
  report.Add("microbatch/" + key + "/gradients", CompareGradientStats(*unet, want.at("grads"), rules, /*all=*/false));
}

}  // namespace

void CheckTrajectory(const Fixtures& fixtures, Report& report) {
  const Setup setup = MakeSetup(fixtures);
  CheckOutputs(setup, report);
  for (const char* name : {"fresh", "resume"}) {
    if (!setup.json.at("runs").contains(name)) report.Skip(name, "trajectory.json has no such run");
  }
  for (const auto& [name, run] : setup.json.at("runs").items())
    report.Case(name, [&, name = name, &run = run] { Run(setup, name, run).CheckSteps(report); });
  for (const auto& [key, want] : setup.json.at("microbatch").at("cases").items())
    report.Case("microbatch/" + key, [&, key = key, &want = want] { CheckMicrobatch(setup, key, want, report); });
}

}  // namespace p2::check
