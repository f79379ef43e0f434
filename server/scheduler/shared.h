// A value that many records have in common.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace p2::scheduler {

// A copy is a pointer; the value behind it is the same for all and does not change while more than one holds it.
// Thread-safe as std::shared_ptr is: different objects may be used at once, also those that share their value.
template <typename T>
class Shared {
 public:
  Shared() : box_(Default()) { Hold(); }
  Shared(T value) : box_(new Box{std::move(value)}) { Hold(); }
  Shared(const Shared& other) : box_(other.box_) { Hold(); }
  Shared(Shared&& other) noexcept : box_(std::exchange(other.box_, Default())) { other.Hold(); }
  Shared& operator=(Shared other) noexcept {
    std::swap(box_, other.box_);
    return *this;
  }
  ~Shared() { Drop(); }

  const T& operator*() const { return box_->value; }
  const T* operator->() const { return &box_->value; }
  // For this holder to change: a copy of its own, if others hold the value too. Void with the next copy of this.
  T& Edit() {
    if (!IsOnlyHolder()) *this = Shared(T(box_->value));
    return box_->value;
  }

  bool IsOnlyHolder() const { return box_->holders.load(std::memory_order_acquire) == 1; }
  bool SharesWith(const Shared& other) const { return box_ == other.box_; }
  bool operator==(const Shared& other) const { return SharesWith(other) || **this == *other; }

 private:
  struct Box {
    T value;
    std::atomic<int32_t> holders{0};
  };
  static Box* Default() {
    static Box* const box = new Box{T{}, 1};
    return box;
  }
  void Hold() { box_->holders.fetch_add(1, std::memory_order_relaxed); }
  void Drop() {
    if (box_->holders.fetch_sub(1, std::memory_order_acq_rel) == 1) delete box_;
  }

  Box* box_;
};

}  // namespace p2::scheduler
