// What a rank reports: plain structs of pipes.proto's events.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "worker/checkpoint/manifest.h"
#include "worker/trainer/train_options.h"

namespace p2::trainer {

enum class Phase { kStart = 1, kStep = 2, kPreview = 3, kSave = 4, kStop = 5 };  // Numbers of Progress.Phase.

struct Started {
  int64_t images_seen = 0;
  std::string resumed_from;
  std::map<std::string, std::string> fingerprint;
  int64_t parameters = 0;
};

struct Progress {
  Phase phase = Phase::kStart;
  int64_t images_seen = 0;
  uint64_t tick = 0;
  double images_per_second = 0;
};

struct MetricPoints {
  int64_t images_seen = 0;
  int64_t step = 0;
  std::map<std::string, double> values;
};

struct CheckpointSaved {
  int64_t images_seen = 0;
  std::string path;  // Relative to the storage root.
  std::vector<checkpoint::FileEntry> files;
  std::vector<std::string> ema_profiles;
  std::string manifest_sha256;
};

struct ArtifactWritten {
  std::string file_name;
  std::string kind;
  std::string content_type;
  int64_t images_seen = 0;
};

struct Finished {
  enum class Outcome { kDone = 1, kStopped = 2, kFailed = 3 };  // Numbers of Finished.Outcome.
  Outcome outcome = Outcome::kFailed;
  int exit_code = 1;
  int64_t images_seen = 0;
  std::string message;
};

struct Notice {
  std::string reason;  // UPPER_SNAKE
  std::string message;
  std::vector<SkippedSamples> skipped;
};

using Event = std::variant<Started, Progress, MetricPoints, CheckpointSaved, ArtifactWritten, Finished, Notice>;

// Takes events. Thread-safe; never blocks training for long and never fails it.
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void Emit(const Event& event) = 0;
};

}  // namespace p2::trainer
