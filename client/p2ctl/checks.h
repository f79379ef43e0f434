// Checks of flags beside those of CLI11.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "absl/strings/str_cat.h"

namespace p2::ctl {

// A whole number from 0 on; CLI::NonNegativeNumber would name the largest double, with its 309 digits.
inline CLI::Validator NotNegative() {
  return CLI::Validator(
      [](std::string& text) {
        return text.rfind('-', 0) == 0 ? absl::StrCat("is ", text, "; must be 0 or more") : std::string();
      },
      "", "NotNegative");
}

}  // namespace p2::ctl
