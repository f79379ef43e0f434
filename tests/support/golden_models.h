// The reference models of tests/golden as p2's own.
#pragma once

#include <memory>
#include <string>

#include "common/spec/unet_shape.h"
#include "nlohmann/json.hpp"
#include "worker/model/unet.h"

namespace p2::testing {

// `args` of a configuration of models.json (arguments of the published create_model).
spec::UnetOptions UnetOptionsFromArgs(const nlohmann::json& args);

// The configuration of that name in models.json.
spec::UnetOptions GoldenUnetOptions(const std::string& name);

// The tiny model (tiny32) with the weights of tiny_weights.safetensors, in float32. Sets torch to one thread: as the
// reference ran, and the quickest beside other tests.
std::shared_ptr<model::Unet> GoldenTinyUnet();

}  // namespace p2::testing
