// How many batches were acknowledged, in a small file beside the database, so that a database that lost synced batches
// (a log cut off, a directory restored by hand) is noticed instead of served (DESIGN.md 3).
//
// File: two slots of 512 bytes, each {magic "p2cc", version 2, count, number, bytes and CRC-32C of the ManifestMark,
// CRC-32C of all that}, little-endian; the count goes to slot count % 2, so a torn write leaves the other one whole.
// Version 1 had no mark.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/store/file_io.h"
#include "server/store/manifest_mark.h"

namespace p2::store {

// Thread-compatible.
class CommitCounter {
 public:
  // NOT_FOUND if there is no file. DATA_LOSS if neither slot is whole.
  static absl::StatusOr<std::unique_ptr<CommitCounter>> Open(const std::string& path);
  // Makes or replaces the file, durably, with `count`.
  static absl::StatusOr<std::unique_ptr<CommitCounter>> Create(const std::string& path, uint64_t count);
  CommitCounter(const CommitCounter&) = delete;
  CommitCounter& operator=(const CommitCounter&) = delete;

  uint64_t count() const { return count_; }
  const ManifestMark& mark() const { return mark_; }
  // Durable when it returns OK. After an error nothing may be acknowledged any more: end the process.
  absl::Status Set(uint64_t count, const ManifestMark& mark = {});

 private:
  CommitCounter(File file, uint64_t count, const ManifestMark& mark)
      : file_(std::move(file)), count_(count), mark_(mark) {}

  File file_;
  uint64_t count_;
  ManifestMark mark_;
};

}  // namespace p2::store
