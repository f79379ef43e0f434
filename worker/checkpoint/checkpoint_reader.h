// Reading checkpoints: nothing is used before every size and every SHA-256 of the manifest held.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/checkpoint/manifest.h"
#include "worker/checkpoint/train_state.h"

namespace p2::checkpoint {

struct MutableTensorView {
  std::string name;
  std::vector<int64_t> shape;
  absl::Span<float> values;
};

// Size and SHA-256 of directory/name as they are. UNAVAILABLE or NOT_FOUND if it cannot be read.
absl::StatusOr<FileEntry> DigestFile(const std::string& directory, const std::string& name);

// Fills `tensors` from a safetensors file. Names and shapes must be the file's, all of them, F32: FAILED_PRECONDITION
// tells the first that is missing, left over or of another shape, with both shapes.
absl::Status ReadTensors(const std::string& file, absl::Span<const MutableTensorView> tensors);

// A verified checkpoint. Thread-compatible.
class Checkpoint {
 public:
  // DATA_LOSS naming the file and what differs (missing, size, digest, content); FAILED_PRECONDITION if a newer p2
  // wrote it; NOT_FOUND if there is no such directory or no manifest in it.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& directory);

  const std::string& directory() const { return directory_; }
  const Manifest& manifest() const { return manifest_; }
  const TrainState& state() const { return state_; }
  const std::string& spec_json() const { return spec_json_; }

  // As ReadTensors, from the file `path` of the checkpoint; FAILED_PRECONDITION if it holds none.
  absl::Status Read(const std::string& path, absl::Span<const MutableTensorView> tensors) const;

 private:
  std::string directory_;
  Manifest manifest_;
  TrainState state_;
  std::string spec_json_;
};

struct FirstGood {
  std::unique_ptr<Checkpoint> checkpoint;  // Null if no candidate is good.
  std::vector<absl::Status> passed_over;   // Why each better candidate was not taken: it is damaged, or not there.
};

// The first candidate (names inside `parent`, best first) that opens. Only what is damaged or missing is passed over,
// for ever: a read that failed (a disk or mount that is away, permissions), a `parent` that is not there, or a
// checkpoint of a newer p2 may be good tomorrow, and is an error.
absl::StatusOr<FirstGood> OpenFirstGood(const std::string& parent, const std::vector<std::string>& candidates);

// Names in a directory, in no order; empty if it does not exist. Not std::filesystem::directory_iterator, parts of
// which LibTorch replaces by a copy of its own.
std::vector<std::string> NamesIn(const std::string& directory);

// Names of the finished checkpoints in `parent`, most images seen first, then highest epoch. Empty if it does not
// exist.
std::vector<std::string> ListCheckpoints(const std::string& parent);

}  // namespace p2::checkpoint
