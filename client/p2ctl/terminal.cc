#include "client/p2ctl/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

namespace p2::ctl {

bool IsTerminal(int fd) { return isatty(fd) == 1; }

int TerminalWidth(int fd) {
  if (!IsTerminal(fd)) return 0;
  winsize size = {};
  return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace p2::ctl
