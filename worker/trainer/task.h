// A rank of a job that does not train: it reads `source` and writes a checkpoint or `output_dir`. No gang: ranks share
// nothing but the directory; all but `sample` are done by rank 0 alone.
#pragma once

#include "worker/trainer/events.h"
#include "worker/trainer/exit_code.h"
#include "worker/trainer/train_options.h"
#include "worker/trainer/trainer.h"

namespace p2::trainer {

// Until the task is done (0), a stop was asked for (40; the same task goes on where it was), or something failed. The
// last event says the same. REQUIRES: options.task.
ExitCode RunTask(const TrainOptions& options, EventSink& sink, const TrainerHooks& hooks = {});

}  // namespace p2::trainer
