// What a simulated cluster is made of, how it breaks, and what things take. Every default names its source.
#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "server/scheduler/step.h"

namespace p2::goodput {

// Every device fails as a Poisson process; what a failure is, is drawn by these shares. Defaults: the 419 unexpected
// interruptions of Llama 3 (arXiv:2407.21783) by its table of root causes.
struct Faults {
  // Device-hours between unexpected failures; 0: none. REQUIRES: >= 0.
  double mttf_hours = 0;
  // Ranks end and the node stays: software 54, dependencies 2, switches and cables 35 of 419.
  double crash_share = 91.0 / 419;
  // A rank hangs and says nothing: NCCL watchdog timeouts, 7 of 419.
  double freeze_share = 7.0 / 419;
  // All others (GPUs 268, hosts 21, unplanned maintenance of a host 32) take the node away, silently. Of those, this
  // share leaves the node there, with a device on which every rank ends with 51 until somebody sends it to repair.
  double broken_device_share = 0;
  // Not published; assumed: a node is back after a reboot, or after parts were replaced.
  absl::Duration reboot = absl::Hours(1), replacement = absl::Hours(24);
  double replacement_share = 0.2;
  // Planned drains: 466 - 419 = 47 in 54 days on 16,384 devices. 0: none.
  double drain_hours = 54.0 * 24 * 16'384 / 47;
  absl::Duration maintenance = absl::Hours(1);
  // Until a person looks at a node that p2d cordoned or that keeps breaking a job.
  absl::Duration person = absl::Hours(1);
};

struct Costs {
  // Of one device. docs/benchmarks.md, light-128 on machine B: 2.7 to 2.9 s an image.
  double images_per_second = 0.36;
  int64_t checkpoint_every_images = 100'000;  // configs/presets/base.yaml
  // docs/benchmarks.md, "What training waits for a checkpoint".
  absl::Duration checkpoint_wait = absl::Milliseconds(3.6);
  absl::Duration checkpoint_write = absl::Seconds(23);
  // From Start until all ranks step. docs/benchmarks.md, submit to the first step: 1.88 s.
  absl::Duration start_up = absl::Seconds(1.88);
  // One message. docs/benchmarks.md: a gang of 64 workers, three of them one after the other, p99 57 ms.
  absl::Duration message = absl::Milliseconds(20);
  // configs/worker.yaml, configs/p2d.yaml, configs/presets/base.yaml.
  absl::Duration heartbeat = absl::Seconds(2), gang_grace = absl::Seconds(2), tick = absl::Milliseconds(200);
  absl::Duration connection_timeout = absl::Seconds(30);  // keepalive-interval and keepalive-timeout of p2d.
  absl::Duration start_deadline = absl::Seconds(300), step_deadline = absl::Seconds(120);
  absl::Duration stop_deadline = absl::Seconds(60);
};

struct Setting {
  int nodes = 8;
  int spare_nodes = 0;
  int devices_per_node = 8;
  // One job of so many devices; devices_min > 0: elastic.
  int devices = 64, devices_min = 0;
  // Instead of the one job: jobs of 8, 16, 32 and 64 devices (4 : 3 : 2 : 1), of exponential length; so many are kept
  // live.
  int mix_jobs = 0;
  int people = 1;  // Whose jobs they are, in turn.
  absl::Duration mix_length = absl::Hours(6);
  // Then people stop what still runs: it saves a checkpoint and ends.
  absl::Duration time = absl::Hours(30 * 24);
  uint64_t seed = 1;
  bool play_all = false;  // Nothing is passed over (cluster.h): much slower, with the same result.
  Faults faults;
  Costs costs;
  scheduler::StepOptions step;
};

}  // namespace p2::goodput
