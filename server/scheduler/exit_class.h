// What an exit code of a trainer means (CLI.md).
#pragma once

#include "server/scheduler/types.h"

namespace p2::scheduler {

// kUnspecified for 0, 40 and 41, which are no failures.
StatusReason ClassifyExit(int exit_code);
// 40 and 41: ended on request, with a checkpoint.
bool IsStoppedExit(int exit_code);

// When ranks of one gang ended for several reasons, the higher one is the cause: what names the user's own error comes
// before the infrastructure, and a broken connection, which every death causes in the other ranks, comes last.
int Severity(StatusReason reason);

// A restart cannot mend it: FAILED at once.
bool IsFatal(StatusReason reason);
// Spends the restart budget; every other reason is the infrastructure's and free.
bool IsCounted(StatusReason reason);

}  // namespace p2::scheduler
