#include "client/p2ctl/help_formatter.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "client/p2ctl/terminal.h"
#include "client/p2ctl/wrap_text.h"

namespace p2::ctl {
namespace {

// Where descriptions begin.
constexpr size_t kDescription = 34;

size_t HelpIndent(absl::string_view line) {
  const size_t start = std::min(line.find_first_not_of(' '), line.size());
  if (start == 0) return 0;
  // An option's name may leave one space; in other lines (examples) one means nothing.
  const absl::string_view gap = start < line.size() && line[start] == '-' ? " " : "  ";
  const bool described =
      line.size() > kDescription && line[kDescription] != ' ' && absl::EndsWith(line.substr(0, kDescription), gap);
  return described ? kDescription : start + 2;
}

}  // namespace

std::string WrapHelp(absl::string_view text, size_t width) { return WrapText(text, width, HelpIndent); }

HelpFormatter::HelpFormatter() { column_width(kDescription); }

std::string HelpFormatter::make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const {
  std::string help = CLI::Formatter::make_help(app, std::move(name), mode);
  // Two empty lines stand between groups.
  for (size_t at; (at = help.find("\n\n\n")) != std::string::npos;) help.erase(at, 1);
  const int fd = IsTerminal(STDOUT_FILENO) ? STDOUT_FILENO : STDERR_FILENO;
  return WrapHelp(help, static_cast<size_t>(TerminalWidth(fd)));
}

}  // namespace p2::ctl
