#include "common/crc32c.h"

#include <string>

#include "gtest/gtest.h"

namespace p2 {
namespace {

// The definition, bit by bit.
uint32_t ByDefinition(absl::string_view data) {
  uint32_t crc = ~0u;
  for (const char c : data) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82F63B78u : 0);
  }
  return ~crc;
}

TEST(Crc32cTest, EqualsItsDefinitionAtEveryLengthAndAlignmentAndInPieces) {
  std::string bytes(100, '\0');
  uint32_t random = 1;
  for (char& c : bytes) c = static_cast<char>((random = random * 1664525 + 1013904223) >> 24);
  for (size_t at = 0; at < 9; ++at) {
    for (size_t size = 0; at + size <= bytes.size(); ++size) {
      const absl::string_view piece = absl::string_view(bytes).substr(at, size);
      ASSERT_EQ(Crc32c(piece), ByDefinition(piece)) << at << " " << size;
      ASSERT_EQ(Crc32c(piece.substr(size / 3), Crc32c(piece.substr(0, size / 3))), ByDefinition(piece)) << at;
    }
  }
}

}  // namespace
}  // namespace p2
