// Where other ranks reach this node, and the socket of a gang's store.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/agent/files.h"

namespace p2::agent {

// `interface`: an IPv4 address of this machine, the name of one of its interfaces, or empty: 127.0.0.1 if `coordinator`
// (host:port) is on loopback, else the address of the route to it. INVALID_ARGUMENT if there is none.
absl::StatusOr<std::string> DataAddress(absl::string_view interface, absl::string_view coordinator);

struct Listener {
  UniqueFd fd;
  int32_t port = 0;
};

// A listening IPv4 socket on a free port of `address`; inherited by rank 0's trainer.
absl::StatusOr<Listener> ListenOn(const std::string& address);

}  // namespace p2::agent
