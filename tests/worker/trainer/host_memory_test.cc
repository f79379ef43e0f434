#include "worker/trainer/host_memory.h"

#include <sys/resource.h>

#include <cstdint>
#include <cstdlib>

#include "gtest/gtest.h"

namespace p2::trainer {
namespace {

// Page faults of allocating `bytes`, writing to each page and freeing them.
int64_t FaultsOf(size_t bytes) {
  rusage before{}, after{};
  ::getrusage(RUSAGE_THREAD, &before);
  volatile char* const memory = static_cast<char*>(std::malloc(bytes));  // volatile: the compiler drops no write.
  for (size_t i = 0; i < bytes; i += 4096) memory[i] = 1;
  std::free(const_cast<char*>(memory));
  ::getrusage(RUSAGE_THREAD, &after);
  return after.ru_minflt - before.ru_minflt;
}

TEST(HostMemoryTest, ATensorTakesThePagesOfTheOneBefore) {
#if !defined(__GLIBC__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "malloc is not glibc's";
#endif
  constexpr size_t kBytes = size_t{16} << 20;
  KeepFreedMemory();
  FaultsOf(kBytes);
  EXPECT_LT(FaultsOf(kBytes), 100);
}

}  // namespace
}  // namespace p2::trainer
