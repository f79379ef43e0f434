#include "worker/agent/network.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"

namespace p2::agent {
namespace {

std::string ToText(const sockaddr_in& address) {
  char text[INET_ADDRSTRLEN] = {};
  inet_ntop(AF_INET, &address.sin_addr, text, sizeof(text));
  return text;
}

// The local end of the route to `host`.
absl::StatusOr<std::string> RouteTo(const std::string& host) {
  addrinfo hints = {};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(host.c_str(), "9", &hints, &found); error != 0)
    return absl::InvalidArgumentError(absl::StrCat("coordinator host \"", host, "\": ", gai_strerror(error),
                                                   "; correct --coordinator, or set --data-interface"));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> list(found, freeaddrinfo);
  const UniqueFd probe(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in local = {};
  socklen_t size = sizeof(local);
  if (!probe.ok() || connect(probe.get(), list->ai_addr, list->ai_addrlen) != 0 ||
      getsockname(probe.get(), reinterpret_cast<sockaddr*>(&local), &size) != 0)
    return ErrnoError(absl::StrCat("no route to the coordinator's host \"", host, "\"; set --data-interface"));
  return ToText(local);
}

}  // namespace

absl::StatusOr<std::string> DataAddress(absl::string_view interface, absl::string_view coordinator) {
  if (interface.empty()) return RouteTo(std::string(coordinator.substr(0, coordinator.rfind(':'))));
  ifaddrs* found = nullptr;
  if (getifaddrs(&found) != 0) return ErrnoError("getifaddrs");
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> list(found, freeifaddrs);
  std::string seen;
  for (const ifaddrs* item = list.get(); item != nullptr; item = item->ifa_next) {
    if (item->ifa_addr == nullptr || item->ifa_addr->sa_family != AF_INET) continue;
    const std::string address = ToText(*reinterpret_cast<const sockaddr_in*>(item->ifa_addr));
    if (interface == item->ifa_name || interface == address) return address;
    absl::StrAppend(&seen, seen.empty() ? "" : ", ", item->ifa_name, " (", address, ")");
  }
  return absl::InvalidArgumentError(absl::StrCat("--data-interface \"", interface,
                                                 "\" is no IPv4 address or interface of this machine; it has ", seen));
}

absl::StatusOr<Listener> ListenOn(const std::string& address) {
  sockaddr_in local = {};
  local.sin_family = AF_INET;
  if (inet_pton(AF_INET, address.c_str(), &local.sin_addr) != 1)
    return absl::InvalidArgumentError(absl::StrCat("\"", address, "\" is no IPv4 address"));
  Listener listener{UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))};
  socklen_t size = sizeof(local);
  if (!listener.fd.ok() || bind(listener.fd.get(), reinterpret_cast<sockaddr*>(&local), size) != 0 ||
      listen(listener.fd.get(), SOMAXCONN) != 0 ||
      getsockname(listener.fd.get(), reinterpret_cast<sockaddr*>(&local), &size) != 0)
    return ErrnoError(absl::StrCat("listening on ", address));
  listener.port = ntohs(local.sin_port);
  return listener;
}

}  // namespace p2::agent
