#include "tests/support/golden_checkpoint.h"

#include <ATen/ATen.h>

#include <vector>

#include "gtest/gtest.h"
#include "tests/support/golden.h"
#include "worker/checkpoint/checkpoint_writer.h"

namespace p2::testing {

std::string WriteGoldenCheckpoint(const std::string& parent, const std::string& spec_json) {
  const torch::NoGradGuard no_grad;
  const auto unet = GoldenTinyUnet();
  checkpoint::Snapshot snapshot;
  std::vector<torch::Tensor> memory;
  const auto add = [&](const std::string& path, double factor) {
    checkpoint::TensorFile file{path, {}};
    for (const auto& parameter : unet->named_parameters()) {
      memory.push_back((parameter.value() * factor).contiguous());
      const torch::Tensor& values = memory.back();
      file.tensors.push_back({parameter.key(),
                              values.sizes().vec(),
                              {values.const_data_ptr<float>(), static_cast<size_t>(values.numel())}});
    }
    snapshot.tensors.push_back(std::move(file));
  };
  add(checkpoint::kModelFile, 0.5);
  add(checkpoint::EmaFile("0.9999"), 1);
  snapshot.epoch = 1;
  snapshot.attempt = 1;
  snapshot.ema_profiles = {"0.9999"};
  snapshot.state.images_seen = 8;
  snapshot.state.batch = 8;
  snapshot.spec_json = spec_json;
  const auto written = checkpoint::WriteCheckpoint(parent, snapshot);
  EXPECT_TRUE(written.ok()) << written.status();
  return written.ok() ? parent + "/" + written->name : "";
}

}  // namespace p2::testing
