#include "common/crc32c.h"

#include <array>
#include <cstring>

namespace p2 {
namespace {

constexpr std::array<uint32_t, 256> MakeTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0u);
    table[i] = crc;
  }
  return table;
}

constexpr std::array<uint32_t, 256> kTable = MakeTable();

uint32_t UpdateByTable(absl::string_view data, uint32_t crc) {
  for (const char c : data) crc = (crc >> 8) ^ kTable[(crc ^ static_cast<unsigned char>(c)) & 0xFF];
  return crc;
}

#ifdef __x86_64__
// The processor's own instruction: 8 bytes at a time.
__attribute__((target("sse4.2"))) uint32_t UpdateByInstruction(absl::string_view data, uint32_t crc) {
  uint64_t wide = crc;
  for (; data.size() >= 8; data.remove_prefix(8)) {
    uint64_t word;
    std::memcpy(&word, data.data(), 8);
    wide = __builtin_ia32_crc32di(wide, word);
  }
  crc = static_cast<uint32_t>(wide);
  for (const char c : data) crc = __builtin_ia32_crc32qi(crc, static_cast<unsigned char>(c));
  return crc;
}

uint32_t Update(absl::string_view data, uint32_t crc) {
  static const bool has_instruction = __builtin_cpu_supports("sse4.2");
  return has_instruction ? UpdateByInstruction(data, crc) : UpdateByTable(data, crc);
}
#else
uint32_t Update(absl::string_view data, uint32_t crc) { return UpdateByTable(data, crc); }
#endif

}  // namespace

uint32_t Crc32c(absl::string_view data, uint32_t crc) { return ~Update(data, ~crc); }

}  // namespace p2
