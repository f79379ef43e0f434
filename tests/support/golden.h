// The golden reference numbers of tests/golden, read by the code of `p2-trainer check` (worker/check).
#pragma once

#include <memory>
#include <string>

#include "worker/check/fixtures.h"
#include "worker/check/reference_model.h"

namespace p2::testing {

using check::MaxDifference;
using check::RelativeL2;
using check::UnetOptionsFromArgs;

inline const check::Fixtures& Golden() {
  static const check::Fixtures& golden = *new check::Fixtures(P2_SOURCE_DIR "/tests/golden");
  return golden;
}

inline std::string GoldenPath(const std::string& name) { return Golden().Path(name); }
inline nlohmann::json GoldenJson(const std::string& name) { return Golden().Json(name); }

class GoldenTensors : public check::Tensors {
 public:
  explicit GoldenTensors(const std::string& name) : Tensors(GoldenPath(name)) {}
};

// Records a test failure where `tensor` differs from the stat block `stats` by more than `tolerance`
// (check::StatError). `what` leads the message.
void ExpectStats(const torch::Tensor& tensor, const nlohmann::json& stats, double tolerance, const std::string& what);

// The tiny model (tiny32) with its golden weights, in float32. Sets torch to one thread: as the reference ran, and the
// quickest beside other tests.
std::shared_ptr<model::Unet> GoldenTinyUnet();

}  // namespace p2::testing
