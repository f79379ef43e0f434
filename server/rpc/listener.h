// p2d's listening sockets. gRPC 1.51 accepts connections itself only until the process has run out of file descriptors
// once, and never again after that; so p2d accepts, hands on what gRPC can serve, and closes what would be too much.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/file_util.h"

namespace p2::rpc {

// The process may open as many files as the system allows it, from now on; returns how many that is.
int RaiseFileLimit();

class Listener {
 public:
  // `address`: HOST:PORT, a name with several addresses on all of them; port 0: one that is free. INVALID_ARGUMENT: no
  // such text or host. ALREADY_EXISTS: the port is in use. FAILED_PRECONDITION: no address of this machine, or not for
  // this user.
  static absl::StatusOr<std::unique_ptr<Listener>> Bind(absl::string_view address);
  ~Listener() { StopAccepting(); }

  int port() const { return port_; }

  // Idempotent.
  void StopAccepting();

  // From now on each new connection goes to `take`, which owns `fd`. A connection whose descriptor would be
  // `max_descriptors` or more is closed at once: as many files and connections are open in the process. REQUIRES:
  // called once.
  void Serve(int max_descriptors, std::function<void(int listener_fd, int fd)> take);

 private:
  Listener() = default;
  void Accept();
  enum class Accepted { kOne, kNone, kExhausted };  // kExhausted: no descriptor or memory for it now.
  Accepted AcceptOne(int socket);

  // Constant once it serves.
  std::vector<UniqueFd> sockets_;
  int port_ = 0;
  int max_descriptors_ = 0;
  std::function<void(int, int)> take_;
  UniqueFd stop_;                             // An eventfd.
  absl::Time warned_ = absl::InfinitePast();  // Confined to thread_.
  std::thread thread_;
};

}  // namespace p2::rpc
