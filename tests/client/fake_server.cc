#include "tests/client/fake_server.h"

#include <chrono>

#include "absl/strings/str_cat.h"
#include "tests/client/fake_server_impl.h"

namespace p2::testing {

FakeServer::FakeServer() : impl_(std::make_unique<Impl>()) {
  AddJobService(*impl_, impl_->services);
  AddQueueService(*impl_, impl_->services);
  AddStreamServices(*impl_, impl_->services);
  AddCatalogServices(*impl_, impl_->services);
  Start();
}

FakeServer::~FakeServer() { Stop(); }

void FakeServer::Start() {
  impl_->stopping = false;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(absl::StrCat("127.0.0.1:", impl_->port), grpc::InsecureServerCredentials(), &impl_->port);
  for (const std::unique_ptr<grpc::Service>& service : impl_->services) builder.RegisterService(service.get());
  impl_->server = builder.BuildAndStart();
}

void FakeServer::Stop() {
  if (impl_->server == nullptr) return;
  impl_->stopping = true;
  impl_->server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(5));
  impl_->server.reset();
}

std::string FakeServer::address() const { return absl::StrCat("127.0.0.1:", impl_->port); }

void FakeServer::SetJob(v1::Job job) {
  absl::MutexLock lock(&impl_->mutex);
  job.set_etag(absl::StrCat(impl_->state.changes.size()));
  impl_->state.jobs[job.name()] = job;
  impl_->Change(impl_->state, job, v1::WatchJobsResponse::STATE);
}

void FakeServer::With(const std::function<void(FakeState&)>& use) {
  absl::MutexLock lock(&impl_->mutex);
  use(impl_->state);
}

void FakeServer::FailNext(int count, const absl::Status& error, bool after_doing) {
  absl::MutexLock lock(&impl_->mutex);
  impl_->failures_left = count;
  impl_->failure = error;
  impl_->fail_after_doing = after_doing;
}

v1::Job MakeJob(const std::string& id, v1::Job::State state, int64_t images_seen) {
  v1::Job job;
  job.set_name(absl::StrCat("jobs/", id));
  job.set_state(state);
  job.set_preset("mnist-demo");
  job.set_owner("ada");
  job.set_project("default");
  job.set_queue("queues/default");
  job.mutable_spec()->mutable_data()->set_dataset("mnist");
  job.mutable_spec()->mutable_training()->set_batch(32);
  job.mutable_spec()->mutable_training()->set_images(18000);
  job.mutable_spec()->mutable_resources()->set_devices(2);
  (*job.mutable_spec_origins())["training.batch"] = "preset mnist-demo";
  job.mutable_progress()->set_images_seen(images_seen);
  job.mutable_progress()->set_images_total(18000);
  job.mutable_progress()->set_images_per_second(112.5);
  job.mutable_progress()->set_eta_seconds(88);
  job.mutable_progress()->set_loss(0.0532);
  job.mutable_create_time()->set_seconds(1795424077);
  return job;
}

}  // namespace p2::testing
