// Keys and values as they lie on disk; docs/storage-format.md is the same for people.
//
// A key is a table's letter and its fields: texts end in 00 01 (a 00 inside is written 00 FF), numbers are 8 bytes
// big-endian; so keys sort as their fields do. A value is an envelope around its payload:
//   version 1 (1 byte) | CRC-32C of key and payload (4, little-endian) | length of the payload (4, little-endian) |
//   payload
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message_lite.h"

namespace p2::store {

// Column families. On disk by name (kFamilyNames): do not rename.
enum class Family { kMeta, kJobs, kFinished, kSpecs, kCluster, kFiles, kEvents, kRequests, kMetrics };
inline constexpr const char* kFamilyNames[] = {"default", "jobs",   "finished", "specs",  "cluster",
                                               "files",   "events", "requests", "metrics"};

struct Table {
  Family family;
  char letter;  // On disk: do not change.
};
inline constexpr Table kMeta{Family::kMeta, 'm'};                  // name
inline constexpr Table kLiveJobs{Family::kJobs, 'j'};              // job
inline constexpr Table kFinishedJobs{Family::kFinished, 'j'};      // job
inline constexpr Table kFinishedByAge{Family::kFinished, 'o'};     // create_order -> job
inline constexpr Table kSpecs{Family::kSpecs, 's'};                // SHA-256, hex
inline constexpr Table kWorkers{Family::kCluster, 'w'};            // worker
inline constexpr Table kSpoolAcks{Family::kCluster, 'a'};          // worker
inline constexpr Table kDatasets{Family::kCluster, 'd'};           // dataset
inline constexpr Table kDeletions{Family::kCluster, 'x'};          // root ID, path
inline constexpr Table kQueues{Family::kCluster, 'q'};             // queue
inline constexpr Table kShares{Family::kCluster, 's'};             // share
inline constexpr Table kQuotas{Family::kCluster, 'l'};             // account
inline constexpr Table kCheckpoints{Family::kFiles, 'c'};          // job, checkpoint
inline constexpr Table kArtifacts{Family::kFiles, 'a'};            // job, file name
inline constexpr Table kEvents{Family::kEvents, 'e'};              // revision
inline constexpr Table kEventsByResource{Family::kEvents, 'r'};    // resource, revision -> nothing
inline constexpr Table kRequests{Family::kRequests, 'q'};          // request ID
inline constexpr Table kRequestsByExpiry{Family::kRequests, 't'};  // Unix nanoseconds, request ID -> request ID
inline constexpr Table kMetricChunks{Family::kMetrics, 'm'};       // job, attempt, first sequence
inline constexpr Table kSupersedes{Family::kMetrics, 's'};         // job, attempt
// Unix nanoseconds since when it is full, then the fields of a key of kMetricChunks.
inline constexpr Table kThinningDue{Family::kMetrics, 't'};

// Key(kCheckpoints).Text(job).Text(id). Also a prefix: of all keys whose first fields are these.
class Key {
 public:
  explicit Key(Table table) : family_(table.family), bytes_(1, table.letter) {}

  Key& Text(absl::string_view text);
  // Text without its end: for searching by the beginning of a field.
  Key& TextPrefix(absl::string_view text);
  Key& Number(uint64_t number);
  // Fields as they stand in another key.
  Key& Fields(absl::string_view encoded);

  Family family() const { return family_; }
  const std::string& bytes() const { return bytes_; }
  // The first key after all that begin with this one.
  std::string End() const;

  bool operator==(const Key&) const = default;

 private:
  Family family_;
  std::string bytes_;
};

// The number that a key ends in. REQUIRES: it ends in one.
uint64_t LastNumber(absl::string_view key);

std::string EncodeValue(absl::string_view key, absl::string_view payload);
std::string EncodeValue(absl::string_view key, const google::protobuf::MessageLite& message);
// DATA_LOSS if the envelope is not whole or not this key's.
absl::StatusOr<absl::string_view> DecodeValue(absl::string_view key, absl::string_view value);

}  // namespace p2::store
