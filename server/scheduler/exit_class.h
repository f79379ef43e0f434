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
// How many COMMUNICATION, DEVICE_ERROR and RANK_FROZEN in a row are taken for the infrastructure's.
constexpr int kFreeSuspects = 3;
// Spends the restart budget. What names the job's own error always does. COMMUNICATION, DEVICE_ERROR and RANK_FROZEN
// are the infrastructure's more often than not, but a job can cause them as well: each is free while the job has failed
// at most kFreeSuspects times since its last progress (`consecutive_failures`, this one and those of other reasons
// included), and counted from then on. WORKER_LOST, WORKER_STOPPED and GANG_NOT_FORMED are never the job's doing, and
// free for ever.
bool IsCounted(StatusReason reason, int consecutive_failures);

}  // namespace p2::scheduler
