// The safetensors reader: header, then every tensor's bytes.
#include "common/safetensors/safetensors.h"
#include "tests/fuzz/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static p2::fuzz::MemoryFile file;
  const auto reader = p2::safetensors::Reader::Open(file.Fill(data, size));
  if (!reader.ok()) return 0;
  for (const p2::safetensors::TensorInfo& tensor : (*reader)->tensors()) {
    p2::fuzz::Require(tensor.size <= size, "a tensor is no larger than its file");
    std::vector<std::byte> bytes(tensor.size);
    p2::fuzz::Require((*reader)->Read(tensor.name, absl::MakeSpan(bytes)).ok(), "a checked tensor can be read");
  }
  return 0;
}
