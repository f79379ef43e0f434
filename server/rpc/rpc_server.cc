#include "server/rpc/rpc_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstdlib>
#include <initializer_list>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "common/logging.h"
#include "common/spec/presets.h"
#include "common/status_macros.h"
#include "grpc/support/log.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/resource_quota.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "server/rpc/artifact_service.h"
#include "server/rpc/checkpoint_service.h"
#include "server/rpc/cluster_service.h"
#include "server/rpc/dataset_service.h"
#include "server/rpc/event_service.h"
#include "server/rpc/job_service.h"
#include "server/rpc/listener.h"
#include "server/rpc/log_service.h"
#include "server/rpc/metric_service.h"
#include "server/rpc/preset_service.h"
#include "server/rpc/queue_service.h"
#include "server/rpc/service_context.h"
#include "server/rpc/worker_service.h"

namespace p2::rpc {

struct RpcServer::Impl {
  Impl(const RpcServerOptions& options, coordinator::Coordinator& coordinator, const store::JobStore& store,
       const store::BlobStore& blobs, const AdminParts& parts)
      : context{options.times, coordinator, store, blobs, JobViews(store), {options.submits, Clock::Real()}},
        admin(context, parts) {}

  ServiceContext context;
  JobService jobs{context};
  PresetService presets{spec::PresetCatalog::BuiltIn()};
  DatasetService datasets{context};
  MetricService metrics{context};
  CheckpointService checkpoints{context};
  ArtifactService artifacts{context};
  LogService logs{context};
  ClusterService cluster{context};
  EventService events{context};
  QueueService queues{context};
  WorkerService workers{context};
  AdminService admin;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> connections;
  std::unique_ptr<grpc::Server> server;  // Behind what it serves: ends before.
  std::unique_ptr<Listener> listener;
};

bool IsLoopback(absl::string_view address) {
  const size_t colon = address.rfind(':');
  if (colon == address.npos) return false;
  absl::string_view host = address.substr(0, colon);
  if (absl::ConsumePrefix(&host, "[")) absl::ConsumeSuffix(&host, "]");
  in_addr v4;
  in6_addr v6;
  if (inet_pton(AF_INET, std::string(host).c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  if (inet_pton(AF_INET6, std::string(host).c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
  return host == "localhost";
}

namespace {

// Descriptors that are not connections: the store's tables and logs, blobs, HTTP.
constexpr int kOtherFiles = 512;

// gRPC writes pages of its own to stderr (a busy port alone gives one); who debugs gets them as lines of our log.
void LogFromGrpc(gpr_log_func_args* args) { P2_LOG(kDebug) << "gRPC: " << args->message; }

}  // namespace

RpcServer::RpcServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RpcServer::~RpcServer() { Stop(absl::ZeroDuration()); }

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(RpcServerOptions options,
                                                            coordinator::Coordinator& coordinator,
                                                            const store::JobStore& store, const store::BlobStore& blobs,
                                                            const AdminParts& admin) {
  auto impl = std::make_unique<Impl>(options, coordinator, store, blobs, admin);
  if (std::getenv("GRPC_VERBOSITY") == nullptr) gpr_set_log_function(LogFromGrpc);
  grpc::EnableDefaultHealthCheckService(true);
  // The plugin is for the whole process: a later server that is not on loopback must be another process.
  if (IsLoopback(options.address)) grpc::reflection::InitProtoReflectionServerBuilderPlugin();

  grpc::ServerBuilder builder;
  P2_ASSIGN_OR_RETURN(impl->listener, Listener::Bind(options.address));
  using ConnectionType = grpc::ServerBuilder::experimental_type::ExternalConnectionType;
  impl->connections =
      builder.experimental().AddExternalConnectionAcceptor(ConnectionType::FROM_FD, grpc::InsecureServerCredentials());
  builder.SetMaxReceiveMessageSize(options.max_message_bytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.max_streams_per_connection);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, options.max_metadata_bytes);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS,
                             static_cast<int>(absl::ToInt64Milliseconds(options.keepalive_interval)));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                             static_cast<int>(absl::ToInt64Milliseconds(options.keepalive_timeout)));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
  grpc::ResourceQuota quota("p2d");
  quota.Resize(static_cast<size_t>(options.memory_quota_bytes));
  quota.SetMaxThreads(options.max_threads);
  builder.SetResourceQuota(quota);
  if (options.ended != nullptr) {
    std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
    interceptors.push_back(NewRpcObserver(std::move(options.ended)));
    builder.experimental().SetInterceptorCreators(std::move(interceptors));
  }
  for (grpc::Service* service : std::initializer_list<grpc::Service*>{
           &impl->jobs, &impl->presets, &impl->datasets, &impl->metrics, &impl->checkpoints, &impl->artifacts,
           &impl->logs, &impl->cluster, &impl->events, &impl->queues, &impl->workers, &impl->admin}) {
    builder.RegisterService(service);
  }
  impl->server = builder.BuildAndStart();
  if (impl->server == nullptr)
    return absl::InternalError("grpc: the server does not start; GRPC_VERBOSITY=debug tells more");
  const int files = RaiseFileLimit();
  impl->listener->Serve(std::min(options.max_connections + kOtherFiles, std::max(files / 2, files - kOtherFiles)),
                        [connections = impl->connections.get()](int listener, int fd) {
                          grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters made;
                          made.listener_fd = listener;
                          made.fd = fd;
                          connections->HandleNewConnection(&made);
                        });
  impl->server->GetHealthCheckService()->SetServingStatus(true);
  return std::unique_ptr<RpcServer>(new RpcServer(std::move(impl)));
}

int RpcServer::port() const { return impl_->listener->port(); }

void RpcServer::Stop(absl::Duration grace) {
  if (impl_->context.stopping.exchange(true)) return;
  impl_->listener->StopAccepting();
  impl_->server->GetHealthCheckService()->SetServingStatus(false);
  impl_->workers.Stop();
  for (PushStreams* streams : {&impl_->context.streams, &impl_->context.readers})
    streams->Stop(Error(ErrorReason::kShuttingDown, "p2d stops; try again"));
  impl_->server->Shutdown(absl::ToChronoTime(absl::Now() + grace));
  impl_->server->Wait();
}

}  // namespace p2::rpc
