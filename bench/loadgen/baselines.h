// What p2d is held against: each does the part of a submit that it can, on the same core and disk, under the same load.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "bench/loadgen/load.h"
#include "bench/loadgen/process.h"

namespace p2::loadgen {

struct BaselineOptions {
  LoadOptions load;
  // Of a call and of its answer; of what is made durable.
  int64_t request_bytes = 100;
  int64_t response_bytes = 3000;
  int64_t stored_bytes = 1500;
  // Whose last core the calling process has been pinned to.
  Cores cores;
  std::string parent_directory = "/tmp";
  std::string etcd = "/usr/bin/etcd";
};

// Unary gRPC calls over a connection a client to a server that answers at once. Nothing is stored.
absl::StatusOr<LoadResult> RunEcho(const BaselineOptions& options);
// What the server's side of RunEcho runs, in a process of its own; never returns. The address goes to `ready_file`.
[[noreturn]] void ServeEcho(const std::string& ready_file);

// RocksDB in this process, on the server's core: each client writes one WriteBatch of stored_bytes at a time, synced.
absl::StatusOr<LoadResult> RunRocksDb(const BaselineOptions& options);

// Puts of stored_bytes to one etcd, which syncs before it answers, over a kept connection a client. NOT_FOUND: it is
// not installed.
absl::StatusOr<LoadResult> RunEtcd(const BaselineOptions& options);

}  // namespace p2::loadgen
