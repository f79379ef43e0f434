// p2d in one object: data directory, store, coordinator, gRPC, HTTP.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/server_options.h"
#include "server/store/data_directory.h"

namespace p2::server {

// Thread-safe.
class Server {
 public:
  struct Dependencies {
    // Of the data directory's file system.
    store::DiskSpaceFn disk_space = store::StatDiskSpace;
    // The store failed: nothing more can be promised. Must end the process (exit code 70).
    std::function<void(const absl::Status&)> fatal;
  };

  // Serves when it returns. Errors tell what was wrong and what to do: options, a data directory or port in use, a
  // damaged database.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options, Dependencies dependencies);
  ~Server();

  // Where it listens.
  std::string grpc_address() const;
  std::string http_address() const;

  // Not ready, refuse RPCs, end watches, drain the loop, join threads, close the store. Idempotent.
  void Stop();

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace p2::server
