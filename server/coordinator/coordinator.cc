#include "server/coordinator/coordinator.h"

#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "common/error_reason.h"
#include "common/status_macros.h"
#include "server/coordinator/loop.h"
#include "server/coordinator/read_view.h"
#include "server/coordinator/worker_messages.h"

namespace p2::coordinator {
namespace {

// Waits for what a callback brings.
template <typename T>
class Reply {
 public:
  void Set(absl::StatusOr<T> value) {
    value_ = std::move(value);
    ready_.Notify();
  }
  absl::StatusOr<T> Wait() {
    ready_.WaitForNotification();
    return *std::move(value_);
  }

 private:
  std::optional<absl::StatusOr<T>> value_;
  absl::Notification ready_;
};

}  // namespace

class Coordinator::Impl {
 public:
  explicit Impl(Options options) : options_(std::move(options)), hub_(options_.watch), loop_(options_, view_, hub_) {}

  const Options options_;
  ReadView view_;
  WatchHub hub_;
  Loop loop_;
  std::thread thread_;
};

Coordinator::Coordinator(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Coordinator::~Coordinator() { Stop(); }

absl::StatusOr<std::unique_ptr<Coordinator>> Coordinator::Start(Options options) {
  auto impl = std::make_unique<Impl>(std::move(options));
  P2_RETURN_IF_ERROR(impl->loop_.Recover());
  impl->thread_ = std::thread([loop = &impl->loop_] { loop->Run(); });
  return std::unique_ptr<Coordinator>(new Coordinator(std::move(impl)));
}

void Coordinator::Stop() {
  impl_->loop_.Stop();
  impl_->hub_.Stop();
  if (impl_->thread_.joinable()) impl_->thread_.join();
}

void Coordinator::Post(scheduler::Event command, Done done) {
  Loop::Item item = Loop::Command{std::move(command), std::move(done)};
  if (absl::Status status = impl_->loop_.Push(std::move(item)); !status.ok())
    std::get<Loop::Command>(item).done(status);
}

absl::StatusOr<Coordinator::Answer> Coordinator::Execute(scheduler::Event command) {
  Reply<Answer> reply;
  Post(std::move(command), [&reply](absl::StatusOr<Answer> answer) { reply.Set(std::move(answer)); });
  return reply.Wait();
}

absl::Status Coordinator::Inquire(const std::string& job, std::function<void(const Inside&)> inquiry) {
  Reply<bool> reply;
  P2_RETURN_IF_ERROR(impl_->loop_.Push(Loop::Inquiry{job, std::move(inquiry), [&reply](const absl::Status& status) {
                                                       reply.Set(status.ok() ? absl::StatusOr<bool>(true) : status);
                                                     }}));
  return reply.Wait().status();
}

void Coordinator::ConnectWorker(const p2::v1::Hello& hello, std::function<void(absl::StatusOr<Session>)> done) {
  if (hello.protocol_version() != kProtocolVersion) {
    return done(Error(ErrorReason::kProtocolUnsupported,
                      absl::StrCat("worker ", hello.worker(), " speaks protocol version ", hello.protocol_version(),
                                   ", this p2d speaks ", kProtocolVersion, "; install the same release of both")));
  }
  absl::StatusOr<scheduler::WorkerConnected> event = FromHello(hello);
  if (!event.ok()) return done(event.status());
  const absl::Status status = impl_->loop_.Push(Loop::Greeting{*std::move(event), done});
  if (!status.ok()) done(status);
}

absl::StatusOr<bool> Coordinator::Receive(const Session& session, p2::v1::ConnectRequest message) {
  P2_RETURN_IF_ERROR(impl_->loop_.Push(Loop::Message{session, std::move(message)}));
  return session->TakeUp();  // Behind the push: once there is room, the next message may be read on another thread.
}

void Coordinator::Disconnect(const Session& session) { impl_->loop_.Push(Loop::Farewell{session}).IgnoreError(); }

absl::StatusOr<scheduler::JobPtr> Coordinator::GetJob(absl::string_view id) const {
  if (scheduler::JobPtr job = impl_->view_.FindJob(id); job != nullptr) return job;
  return impl_->options_.store->GetJob(id);
}

std::vector<scheduler::JobPtr> Coordinator::LiveJobs() const { return impl_->view_.Jobs(); }
WorkerList Coordinator::Workers() const { return impl_->view_.Workers(); }
DatasetList Coordinator::Datasets() const { return impl_->view_.Datasets(); }

absl::StatusOr<std::vector<scheduler::CheckpointPtr>> Coordinator::Checkpoints(absl::string_view job) const {
  P2_ASSIGN_OR_RETURN(std::vector<scheduler::CheckpointPtr> checkpoints, impl_->options_.store->ListCheckpoints(job));
  return std::vector<scheduler::CheckpointPtr>(checkpoints.rbegin(), checkpoints.rend());
}

WatchHub& Coordinator::watches() { return impl_->hub_; }

}  // namespace p2::coordinator
