// manifest.json: what a checkpoint directory promises. A directory without it is not a checkpoint.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace p2::checkpoint {

// A manifest that differs from one of this version in the number alone is a damaged one: raise it with a change of
// keys.
inline constexpr int kFormatVersion = 1;
inline constexpr char kManifestFile[] = "manifest.json";
inline constexpr char kModelFile[] = "model.safetensors";
inline constexpr char kOptimizerFile[] = "optimizer.safetensors";
inline constexpr char kStateFile[] = "state.json";
inline constexpr char kSpecFile[] = "spec.json";
// ema_<profile>.safetensors
std::string EmaFile(absl::string_view profile);

struct FileEntry {
  std::string path;  // Name inside the directory.
  int64_t size_bytes = 0;
  std::string sha256;  // Hex.

  friend bool operator==(const FileEntry&, const FileEntry&) = default;
};

struct Manifest {
  int64_t images_seen = 0;
  int64_t epoch = 0;
  int attempt = 0;
  std::vector<std::string> ema_profiles;  // In the spec's order.
  std::vector<FileEntry> files;           // All but the manifest itself.

  friend bool operator==(const Manifest&, const Manifest&) = default;
};

std::string ManifestToJson(const Manifest& manifest);
// DATA_LOSS if the text is no manifest or names a file outside of its directory; FAILED_PRECONDITION if a newer p2
// wrote it.
absl::StatusOr<Manifest> ManifestFromJson(absl::string_view text);

// `000000012800-e3`: images seen and epoch.
std::string DirectoryName(int64_t images_seen, int64_t epoch);
// False if `name` is not of that form.
bool ParseDirectoryName(absl::string_view name, int64_t* images_seen, int64_t* epoch);

}  // namespace p2::checkpoint
