// Models and processes as the fixtures' JSON describes them, in the published code's words.
#pragma once

#include <torch/types.h>

#include <map>
#include <memory>
#include <string>

#include "common/spec/respacing.h"
#include "common/spec/unet_shape.h"
#include "nlohmann/json.hpp"
#include "worker/check/fixtures.h"
#include "worker/diffusion/gaussian_diffusion.h"
#include "worker/model/unet.h"

namespace p2::check {

// `args`: the arguments of the published script_util.create_model. Throws for what p2 has not (classes, another
// attention order) and for what does not parse.
spec::UnetOptions UnetOptionsFromArgs(const nlohmann::json& args);

using NamedTensors = std::map<std::string, torch::Tensor>;

// A model with exactly these weights, cast to float32. Throws if a name is missing, unknown or of another shape.
std::shared_ptr<model::Unet> MakeUnet(const spec::UnetOptions& options, const NamedTensors& weights,
                                      torch::Device device = torch::kCPU);

// The tiny model of tiny.json, on the fixtures' device.
std::shared_ptr<model::Unet> TinyUnet(const Fixtures& fixtures);

struct Process {
  spec::SpacedSchedule spaced;
  std::unique_ptr<diffusion::GaussianDiffusion> diffusion;
};

// T `steps` of the schedule, respaced ("": all of them), variance learned or fixed.
Process MakeProcess(const std::string& noise_schedule, int steps, const std::string& respacing, bool learn_sigma,
                    torch::Device device = torch::kCPU);

// `args`: the arguments of create_gaussian_diffusion.
Process MakeProcess(const nlohmann::json& args, torch::Device device = torch::kCPU);

// The number of steps before respacing in cases that do not name it (sampling, bits per dimension): that of the tiny
// model's losses.
int BaseSteps(const Fixtures& fixtures, const nlohmann::json& entry);

}  // namespace p2::check
