#include "server/coordinator/thinning_thread.h"

#include <utility>

namespace p2::coordinator {

ThinningThread::ThinningThread(const store::JobStore& store, Done done)
    : store_(store), done_(std::move(done)), thread_([this] { Run(); }) {}

ThinningThread::~ThinningThread() {
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
  }
  thread_.join();
}

void ThinningThread::Begin(absl::Time older_than, absl::Duration budget) {
  absl::MutexLock lock(&mutex_);
  order_ = Order{older_than, budget};
}

void ThinningThread::Run() {
  const auto wanted = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return order_.has_value() || stopped_; };
  while (true) {
    Order order;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&wanted));
      if (stopped_) return;
      order = *std::exchange(order_, std::nullopt);
    }
    done_(store_.PrepareThinning(order.older_than, order.budget));
  }
}

}  // namespace p2::coordinator
