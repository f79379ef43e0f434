// The .pt reader behind the container's checksums: the input is data.pkl of an archive with two storages, so that
// mutated pickles reach the machine, and the tensors that they build are read.
#include "tests/fuzz/fuzz_input.h"
#include "worker/checkpoint/pt_archive.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string storage(256, '\x40');
  p2::checkpoint::ReadPtBytes(p2::fuzz::StoredZip({{"a/data.pkl", p2::fuzz::Text(data, size)},
                                                   {"a/data/0", storage},
                                                   {"a/data/1", absl::string_view(storage).substr(0, 24)}}));
  return 0;
}
