// What the process's ends are.
#pragma once

namespace p2::ctl {

bool IsTerminal(int fd);
// Columns by TIOCGWINSZ; 0 if `fd` is not a terminal, 80 if it does not say.
int TerminalWidth(int fd);

}  // namespace p2::ctl
