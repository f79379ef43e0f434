#include "worker/model/unet.h"

#include <ATen/ATen.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/golden.h"
#include "worker/model/timestep_embedding.h"

namespace p2::model {
namespace {

using ::p2::testing::ExpectStats;
using ::p2::testing::GoldenJson;
using ::p2::testing::GoldenTensors;
using ::p2::testing::GoldenTinyUnet;
using ::p2::testing::MaxDifference;

spec::UnetOptions SmallOptions() {
  spec::UnetOptions options;
  options.image_size = 16;
  options.in_channels = 1;
  options.out_channels = 2;
  options.model_channels = 32;
  options.channel_mult = {1, 2};
  options.attention_resolutions = {8};
  options.num_head_channels = 16;
  return options;
}

TEST(UnetTest, StateDictEqualsThePublishedCodeInEveryConfiguration) {
  const nlohmann::json golden = GoldenJson("models.json");
  int models = 0, errors = 0;
  for (const nlohmann::json& config : golden.at("configs")) {
    SCOPED_TRACE(config.at("name"));
    const spec::UnetOptions options = testing::UnetOptionsFromArgs(config.at("args"));
    if (config.value("is_error", false)) {
      EXPECT_THROW(Unet{options}, c10::Error);
      ++errors;
      continue;
    }
    ++models;
    Unet unet(options);
    std::vector<std::pair<std::string, std::vector<int64_t>>> shapes, expected;
    int64_t count = 0;
    for (const auto& item : unet.named_parameters()) {
      shapes.emplace_back(item.key(), item.value().sizes().vec());
      count += item.value().numel();
    }
    for (const nlohmann::json& entry : config.at("state_dict")) expected.emplace_back(entry[0], entry[1]);
    EXPECT_EQ(shapes, expected);
    EXPECT_EQ(count, config.at("num_parameters").get<int64_t>());
    EXPECT_TRUE(unet.buffers().empty());
  }
  EXPECT_EQ(models, 8);
  EXPECT_EQ(errors, 3);
}

TEST(UnetTest, ParametersEqualTheTorchFreeWalk) {
  for (const bool updown : {true, false}) {
    for (const bool scale_shift : {true, false}) {
      spec::UnetOptions options = SmallOptions();
      options.resblock_updown = updown;
      options.use_scale_shift_norm = scale_shift;
      options.num_res_blocks = 2;
      const auto walked = spec::WalkUnet(options);
      ASSERT_TRUE(walked.ok()) << walked.status();
      Unet unet(options);
      size_t i = 0;
      for (const auto& item : unet.named_parameters()) {
        ASSERT_LT(i, walked->size());
        EXPECT_EQ(item.key(), (*walked)[i].name);
        EXPECT_EQ(item.value().sizes().vec(), (*walked)[i].shape);
        ++i;
      }
      EXPECT_EQ(i, walked->size());
      InitializeParameters(unet, 1);
      EXPECT_EQ(unet.forward(at::rand({2, 1, 16, 16}), at::tensor({3.0f, 500.0f})).sizes(),
                (std::vector<int64_t>{2, 2, 16, 16}));
    }
  }
}

TEST(UnetTest, SaysWhatIsWrongWithTheOptions) {
  spec::UnetOptions options = SmallOptions();
  options.model_channels = 48;
  try {
    Unet unet(options);
    FAIL() << "no exception";
  } catch (const c10::Error& e) {
    EXPECT_THAT(std::string(e.what_without_backtrace()), ::testing::HasSubstr("model_channels"));
  }
}

TEST(UnetTest, ForwardEqualsTheReference) {
  const auto unet = GoldenTinyUnet();
  const GoldenTensors cases("tiny_cases.safetensors");
  const torch::Tensor x = cases["fwd.x"];
  const torch::Tensor recorded = unet->forward(x, cases["fwd.t"]);
  EXPECT_LE(MaxDifference(recorded.detach(), cases["fwd.out"]), 3e-5);
  EXPECT_LE(MaxDifference(unet->forward(x.narrow(0, 0, 2), cases["fwd.frac_t"]).detach(), cases["fwd.frac_out"]), 3e-5);
  const torch::NoGradGuard no_grad;
  EXPECT_TRUE(at::equal(unet->forward(x, cases["fwd.t"]), recorded)) << "without autograd the numbers are the same";
}

// The outputs of all stages, found by running the stages as forward does.
TEST(UnetTest, EveryStageEqualsTheReference) {
  const torch::NoGradGuard no_grad;
  const auto unet = GoldenTinyUnet();
  const GoldenTensors cases("tiny_cases.safetensors");
  const nlohmann::json stats = GoldenJson("tiny.json").at("forward").at("activations");
  const auto modules = unet->named_modules();
  const auto parameter = [&](const std::string& name) { return unet->named_parameters()[name]; };
  torch::Tensor emb = at::linear(TimestepEmbedding(cases["fwd.t"], 32), parameter("time_embed.0.weight"),
                                 parameter("time_embed.0.bias"));
  emb = at::linear(at::silu(emb), parameter("time_embed.2.weight"), parameter("time_embed.2.bias"));
  EXPECT_LE(MaxDifference(emb, cases["fwd.act.time_embed"]), 3e-5);
  ExpectStats(emb, stats.at("time_embed"), 1e-5, "time_embed");
  emb = at::silu(emb);

  const auto run = [&](const std::string& name, const torch::Tensor& x) {
    const torch::Tensor y = std::dynamic_pointer_cast<Stage>(modules[name])->forward(x, emb, nullptr);
    ExpectStats(y, stats.at(name), 1e-5, name);
    return y;
  };
  torch::Tensor h =
      at::conv2d(cases["fwd.x"], parameter("input_blocks.0.0.weight"), parameter("input_blocks.0.0.bias"), 1, 1);
  ExpectStats(h, stats.at("input_blocks.0"), 1e-5, "input_blocks.0");
  std::vector<torch::Tensor> skips = {h};
  for (int i = 1; i <= 5; ++i) skips.push_back(h = run("input_blocks." + std::to_string(i), h));
  h = run("middle_block", h);
  EXPECT_LE(MaxDifference(h.narrow(0, 0, 1), cases["fwd.act.middle_block"]), 3e-5);
  for (int i = 0; i <= 5; ++i) {
    h = run("output_blocks." + std::to_string(i), at::cat({h, skips.back()}, 1));
    skips.pop_back();
  }
}

TEST(TimestepEmbeddingTest, EqualsTheReference) {
  const GoldenTensors cases("tiny_cases.safetensors");
  for (const int dim : {32, 65, 128}) {
    const torch::Tensor expected = cases["temb.dim" + std::to_string(dim)];
    EXPECT_LE(MaxDifference(TimestepEmbedding(cases["temb.t"], dim), expected), 1e-4) << dim;
  }
}

TEST(UnetTest, DropoutIsAMapOfTheSampleAndOffByDefault) {
  spec::UnetOptions options = SmallOptions();
  options.dropout = 0.3;
  Unet unet(options);
  InitializeParameters(unet, 1);
  {
    const torch::NoGradGuard no_grad;  // Without its zero layers the output shows the blocks before them.
    for (auto& item : unet.named_parameters()) item.value().add_(0.01);
  }
  const torch::Tensor x = at::randn({4, 1, 16, 16});
  const torch::Tensor t = at::tensor({0, 10, 500, 999});
  const auto train = [&](uint64_t seed, int64_t row, int64_t rows) {
    const DropoutContext context{seed, 70 + static_cast<uint64_t>(row)};
    return unet.forward(x.narrow(0, row, rows), t.narrow(0, row, rows), &context).detach();
  };
  const torch::Tensor plain = unet.forward(x, t).detach();
  const torch::Tensor dropped = train(5, 0, 4);
  EXPECT_GT(MaxDifference(plain, dropped), 1e-3);
  EXPECT_TRUE(at::equal(train(5, 0, 4), dropped));
  EXPECT_LE(MaxDifference(at::cat({train(5, 0, 1), train(5, 1, 3)}), dropped), 1e-5) << "any split of the batch";
  EXPECT_GT(MaxDifference(train(6, 0, 4), dropped), 1e-3);
}

TEST(UnetTest, DropoutGradientIsThatOfTheMaskedFunction) {
  spec::UnetOptions options = SmallOptions();
  options.dropout = 0.5;
  Unet unet(options);
  InitializeParameters(unet, 3);
  {
    const torch::NoGradGuard no_grad;
    for (auto& item : unet.named_parameters()) item.value().add_(0.01);
  }
  const DropoutContext context{9, 4};
  const torch::Tensor x = at::randn({2, 1, 16, 16}), t = at::tensor({20, 700});
  const auto loss = [&] { return unet.forward(x, t, &context).square().mean(); };
  loss().backward();
  torch::Tensor weight = unet.named_parameters()["input_blocks.1.0.in_layers.2.weight"];
  const torch::Tensor direction = weight.grad() / weight.grad().norm();
  const torch::NoGradGuard no_grad;
  const double step = 2e-3;
  weight.add_(direction, step);
  const double above = loss().item<double>();
  weight.add_(direction, -2 * step);
  const double below = loss().item<double>();
  const double slope = weight.grad().norm().item<double>();
  EXPECT_NEAR((above - below) / (2 * step), slope, 0.02 * slope);
}

TEST(InitializeParametersTest, EqualNamesShapesAndSeedsGiveEqualWeights) {
  Unet plain(SmallOptions());
  spec::UnetOptions deeper = SmallOptions();
  deeper.num_res_blocks = 2;
  deeper.dropout = 0.1;
  Unet other(deeper);
  InitializeParameters(plain, 7);
  InitializeParameters(other, 7);
  const auto mine = plain.named_parameters(), theirs = other.named_parameters();
  // A bias spreads with the fan-in of its layer's weight: the layer must have one shape in both.
  const auto layer = [](const std::string& name) { return name.substr(0, name.rfind('.')); };
  const auto same_shape = [&](const std::string& name) { return mine[name].sizes() == theirs[name].sizes(); };
  int shared = 0;
  for (const auto& item : mine) {
    const torch::Tensor* twin = theirs.find(item.key());
    if (twin == nullptr || !same_shape(layer(item.key()) + ".weight")) continue;
    EXPECT_TRUE(at::equal(*twin, item.value())) << item.key();
    ++shared;
  }
  EXPECT_GT(shared, 40);
  Unet reseeded(SmallOptions());
  InitializeParameters(reseeded, 8);
  const char* name = "input_blocks.0.0.weight";
  EXPECT_FALSE(at::equal(plain.named_parameters()[name], reseeded.named_parameters()[name]));
}

TEST(InitializeParametersTest, FollowsPyTorchsDefaultsAndThePublishedZeros) {
  Unet unet(SmallOptions());
  InitializeParameters(unet, 7);
  const auto parameters = unet.named_parameters();
  const torch::Tensor weight = parameters["middle_block.0.in_layers.2.weight"].detach();  // 64 x 64 x 3 x 3
  const double bound = 1 / std::sqrt(64 * 9.0);
  EXPECT_LE(weight.abs().max().item<double>(), bound);
  EXPECT_NEAR(weight.square().mean().item<double>(), bound * bound / 3, 0.02 * bound * bound);
  EXPECT_LE(parameters["middle_block.0.in_layers.2.bias"].abs().max().item<double>(), bound);
  EXPECT_GT(parameters["middle_block.0.in_layers.2.bias"].abs().max().item<double>(), bound / 2);
  for (const char* name : {"out.2.weight", "out.2.bias", "middle_block.0.out_layers.3.weight",
                           "middle_block.1.proj_out.weight", "middle_block.1.proj_out.bias", "out.0.bias"}) {
    EXPECT_TRUE(at::equal(parameters[name], at::zeros_like(parameters[name]))) << name;
  }
  EXPECT_TRUE(at::equal(parameters["out.0.weight"], at::ones_like(parameters["out.0.weight"])));
  EXPECT_EQ(unet.forward(at::randn({1, 1, 16, 16}), at::tensor({5})).abs().max().item<float>(), 0.0f);
}

}  // namespace
}  // namespace p2::model
