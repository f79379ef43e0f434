// SHA-256, as people can check it with sha256sum.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

struct evp_md_ctx_st;

namespace p2 {

// SHA-256 in pieces. Confined to one thread.
class Sha256 {
 public:
  using Digest = std::array<uint8_t, 32>;
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void Update(absl::Span<const uint8_t> bytes);
  Digest Finish();

 private:
  evp_md_ctx_st* const ctx_;
};

// Small hexadecimal digits.
std::string Hex(absl::Span<const uint8_t> bytes);

// Of the whole text, as `sha256sum` prints it.
std::string Sha256Hex(absl::string_view text);

}  // namespace p2
