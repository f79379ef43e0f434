#include "server/rpc/push_streams.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/clock.h"
#include "common/rpc/grpc_status.h"

namespace p2::rpc {
namespace {

// A change is handed to each of them: their number is what one client that never closes any can do to the others.
constexpr size_t kMaxStreams = 20'000;

}  // namespace

// One message is under way at a time; whoever sees it leave sends the next.
class PushStreams::Stream : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                            public std::enable_shared_from_this<Stream> {
 public:
  explicit Stream(PushStreams& owner) : owner_(owner) {}

  void Begin(const std::function<Opened(Wake)>& open) {
    // Weak: who wakes may outlive the stream.
    const auto wake = [&owner = owner_, self = weak_from_this()] { owner.MakeReady(self); };
    Opened source = open(wake);
    {
      absl::MutexLock lock(&mutex_);
      if (source.ok()) {
        source_ = *std::move(source);
      } else if (!end_.has_value()) {
        end_ = source.status();
      }
      opened_ = true;
      last_sent_ = Clock::Real().Monotonic();
    }
    Continue();
  }

  // True until Continue has taken notice: whoever sets it sees that Continue runs.
  bool MarkReady() { return !ready_.exchange(true); }

  // Sends what is next unless a message is under way.
  void Continue() {
    ready_ = false;
    std::optional<absl::Status> end;
    {
      absl::MutexLock lock(&mutex_);
      if (!opened_ || writing_ || finished_) return;
      if (!end_.has_value()) {
        absl::StatusOr<std::optional<grpc::ByteBuffer>> next = source_->Next();
        if (!next.ok()) {
          end_ = next.status();
        } else if (next->has_value()) {
          TakeUp(**std::move(next));
        } else if (source_->AtEnd()) {
          end_ = absl::OkStatus();
        } else {
          return;
        }
      }
      finished_ = end_.has_value();
      end = end_;
    }
    // Unlocked: gRPC may react on this thread.
    end.has_value() ? Finish(ToGrpcStatus(*end)) : StartWrite(&message_);
  }

  void SayIdle(absl::Time now, absl::Duration after) {
    {
      absl::MutexLock lock(&mutex_);
      if (!opened_ || writing_ || end_.has_value() || now - last_sent_ < after) return;
      std::optional<grpc::ByteBuffer> message = source_->Idle();
      if (!message.has_value()) return;
      TakeUp(*std::move(message));
    }
    StartWrite(&message_);
  }

  // The first status counts.
  void End(const absl::Status& status) {
    {
      absl::MutexLock lock(&mutex_);
      if (!end_.has_value()) end_ = status;
    }
    Continue();
  }

  void OnWriteDone(bool ok) override {
    {
      absl::MutexLock lock(&mutex_);
      writing_ = false;
      if (!ok && !end_.has_value()) end_ = Left();
    }
    Continue();
  }
  void OnCancel() override { End(Left()); }
  void OnDone() override { owner_.Forget(shared_from_this()); }

 private:
  static absl::Status Left() { return absl::CancelledError("the client is gone"); }

  void TakeUp(grpc::ByteBuffer message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    message_.Swap(&message);
    writing_ = true;
    last_sent_ = Clock::Real().Monotonic();
  }

  // Constant after construction.
  PushStreams& owner_;

  std::atomic<bool> ready_ = false;
  absl::Mutex mutex_;
  std::unique_ptr<StreamSource> source_ ABSL_GUARDED_BY(mutex_);
  absl::Time last_sent_ ABSL_GUARDED_BY(mutex_);  // At first: when it was opened.
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
  bool opened_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::ByteBuffer message_;  // Set under mutex_, then gRPC's while writing_.
};

PushStreams::PushStreams(absl::Duration idle_after) : idle_after_(idle_after), thread_([this] { Run(); }) {}

PushStreams::~PushStreams() {
  {
    absl::MutexLock lock(&mutex_);
    ended_ = true;
  }
  bell_.Ring();
  thread_.join();
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* PushStreams::Start(const std::function<Opened(Wake)>& open) {
  auto stream = std::make_shared<Stream>(*this);
  absl::Status stopped;
  {
    absl::MutexLock lock(&mutex_);
    if (streams_.size() >= kMaxStreams) {
      stopped = absl::ResourceExhaustedError(
          absl::StrCat("p2d has ", kMaxStreams, " open streams, its limit; close some, or watch several jobs in one"));
    } else {
      stopped = stopped_;
    }
    streams_.insert(stream);
  }
  if (!stopped.ok()) stream->End(stopped);
  stream->Begin(open);
  return stream.get();
}

void PushStreams::Stop(const absl::Status& status) {
  std::set<std::shared_ptr<Stream>> streams;
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = status;
    streams = streams_;
  }
  for (const std::shared_ptr<Stream>& stream : streams) stream->End(status);
}

void PushStreams::MakeReady(std::weak_ptr<Stream> stream) {
  const std::shared_ptr<Stream> alive = stream.lock();
  if (alive == nullptr || !alive->MarkReady()) return;
  {
    absl::MutexLock lock(&mutex_);
    ready_.push_back(std::move(stream));
  }
  bell_.Ring();
}

void PushStreams::Forget(const std::shared_ptr<Stream>& stream) {
  absl::MutexLock lock(&mutex_);
  streams_.erase(stream);
}

void PushStreams::Run() {
  const Clock& clock = Clock::Real();
  const absl::Duration look_every = idle_after_ / 4;
  absl::Time next_look = clock.Monotonic() + look_every;
  while (true) {
    bell_.WaitFor(next_look - clock.Monotonic());
    const absl::Time now = clock.Monotonic();
    std::vector<std::weak_ptr<Stream>> ready;
    std::set<std::shared_ptr<Stream>> silent;
    {
      absl::MutexLock lock(&mutex_);
      if (ended_) return;
      ready.swap(ready_);
      if (now >= next_look) silent = streams_;
    }
    for (const std::weak_ptr<Stream>& one : ready) {
      if (const std::shared_ptr<Stream> stream = one.lock()) stream->Continue();
    }
    if (now < next_look) continue;
    for (const std::shared_ptr<Stream>& stream : silent) stream->SayIdle(now, idle_after_);
    next_look = now + look_every;
  }
}

}  // namespace p2::rpc
