// The tools inside p2-trainer: `p2-trainer VERB …`, each in its cmd_<verb>.cc. They work on files and a device of their
// own; no gang, no service.
#pragma once

#include <atomic>
#include <functional>

#include "absl/status/status.h"

namespace CLI {
class App;
}

namespace p2::trainer {

// What the command line chose; returns the exit code (0 ok, 1 error, 2 usage, 3 not found, 12 verification failed).
using Verb = std::function<int()>;

// How a verb ends: 0, or the status's code after its message went to stderr.
int VerbExitCode(const absl::Status& status);

// Each adds its subcommand to `app`; its callback sets `*chosen`, which main() runs after parsing and set-up. Those
// that take `stop` end with 40 soon after it is set; it must outlive them.

// Compares p2's numbers with a directory of the published code's.
void AddCheck(CLI::App& app, Verb* chosen);
// Averages of the weights from a run's snapshots.
void AddEma(CLI::App& app, Verb* chosen);
// Files of others.
void AddExport(CLI::App& app, Verb* chosen);
void AddImport(CLI::App& app, Verb* chosen);
void AddInspect(CLI::App& app, Verb* chosen);
// Draws images from a checkpoint.
void AddSampleVerb(CLI::App& app, const std::atomic<bool>& stop, Verb* chosen);
// Stochastic reconstruction of images (the paper's Fig. 2).
void AddReconstructVerb(CLI::App& app, const std::atomic<bool>& stop, Verb* chosen);

}  // namespace p2::trainer
