#include "server/rpc/listener.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace p2::rpc {
namespace {

// Before the next try, where no descriptor or memory could be had for a connection.
constexpr int kExhaustedMs = 100;
// Connections of a socket, before the others and the end are looked at again.
constexpr int kAtOnce = 256;
constexpr absl::Duration kWarnAgain = absl::Seconds(30);

absl::StatusOr<UniqueFd> ListenOn(const addrinfo& at, absl::string_view address) {
  UniqueFd fd(socket(at.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int on = 1;
  if (!fd.ok() || setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
      setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0 ||  // Connections inherit it.
      (at.ai_family == AF_INET6 && setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) != 0) ||
      bind(fd.get(), at.ai_addr, at.ai_addrlen) != 0 || listen(fd.get(), SOMAXCONN) != 0) {
    const int error = errno;
    const std::string text = absl::StrCat("grpc: cannot listen on ", address, ": ", std::strerror(error),
                                          "; stop what uses it or choose another with --listen");
    return error == EADDRINUSE ? absl::AlreadyExistsError(text) : absl::FailedPreconditionError(text);
  }
  return fd;
}

int PortOf(const UniqueFd& socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<sockaddr_in&>(address).sin_port);
}

void SetPort(addrinfo& at, int port) {
  if (at.ai_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6*>(at.ai_addr)->sin6_port = htons(static_cast<uint16_t>(port));
  } else {
    reinterpret_cast<sockaddr_in*>(at.ai_addr)->sin_port = htons(static_cast<uint16_t>(port));
  }
}

}  // namespace

int RaiseFileLimit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  const rlimit most{limit.rlim_max, limit.rlim_max};
  if (setrlimit(RLIMIT_NOFILE, &most) == 0) limit = most;
  return static_cast<int>(std::min<rlim_t>(limit.rlim_cur, 1 << 20));
}

absl::StatusOr<std::unique_ptr<Listener>> Listener::Bind(absl::string_view address) {
  const size_t colon = address.rfind(':');
  int port = -1;
  if (colon == address.npos || !absl::SimpleAtoi(address.substr(colon + 1), &port) || port < 0 || port > 65535)
    return absl::InvalidArgumentError(absl::StrCat("grpc: --listen \"", address, "\" is not HOST:PORT"));
  absl::string_view host = address.substr(0, colon);
  if (absl::ConsumePrefix(&host, "[")) absl::ConsumeSuffix(&host, "]");
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.empty() ? nullptr : std::string(host).c_str(), "0", &hints, &found);
  if (error != 0)
    return absl::InvalidArgumentError(
        absl::StrCat("grpc: --listen \"", address, "\": ", gai_strerror(error), "; name an address of this machine"));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, freeaddrinfo);
  std::unique_ptr<Listener> listener(new Listener);
  absl::Status refused;
  for (addrinfo* at = found; at != nullptr; at = at->ai_next) {
    if (at->ai_family != AF_INET && at->ai_family != AF_INET6) continue;
    SetPort(*at, listener->sockets_.empty() ? port : listener->port_);
    absl::StatusOr<UniqueFd> socket = ListenOn(*at, address);
    if (!socket.ok()) {
      if (absl::IsAlreadyExists(socket.status())) return socket.status();
      refused.Update(socket.status());  // A name may have an address that this machine cannot use (IPv6 is off).
      continue;
    }
    if (listener->sockets_.empty()) listener->port_ = PortOf(*socket);
    listener->sockets_.push_back(*std::move(socket));
  }
  if (listener->sockets_.empty()) return refused;
  listener->stop_.reset(eventfd(0, EFD_CLOEXEC));
  if (!listener->stop_.ok()) return FileError("make", "an eventfd");
  return listener;
}

void Listener::StopAccepting() {
  if (!thread_.joinable()) return;
  eventfd_write(stop_.get(), 1);
  thread_.join();
}

void Listener::Serve(int max_descriptors, std::function<void(int, int)> take) {
  max_descriptors_ = max_descriptors;
  take_ = std::move(take);
  thread_ = std::thread([this] { Accept(); });
}

void Listener::Accept() {
  std::vector<pollfd> items = {{stop_.get(), POLLIN, 0}};
  for (const UniqueFd& socket : sockets_) items.push_back({socket.get(), POLLIN, 0});
  while (true) {
    poll(items.data(), items.size(), -1);
    if (items[0].revents != 0) return;
    bool exhausted = false;
    for (size_t i = 1; i < items.size(); ++i) {
      if (items[i].revents == 0) continue;
      for (int n = 0; n < kAtOnce; ++n) {
        const Accepted accepted = AcceptOne(items[i].fd);
        exhausted |= accepted == Accepted::kExhausted;
        if (accepted != Accepted::kOne) break;
      }
    }
    // Else the sockets would be readable again at once.
    if (exhausted && poll(items.data(), 1, kExhaustedMs) > 0) return;
  }
}

Listener::Accepted Listener::AcceptOne(int socket) {
  const int fd = accept4(socket, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  const int error = errno;
  if (fd >= 0 && fd < max_descriptors_) {
    take_(socket, fd);
    return Accepted::kOne;
  }
  const bool exhausted = fd < 0 && (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM);
  if (const absl::Time now = Clock::Real().Monotonic(); (fd >= 0 || exhausted) && now - warned_ > kWarnAgain) {
    warned_ = now;
    P2_LOG(kWarning) << "connections are refused: "
                     << (exhausted
                             ? std::strerror(error)
                             : absl::StrCat(max_descriptors_, " files and connections are open (--max-connections)"));
  }
  if (fd < 0) return exhausted ? Accepted::kExhausted : error == EAGAIN ? Accepted::kNone : Accepted::kOne;
  UniqueFd(fd).reset();
  return Accepted::kOne;
}

}  // namespace p2::rpc
