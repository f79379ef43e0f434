// The one HTTP module of the daemons: GET and HEAD of fixed paths (/metrics, /livez, /readyz), answered from handlers.
//
//   P2_ASSIGN_OR_RETURN(auto server, http::HttpServer::Start({.port = 0}, {{"/livez", http::HealthHandler(check)}}));
//   P2_LOG(kInfo) << "http on " << server->address();
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace p2::http {

struct Response {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

// Called from the server's threads, several at a time: must be thread-safe and must not block for long. The threads
// have a lower priority (niceness + 5) than those that do the work.
using Handler = std::function<Response()>;

struct HttpServerOptions {
  // Numeric IPv4 or IPv6 address to listen on.
  std::string address = "127.0.0.1";
  // 0: an ephemeral port; HttpServer::port tells which.
  int port = 0;
  int threads = 2;
  // Further connections wait in the kernel's queue.
  int max_connections = 64;
  // Request line, headers and response head of one connection; longer requests get 413, 414 or 431.
  size_t memory_per_connection_bytes = 32 * 1024;
  // A connection that is silent for longer is closed. Whole seconds.
  absl::Duration idle_timeout = absl::Seconds(10);
};

// Thread-safe.
class HttpServer {
 public:
  // Listens and serves when it returns. INVALID_ARGUMENT (address, port), ALREADY_EXISTS if the port is in use.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const HttpServerOptions& options,
                                                           std::map<std::string, Handler> handlers);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // The port that it listens on.
  int port() const;
  // `127.0.0.1:7251`, `[::1]:7251`.
  std::string address() const;

  // Ends every connection and joins the threads. No handler runs afterwards. Idempotent.
  void Stop();

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

// 200 `ok` while `check` is OK, else 503 with its message. For /livez and /readyz.
Handler HealthHandler(std::function<absl::Status()> check);

}  // namespace p2::http
