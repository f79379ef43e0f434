#include "common/http/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>

#include "common/http/prometheus_text.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "prometheus/gauge.h"
#include "prometheus/registry.h"

namespace p2::http {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// Sends raw bytes and returns all that comes back until the server closes.
std::string Exchange(int port, const std::string& request) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  const timeval timeout{.tv_sec = 10, .tv_usec = 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    close(fd);
    return "refused";
  }
  std::string reply;
  if (send(fd, request.data(), request.size(), MSG_NOSIGNAL) >= 0) {
    char buffer[4096];
    for (ssize_t n; (n = recv(fd, buffer, sizeof(buffer), 0)) > 0;) reply.append(buffer, static_cast<size_t>(n));
  }
  close(fd);
  return reply;
}

std::string Get(int port, const std::string& path, const std::string& method = "GET") {
  return Exchange(port, method + " " + path + " HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
}

std::unique_ptr<HttpServer> MustStart(std::map<std::string, Handler> handlers, HttpServerOptions options = {}) {
  auto server = HttpServer::Start(options, std::move(handlers));
  EXPECT_TRUE(server.ok()) << server.status();
  return std::move(*server);
}

TEST(HttpServerTest, AnswersAPathWithItsHandler) {
  const auto server = MustStart({{"/hello", [] { return Response{.body = "world"}; }}});
  EXPECT_THAT(Get(server->port(), "/hello"), AllOf(StartsWith("HTTP/1.1 200"), EndsWith("world")));
}

TEST(HttpServerTest, AnswersBehindThoseWhoDoTheWork) {
  const auto niceness = [] { return std::to_string(getpriority(PRIO_PROCESS, 0)); };
  const auto server = MustStart({{"/nice", [&] { return Response{.body = "at " + niceness()}; }}});
  const int mine = getpriority(PRIO_PROCESS, 0);
  const std::string expected = "at " + std::to_string(std::min(mine + 5, 19));
  // Each thread of the server once, and none of them twice.
  for (int i = 0; i < 20; ++i) EXPECT_THAT(Get(server->port(), "/nice"), EndsWith(expected));
  EXPECT_EQ(getpriority(PRIO_PROCESS, 0), mine);
}

TEST(HttpServerTest, AnswersHeadWithoutABody) {
  const auto server = MustStart({{"/hello", [] { return Response{.body = "world"}; }}});
  EXPECT_THAT(Get(server->port(), "/hello", "HEAD"), AllOf(StartsWith("HTTP/1.1 200"), EndsWith("\r\n\r\n")));
}

TEST(HttpServerTest, NamesTheKnownPathsWhenAnotherIsAsked) {
  const auto server = MustStart({{"/livez", HealthHandler([] { return absl::OkStatus(); })}});
  EXPECT_THAT(Get(server->port(), "/nothing"), AllOf(StartsWith("HTTP/1.1 404"), HasSubstr("/livez")));
}

TEST(HttpServerTest, RefusesOtherMethods) {
  const auto server = MustStart({{"/livez", HealthHandler([] { return absl::OkStatus(); })}});
  EXPECT_THAT(Get(server->port(), "/livez", "DELETE"), AllOf(StartsWith("HTTP/1.1 405"), HasSubstr("Allow: GET")));
}

TEST(HttpServerTest, DiscardsABody) {
  const auto server = MustStart({{"/livez", HealthHandler([] { return absl::OkStatus(); })}});
  const std::string body(100000, 'x');
  EXPECT_THAT(Exchange(server->port(),
                       "POST /livez HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n" + body),
              StartsWith("HTTP/1.1 405"));
}

TEST(HttpServerTest, RefusesAHeaderBeyondItsMemory) {
  const auto server = MustStart({{"/livez", HealthHandler([] { return absl::OkStatus(); })}});
  const std::string reply =
      Exchange(server->port(), "GET /livez HTTP/1.1\r\nHost: t\r\nX-Big: " + std::string(100000, 'x') + "\r\n\r\n");
  EXPECT_THAT(reply, testing::Not(HasSubstr("200 OK")));
  EXPECT_THAT(Get(server->port(), "/livez"), HasSubstr("200 OK"));
}

TEST(HttpServerTest, SurvivesBytesThatAreNoHttp) {
  const auto server = MustStart({{"/livez", HealthHandler([] { return absl::OkStatus(); })}});
  Exchange(server->port(), std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\r\n\r\n\0\0\r\n\r\n", 20));
  EXPECT_THAT(Get(server->port(), "/livez"), HasSubstr("200 OK"));
}

TEST(HttpServerTest, ShowsWhyItIsNotReady) {
  std::atomic<bool> ready = false;
  const auto server = MustStart({{"/readyz", HealthHandler([&ready] {
                                    return ready ? absl::OkStatus() : absl::UnavailableError("still recovering");
                                  })}});
  EXPECT_THAT(Get(server->port(), "/readyz"), AllOf(StartsWith("HTTP/1.1 503"), HasSubstr("still recovering")));
  ready = true;
  EXPECT_THAT(Get(server->port(), "/readyz"), StartsWith("HTTP/1.1 200"));
}

TEST(HttpServerTest, RefusesAPortInUseAndSaysSo) {
  const auto first = MustStart({});
  const auto second = HttpServer::Start({.port = first->port()}, {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(second.status().message(), AllOf(HasSubstr(std::to_string(first->port())), HasSubstr("in use")));
}

TEST(HttpServerTest, RefusesAnAddressThatIsNoneAndAPortOutOfRange) {
  EXPECT_THAT(HttpServer::Start({.address = "localhost"}, {}).status().message(), HasSubstr("localhost"));
  EXPECT_THAT(HttpServer::Start({.port = 70000}, {}).status().message(), HasSubstr("70000"));
}

TEST(HttpServerTest, AcceptsNothingAfterStop) {
  const auto server = MustStart({{"/livez", HealthHandler([] { return absl::OkStatus(); })}});
  const int port = server->port();
  server->Stop();
  server->Stop();
  EXPECT_EQ(Get(port, "/livez"), "refused");
}

TEST(PrometheusTextTest, RendersARegistryAndLeavesOutOneThatIsGone) {
  auto registry = std::make_shared<prometheus::Registry>();
  prometheus::BuildGauge().Name("p2_test_bytes").Help("A test.").Register(*registry).Add({{"kind", "a"}}).Set(7);
  const Handler handler = MetricsHandler({registry});
  EXPECT_THAT(handler().body, HasSubstr("p2_test_bytes{kind=\"a\"} 7"));
  EXPECT_THAT(handler().content_type, StartsWith("text/plain; version=0.0.4"));
  registry.reset();
  EXPECT_EQ(handler().body, "");
}

}  // namespace
}  // namespace p2::http
