#include "worker/agent/loop.h"

#include <cstdlib>
#include <utility>

namespace p2::agent {
namespace {

// A libuv handle with its callback; freed when libuv has closed it.
template <typename H>
struct Handle {
  H uv;
  std::function<void()> fn;

  static void Fire(H* handle) { static_cast<Handle*>(handle->data)->fn(); }
  static void FireSignal(H* handle, int) { static_cast<Handle*>(handle->data)->fn(); }
};

struct Work {
  uv_work_t uv;
  const bool* closing;
  std::function<void()> work;
  std::function<void()> done;
};

void Close(uv_handle_t* handle, void*) {
  if (uv_is_closing(handle)) return;
  uv_close(handle, [](uv_handle_t* closed) {
    if (closed->type == UV_TIMER) delete static_cast<Handle<uv_timer_t>*>(closed->data);
    if (closed->type == UV_SIGNAL) delete static_cast<Handle<uv_signal_t>*>(closed->data);
  });
}

}  // namespace

Loop::Loop() {
  if (uv_loop_init(&loop_) != 0) std::abort();
  if (uv_async_init(&loop_, &wake_, [](uv_async_t* wake) { static_cast<Loop*>(wake->data)->RunPosted(); }) != 0)
    std::abort();
  wake_.data = this;
}

Loop::~Loop() {
  closing_ = true;
  uv_walk(&loop_, Close, nullptr);
  uv_run(&loop_, UV_RUN_DEFAULT);
  uv_loop_close(&loop_);
}

void Loop::Post(std::function<void()> fn) {
  {
    absl::MutexLock lock(&mutex_);
    posted_.push_back(std::move(fn));
  }
  uv_async_send(&wake_);
}

void Loop::RunPosted() {
  std::vector<std::function<void()>> posted;
  {
    absl::MutexLock lock(&mutex_);
    posted.swap(posted_);
  }
  for (const auto& fn : posted) fn();
}

void Loop::Every(absl::Duration period, std::function<void()> fn) {
  auto* timer = new Handle<uv_timer_t>{{}, std::move(fn)};
  uv_timer_init(&loop_, &timer->uv);
  timer->uv.data = timer;
  const auto ms = static_cast<uint64_t>(std::max<int64_t>(1, absl::ToInt64Milliseconds(period)));
  uv_timer_start(&timer->uv, Handle<uv_timer_t>::Fire, ms, ms);
}

void Loop::OnSignal(int signal, std::function<void()> fn) {
  auto* handle = new Handle<uv_signal_t>{{}, std::move(fn)};
  uv_signal_init(&loop_, &handle->uv);
  handle->uv.data = handle;
  uv_signal_start(&handle->uv, Handle<uv_signal_t>::FireSignal, signal);
}

void Loop::InPool(std::function<void()> work, std::function<void()> done) {
  auto* job = new Work{{}, &closing_, std::move(work), std::move(done)};
  job->uv.data = job;
  uv_queue_work(
      &loop_, &job->uv, [](uv_work_t* uv) { static_cast<Work*>(uv->data)->work(); },
      [](uv_work_t* uv, int) {
        Work* finished = static_cast<Work*>(uv->data);
        if (!*finished->closing) finished->done();
        delete finished;
      });
}

void Loop::Run() { uv_run(&loop_, UV_RUN_DEFAULT); }

}  // namespace p2::agent
