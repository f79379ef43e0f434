#include "common/http/http_server.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace p2::http {
namespace {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

absl::StatusOr<SocketAddress> ParseAddress(const std::string& address, int port) {
  SocketAddress result;
  if (port < 0 || port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat("http: port ", port, " is outside 0 to 65535"));
  }
  auto* v4 = reinterpret_cast<sockaddr_in*>(&result.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&result.storage);
  if (inet_pton(AF_INET, address.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<uint16_t>(port));
    result.size = sizeof(*v4);
  } else if (inet_pton(AF_INET6, address.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(static_cast<uint16_t>(port));
    result.size = sizeof(*v6);
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("http: \"", address, "\" is not a numeric address; give one like 127.0.0.1"));
  }
  return result;
}

absl::Status SocketError(const HttpServerOptions& options, const char* call) {
  const int error = errno;
  const std::string where = absl::StrCat(options.address, ":", options.port);
  if (error == EADDRINUSE) {
    return absl::AlreadyExistsError(
        absl::StrCat("http: ", where, " is in use by another process; stop it or choose another port"));
  }
  return absl::InvalidArgumentError(absl::StrCat("http: cannot listen on ", where, ": ", call, ": ", strerror(error)));
}

// A listening socket and its port.
absl::StatusOr<std::pair<int, int>> Listen(const HttpServerOptions& options) {
  absl::StatusOr<SocketAddress> address = ParseAddress(options.address, options.port);
  if (!address.ok()) return address.status();
  const int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return SocketError(options, "socket");
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));  // Only past TIME_WAIT: a live listener still conflicts.
  auto* name = reinterpret_cast<sockaddr*>(&address->storage);
  const char* failed = nullptr;
  if (bind(fd, name, address->size) != 0) {
    failed = "bind";
  } else if (listen(fd, 128) != 0) {
    failed = "listen";
  } else if (getsockname(fd, name, &address->size) != 0) {
    failed = "getsockname";
  }
  if (failed != nullptr) {
    absl::Status status = SocketError(options, failed);
    close(fd);
    return status;
  }
  const auto* v4 = reinterpret_cast<const sockaddr_in*>(&address->storage);
  const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&address->storage);
  return std::make_pair(fd, static_cast<int>(ntohs(name->sa_family == AF_INET ? v4->sin_port : v6->sin6_port)));
}

MHD_Result Send(MHD_Connection* connection, const Response& response) {
  MHD_Response* reply = MHD_create_response_from_buffer(response.body.size(), const_cast<char*>(response.body.data()),
                                                        MHD_RESPMEM_MUST_COPY);
  if (reply == nullptr) return MHD_NO;
  MHD_add_response_header(reply, MHD_HTTP_HEADER_CONTENT_TYPE, response.content_type.c_str());
  MHD_add_response_header(reply, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
  MHD_add_response_header(reply, "X-Content-Type-Options", "nosniff");
  if (response.status == MHD_HTTP_METHOD_NOT_ALLOWED)
    MHD_add_response_header(reply, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
  const MHD_Result result = MHD_queue_response(connection, static_cast<unsigned>(response.status), reply);
  MHD_destroy_response(reply);
  return result;
}

}  // namespace

// Below the threads that do the daemon's work: where processors are short, a scrape takes longer and nothing else does.
constexpr int kNiceness = 5;

void StandBack() {
  // On Linux this is of the calling thread alone, and lowering oneself is always allowed.
  thread_local const int done = setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + kNiceness);
  static_cast<void>(done);
}

struct HttpServer::Impl {
  std::map<std::string, Handler> handlers;
  std::string address;
  int port = 0;
  MHD_Daemon* daemon = nullptr;

  static MHD_Result Handle(void* self, MHD_Connection* connection, const char* url, const char* method, const char*,
                           const char*, size_t* upload_size, void** state) {
    // libmicrohttpd calls once for the head and again when a body has been read; a body is discarded.
    static char head_seen;
    if (*state == nullptr) {
      *state = &head_seen;
      return MHD_YES;
    }
    if (*upload_size != 0) {
      *upload_size = 0;
      return MHD_YES;
    }
    if (std::strcmp(method, MHD_HTTP_METHOD_GET) != 0 && std::strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
      return Send(connection, {.status = MHD_HTTP_METHOD_NOT_ALLOWED, .body = "only GET and HEAD\n"});
    }
    StandBack();
    const auto& handlers = static_cast<Impl*>(self)->handlers;
    const auto found = handlers.find(url);
    if (found == handlers.end()) {
      std::string known = "not found; there are:";
      for (const auto& [path, handler] : handlers) absl::StrAppend(&known, " ", path);
      return Send(connection, {.status = MHD_HTTP_NOT_FOUND, .body = known + "\n"});
    }
    return Send(connection, found->second());
  }
};

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() { Stop(); }

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpServerOptions& options,
                                                              std::map<std::string, Handler> handlers) {
  auto listening = Listen(options);
  if (!listening.ok()) return listening.status();
  const auto [fd, port] = *listening;
  auto impl = std::make_unique<Impl>();
  impl->handlers = std::move(handlers);
  impl->port = port;
  const bool is_v6 = options.address.find(':') != std::string::npos;
  impl->address = is_v6 ? absl::StrCat("[", options.address, "]:", port) : absl::StrCat(options.address, ":", port);
  const unsigned threads = static_cast<unsigned>(std::max(1, options.threads));
  impl->daemon = MHD_start_daemon(
      MHD_USE_EPOLL_INTERNAL_THREAD, 0, nullptr, nullptr, &Impl::Handle, impl.get(),  //
      MHD_OPTION_LISTEN_SOCKET, fd,                                                   //
      MHD_OPTION_THREAD_POOL_SIZE, threads,                                           //
      MHD_OPTION_CONNECTION_LIMIT, std::max(threads, static_cast<unsigned>(options.max_connections)),
      MHD_OPTION_CONNECTION_MEMORY_LIMIT, options.memory_per_connection_bytes,  //
      MHD_OPTION_CONNECTION_TIMEOUT, static_cast<unsigned>(absl::ToInt64Seconds(options.idle_timeout)), MHD_OPTION_END);
  if (impl->daemon == nullptr) {
    close(fd);
    return absl::InternalError(absl::StrCat("http: libmicrohttpd did not start on ", impl->address));
  }
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

int HttpServer::port() const { return impl_->port; }
std::string HttpServer::address() const { return impl_->address; }

void HttpServer::Stop() {
  if (impl_->daemon != nullptr) MHD_stop_daemon(std::exchange(impl_->daemon, nullptr));
}

Handler HealthHandler(std::function<absl::Status()> check) {
  return [check = std::move(check)] {
    const absl::Status status = check();
    if (status.ok()) return Response{.body = "ok\n"};
    return Response{.status = MHD_HTTP_SERVICE_UNAVAILABLE, .body = absl::StrCat(status.message(), "\n")};
  };
}

}  // namespace p2::http
