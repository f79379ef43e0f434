#include "server/server.h"

#include <malloc.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/clock.h"
#include "common/doorbell.h"
#include "common/http/http_server.h"
#include "common/http/prometheus_text.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "server/coordinator/coordinator.h"
#include "server/metrics/server_metrics.h"
#include "server/rpc/rpc_server.h"
#include "server/scheduler/explain.h"
#include "server/store/backup.h"
#include "server/store/blob_store.h"
#include "server/store/database.h"
#include "server/store/rocksdb_job_store.h"

namespace p2::server {
namespace {

metrics::AccountNumbers AccountsOf(coordinator::Coordinator& coordinator) {
  metrics::AccountNumbers numbers;
  coordinator
      .Inquire("",
               [&](const coordinator::Coordinator::Inside& inside) {
                 const scheduler::ClusterState& state = inside.state;
                 double usage = 0, weight = 0;
                 std::map<std::string, scheduler::ShareNumbers> projects;
                 for (const auto& [id, share] : state.shares()) {
                   if (absl::StrContains(id, '/')) continue;
                   projects[id] = scheduler::NumbersOf(state, id, inside.now, inside.options);
                   usage += projects[id].usage;
                   weight += projects[id].weight;
                   numbers.ledger_drift += std::abs(share.devices - state.HeldBy(absl::StrCat("projects/", id)));
                 }
                 for (const auto& [id, share] : projects)
                   numbers.fair_share_ratio[id] = usage > 0 ? share.usage / usage / (share.weight / weight) : 0;
                 for (const auto& [id, quota] : state.quotas()) {
                   absl::string_view project = id;
                   if (absl::ConsumePrefix(&project, "projects/") && quota.devices.has_value())
                     numbers.quota_devices[std::string(project)] = *quota.devices;
                 }
               })
      .IgnoreError();  // It is stopping.
  return numbers;
}

std::string HostOf(const std::string& address) { return address.substr(0, address.rfind(':')); }

// REQUIRES: an address that ValidateServerOptions takes.
http::HttpServerOptions HttpOptions(const std::string& address) {
  http::HttpServerOptions options;
  options.address = HostOf(address);
  if (options.address == "localhost") options.address = "127.0.0.1";
  if (options.address.front() == '[') options.address = options.address.substr(1, options.address.size() - 2);
  options.port = std::stoi(address.substr(address.rfind(':') + 1));
  return options;
}

const char* CodeName(grpc::StatusCode code) {
  static constexpr const char* kNames[] = {
      "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
      "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
      "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
      "DATA_LOSS", "UNAUTHENTICATED"};
  const auto index = static_cast<size_t>(code);
  return index < std::size(kNames) ? kNames[index] : "UNKNOWN";
}

// Whole or not at all, so that a reader never sees half of it.
absl::Status WriteReadyFile(const std::string& path, const std::string& grpc, const std::string& http) {
  const std::string part = path + ".part";
  const auto wrong = [&path] {
    return absl::InvalidArgumentError(absl::StrCat("cannot write --ready-file ", path, " (", std::strerror(errno),
                                                   "): give a file in a directory that "
                                                   "exists and may be written"));
  };
  {
    std::ofstream file(part, std::ios::trunc);
    file << "{\"grpc\":\"" << grpc << "\",\"http\":\"" << http << "\",\"pid\":" << getpid() << "}\n";
    if (!file.flush()) return wrong();
  }
  return std::rename(part.c_str(), path.c_str()) == 0 ? absl::OkStatus() : wrong();
}

}  // namespace

// Members in the order in which they are made; Stop undoes them from the last.
struct Server::Impl {
  ServerOptions options;
  std::unique_ptr<store::DataDirectory> directory;
  std::unique_ptr<store::Database> database;
  std::unique_ptr<store::JobStore> store;
  std::unique_ptr<store::BlobStore> blobs;
  std::unique_ptr<store::Backups> backups;
  std::unique_ptr<metrics::ServerMetrics> metrics;
  std::unique_ptr<coordinator::Coordinator> coordinator;
  std::unique_ptr<http::HttpServer> http;
  std::unique_ptr<rpc::RpcServer> rpc;
  std::thread disk_thread;

  std::atomic<bool> ready = false;
  std::atomic<bool> stopped = false;
  std::atomic<int64_t> free_bytes = -1;
  Doorbell stop_disk_thread;
  store::DiskWatermark watermark;  // Start's, then the disk thread's.

  absl::Status LookAtDisk();
  void WatchDisk();
};

absl::Status Server::Impl::LookAtDisk() {
  P2_ASSIGN_OR_RETURN(const store::DiskSpace space, directory->Space());
  free_bytes = space.free_bytes;
  if (absl::Status status = directory->RestoreBallast(); !status.ok()) {
    P2_LOG(kWarning) << "the ballast is not taken again: " << status.message();
  }
  const bool was_full = watermark.full();
  if (watermark.Update(space) == was_full) return absl::OkStatus();
  const std::string message = store::DiskWatermark::Message(space, directory->path());
  P2_LOG(kWarning) << (was_full ? "space is back: " : "disk nearly full: ") << message;
  return coordinator->Execute(scheduler::DiskState{.full = watermark.full(), .message = message}).status();
}

void Server::Impl::WatchDisk() {
  while (!stop_disk_thread.WaitFor(options.disk_interval)) {
    if (absl::Status status = LookAtDisk(); !status.ok() && !stopped) {
      P2_LOG(kWarning) << "free space of " << directory->path() << " is unknown: " << status.ToString();
    }
  }
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() { Stop(); }

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options, Dependencies dependencies) {
  P2_RETURN_IF_ERROR(ValidateServerOptions(options));
  std::unique_ptr<Server> server(new Server(std::make_unique<Impl>()));
  Impl& impl = *server->impl_;
  impl.options = options;
  P2_ASSIGN_OR_RETURN(impl.directory,
                      store::DataDirectory::Open({.path = options.data_dir, .disk_space = dependencies.disk_space}));
  P2_ASSIGN_OR_RETURN(impl.database, store::Database::Open({.database_path = impl.directory->database_path(),
                                                            .commits_path = impl.directory->commits_path()}));
  impl.store = store::NewRocksDbJobStore(*impl.database);
  P2_ASSIGN_OR_RETURN(impl.blobs, store::BlobStore::Open(impl.directory->blobs_path()));
  store::BackupOptions backups;
  backups.directory =
      std::filesystem::absolute(options.backup_dir.empty() ? options.data_dir + "/backups" : options.backup_dir);
  backups.keep = options.keep_backups;
  backups.p2d_version = P2_VERSION;
  backups.disk_space = std::move(dependencies.disk_space);
  impl.backups = std::make_unique<store::Backups>(*impl.database, *impl.directory, std::move(backups));
  impl.metrics = std::make_unique<metrics::ServerMetrics>(P2_VERSION);

  // Ports are taken before anything runs: a p2d that cannot be reached must not act.
  P2_ASSIGN_OR_RETURN(impl.http,
                      http::HttpServer::Start(HttpOptions(options.http),
                                              {{"/metrics", http::MetricsHandler(impl.metrics->collectables())},
                                               {"/livez", http::HealthHandler([] { return absl::OkStatus(); })},
                                               {"/readyz", http::HealthHandler([&impl] {
                                                  return impl.ready ? absl::OkStatus()
                                                                    : absl::UnavailableError("p2d starts or stops");
                                                })}}));

  coordinator::Coordinator::Options core;
  core.store = impl.store.get();
  core.blobs = impl.blobs.get();
  core.observer = impl.metrics.get();
  core.step.suspect_after = options.suspect_after;
  core.step.lost_after = options.lost_after;
  core.step.gang_timeout = options.prepare_timeout;
  core.step.gang_backoff = options.gang_backoff;
  core.step.delete_retry = options.delete_retry;
  core.step.share_half_life = options.share_half_life;
  core.step.restart_cost = options.restart_cost;
  core.step.churn_limit = options.churn_limit;
  core.step.churn_window = options.churn_window;
  core.step.backfill_least = options.backfill_least;
  core.step.cordon_after_jobs = options.cordon_after_jobs;
  core.tick_interval = options.tick_interval;
  if (options.metrics_raw_for > absl::ZeroDuration()) core.metrics_raw_for = options.metrics_raw_for;
  core.heartbeat_interval = options.heartbeat_interval;
  core.version = P2_VERSION;
  core.fatal = std::move(dependencies.fatal);
  P2_ASSIGN_OR_RETURN(impl.coordinator, coordinator::Coordinator::Start(std::move(core)));
  // Recovery holds each job several times over; glibc would keep for itself what that took.
  malloc_trim(0);
  impl.metrics->SetSources({.live_jobs = [&impl] { return impl.coordinator->LiveJobs(); },
                            .workers = [&impl] { return *impl.coordinator->Workers(); },
                            .watchers = [&impl] { return impl.coordinator->watches().watchers(); },
                            .free_bytes = [&impl] { return impl.free_bytes.load(); },
                            .store_health = [&impl] { return impl.store->Health(); },
                            .now = [] { return Clock::Real().Now(); },
                            .accounts = [&impl] { return AccountsOf(*impl.coordinator); }});
  P2_RETURN_IF_ERROR(impl.LookAtDisk());

  rpc::RpcServerOptions rpc_options;
  rpc_options.address = options.listen;
  rpc_options.keepalive_interval = options.keepalive_interval;
  rpc_options.keepalive_timeout = options.keepalive_timeout;
  rpc_options.times = {.timeout = options.call_timeout, .watch_interval = options.watch_interval};
  rpc_options.max_connections = options.max_connections;
  rpc_options.submits = {.rate = options.submit_rate, .burst = options.submit_burst};
  rpc_options.ended = [metrics = impl.metrics.get()](const std::string& service, const std::string& method,
                                                     grpc::StatusCode code, absl::Duration taken) {
    metrics->OnRpc(service, method, CodeName(code), taken);
  };
  P2_ASSIGN_OR_RETURN(impl.rpc, rpc::RpcServer::Start(std::move(rpc_options), *impl.coordinator, *impl.store,
                                                      *impl.blobs, {*impl.database, *impl.directory, *impl.backups}));
  impl.disk_thread = std::thread([&impl] { impl.WatchDisk(); });
  impl.ready = true;
  if (!options.ready_file.empty()) {
    P2_RETURN_IF_ERROR(WriteReadyFile(options.ready_file, server->grpc_address(), server->http_address()));
  }
  return server;
}

std::string Server::grpc_address() const {
  return absl::StrCat(HostOf(impl_->options.listen), ":", impl_->rpc->port());
}
std::string Server::http_address() const { return impl_->http->address(); }

void Server::Stop() {
  if (impl_->stopped.exchange(true)) return;
  impl_->ready = false;
  impl_->stop_disk_thread.Ring();
  if (impl_->disk_thread.joinable()) impl_->disk_thread.join();
  if (impl_->rpc != nullptr) impl_->rpc->Stop(impl_->options.shutdown_grace);
  if (impl_->http != nullptr) impl_->http->Stop();
  if (impl_->coordinator != nullptr) impl_->coordinator->Stop();
  impl_->rpc.reset();
  impl_->coordinator.reset();
  impl_->backups.reset();
  impl_->store.reset();
  impl_->database.reset();
}

}  // namespace p2::server
