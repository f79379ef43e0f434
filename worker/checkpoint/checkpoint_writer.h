// Writing a checkpoint: a directory that is complete, verified and durable, or not there at all.
//
//   <images seen, 12 digits>-e<epoch>/
//     model.safetensors            parameters, F32, state-dict names
//     ema_<profile>.safetensors    each average, the same names
//     optimizer.safetensors        exp_avg.<name>, exp_avg_sq.<name>, and the scalar `step`
//     state.json                   counters, data position, fingerprint (train_state.h)
//     spec.json                    the resolved spec
//     manifest.json                sizes and SHA-256 of the others, epoch, attempt, format version; written last
//
// Order of writing: `.tmp-<name>/`, each file fsynced and read back for its digest, the manifest fsynced, the directory
// fsynced, renamed to its final name, the parent fsynced. After a power cut either all of it is there, or nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/checkpoint/manifest.h"
#include "worker/checkpoint/train_state.h"

namespace p2::checkpoint {

struct TensorView {
  std::string name;
  std::vector<int64_t> shape;
  absl::Span<const float> values;
};

struct TensorFile {
  std::string path;  // kModelFile, EmaFile(…), kOptimizerFile
  std::vector<TensorView> tensors;
};

// A checkpoint in memory. Copying it copies no tensor.
struct Snapshot {
  int64_t epoch = 0;
  int attempt = 0;
  std::vector<std::string> ema_profiles;
  std::vector<TensorFile> tensors;
  TrainState state;
  std::string spec_json;
  std::shared_ptr<const void> memory;  // Owns what the views point into.
  // Where the values are still on their way from a GPU: waits for them and fills in `tensors`, `memory` and
  // state.updates. The writing thread calls it once, before anything else.
  std::function<absl::Status(Snapshot*)> arrive;
};

struct WrittenCheckpoint {
  std::string name;  // Inside the parent directory.
  Manifest manifest;
  std::string manifest_sha256;  // Hex.
};

// Writes `snapshot` under `parent`, which is made if need be. `tick` is called after each file. A good checkpoint of
// the same name is kept as it is, a damaged one replaced. On failure nothing stays behind: RESOURCE_EXHAUSTED if the
// disk is full.
absl::StatusOr<WrittenCheckpoint> WriteCheckpoint(const std::string& parent, const Snapshot& snapshot,
                                                  const std::function<void()>& tick = nullptr);

// Removes what unfinished writers of epochs before `epoch` left in `parent`.
void RemoveStaleTemporaries(const std::string& parent, int64_t epoch);

// Removes `path` and all that lies in it; links are not followed. False if something is left. Not
// std::filesystem::remove_all: LibTorch exports an incompatible copy of it, which is what a process that loads torch
// would call, and it crashes.
bool RemoveTree(const std::string& path);

// Writes checkpoints one at a time in a thread of its own. Confined to one thread but for the callbacks.
class BackgroundWriter {
 public:
  using OnDone = std::function<void(const absl::StatusOr<WrittenCheckpoint>&)>;

  // Both callbacks run on the writing thread.
  BackgroundWriter(std::string parent, std::function<void()> tick, OnDone on_done);
  // Waits for the writer.
  ~BackgroundWriter();

  // Waits for the checkpoint before, if it is still being written, then starts. Returns at once otherwise.
  void Start(Snapshot snapshot);
  // Until the last checkpoint is durable; its result. OK if none was started since the last Wait.
  absl::Status Wait();

 private:
  const std::string parent_;
  const std::function<void()> tick_;
  const OnDone on_done_;
  std::thread thread_;
  absl::Status result_;  // Written by thread_, read after join.
};

}  // namespace p2::checkpoint
