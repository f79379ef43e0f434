#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <random>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "bench/loadgen/baselines.h"
#include "bench/loadgen/etcd_kv.grpc.pb.h"
#include "bench/loadgen/unary.h"
#include "common/status_macros.h"

namespace p2::loadgen {
namespace {

using etcdserverpb::KV;

// One that was free a moment ago: etcd takes no port 0.
int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  bind(fd, reinterpret_cast<sockaddr*>(&address), size);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  close(fd);
  return ntohs(address.sin_port);
}

}  // namespace

absl::StatusOr<LoadResult> RunEtcd(const BaselineOptions& options) {
  P2_ASSIGN_OR_RETURN(const auto directory, TemporaryDirectory::Make(options.parent_directory));
  const std::string address = absl::StrCat("127.0.0.1:", FreePort());
  const std::string client_url = "http://" + address, peer_url = absl::StrCat("http://127.0.0.1:", FreePort());
  const std::string log = directory->path() + "/etcd.log";
  P2_ASSIGN_OR_RETURN(const auto server,
                      Process::Start({options.etcd, "--data-dir", directory->path() + "/etcd", "--listen-client-urls",
                                      client_url, "--advertise-client-urls", client_url, "--listen-peer-urls", peer_url,
                                      "--initial-advertise-peer-urls", peer_url, "--initial-cluster",
                                      "default=" + peer_url, "--logger", "zap", "--log-level", "error"},
                                     log, options.cores.server));
  const auto stubs = ConnectStubs<KV>(address, options.load.clients);
  if (!stubs.ok()) return absl::InternalError(absl::StrCat(stubs.status().message(), ": ", TailOf(log)));
  std::mt19937_64 random(options.load.seed);
  std::string value(static_cast<size_t>(options.stored_bytes), '\0');
  for (char& c : value) c = static_cast<char>(random());
  const auto put = [&](int64_t index, Done done) {
    etcdserverpb::PutRequest request;
    request.set_key(absl::StrCat("jobs/", index));
    request.set_value(value);
    CallAsync<etcdserverpb::PutRequest, etcdserverpb::PutResponse>(
        [stub = (*stubs)[static_cast<size_t>(index) % stubs->size()]->async()](auto... arguments) {
          stub->Put(arguments...);
        },
        std::move(request),
        [done = std::move(done)](const absl::Status& status, const etcdserverpb::PutResponse&) { done(status); });
  };
  // It has elected itself when this one is answered.
  absl::Notification first;
  absl::Status ready;
  put(0, [&](const absl::Status& status) {
    ready = status;
    first.Notify();
  });
  first.WaitForNotification();
  P2_RETURN_IF_ERROR(ready);
  return RunLoad(options.load, put);
}

}  // namespace p2::loadgen
