// CLI11's help, with lines broken between words where a terminal shows it.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "absl/strings/string_view.h"

namespace p2::ctl {

class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter();
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override;
};

// Further lines stand under the description of what the line is about, or two columns in from its start.
std::string WrapHelp(absl::string_view text, size_t width);

}  // namespace p2::ctl
