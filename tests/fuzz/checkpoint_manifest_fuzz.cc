// manifest.json, state.json and directory names of checkpoints.
#include "tests/fuzz/fuzz_input.h"
#include "worker/checkpoint/manifest.h"
#include "worker/checkpoint/train_state.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text = p2::fuzz::Text(data, size);
  int64_t images_seen = 0, epoch = 0;
  p2::checkpoint::ParseDirectoryName(text, &images_seen, &epoch);
  if (const auto state = p2::checkpoint::TrainStateFromJson(text); state.ok()) {
    const auto again = p2::checkpoint::TrainStateFromJson(p2::checkpoint::TrainStateToJson(*state));
    p2::fuzz::Require(again.ok() && *again == *state, "an accepted state is written and read back unchanged");
  }
  const auto manifest = p2::checkpoint::ManifestFromJson(text);
  if (!manifest.ok()) return 0;
  const auto again = p2::checkpoint::ManifestFromJson(p2::checkpoint::ManifestToJson(*manifest));
  p2::fuzz::Require(again.ok() && *again == *manifest, "an accepted manifest is written and read back unchanged");
  return 0;
}
