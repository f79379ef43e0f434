#include "worker/trainer/host_memory.h"

#include <cstdlib>  // Defines __GLIBC__ where it is.

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace p2::trainer {

void KeepFreedMemory() {
#ifdef __GLIBC__
  constexpr int kNever = 1 << 30;
  constexpr int kLarge = 32 << 20;
  constexpr int kGrowBy = 64 << 20;
  ::mallopt(M_ARENA_MAX, 1);
  ::mallopt(M_MMAP_THRESHOLD, kLarge);
  ::mallopt(M_TRIM_THRESHOLD, kNever);
  ::mallopt(M_TOP_PAD, kGrowBy);
#endif
}

}  // namespace p2::trainer
