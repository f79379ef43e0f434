// p2_goodput: what part of the device time p2d's decisions turn into results, where nodes and ranks fail at published
// rates. The decisions are p2d's own (server/scheduler); nodes, training and time are simulated.
//
//   p2_goodput --rates fair --spare 1 --days 30 --seeds 100 -o json
//
// Exit code: 0 done; 1 the goodput is below --floor; 2 wrong arguments.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "bench/goodput/cluster.h"
#include "nlohmann/json.hpp"

namespace p2::goodput {
namespace {

using nlohmann::ordered_json;

// Device-hours between unexpected failures.
const std::map<std::string, double> kRates = {
    {"none", 0},
    {"llama3", 16'384 * 54 * 24.0 / 419},  // arXiv:2407.21783: 419 unexpected interruptions in 54 days on 16,384 GPUs.
    {"opt", 992 * 60 * 24.0 / 105},        // arXiv:2205.01068: at least 105 restarts in two months on 992 GPUs.
    {"fair", 1024 * 7.9},                  // arXiv:2410.21680: a mean time to failure of 7.9 h on 1,024 GPUs.
};

struct Estimate {
  double mean = 0, low = 0, high = 0, worst = 1;  // `low`, `high`: 95 % interval of the mean over seeds.
};

template <typename Of>
Estimate EstimateOf(const std::vector<Report>& reports, Of of) {
  Estimate estimate;
  const double n = static_cast<double>(reports.size());
  for (const Report& report : reports) {
    estimate.mean += of(report) / n;
    estimate.worst = std::min(estimate.worst, of(report));
  }
  double squares = 0;
  for (const Report& report : reports) squares += std::pow(of(report) - estimate.mean, 2);
  const double half = n > 1 ? 1.96 * std::sqrt(squares / (n - 1) / n) : 0;
  estimate.low = estimate.mean - half;
  estimate.high = std::min(1.0, estimate.mean + half);
  return estimate;
}

Report Sum(const std::vector<Report>& reports) {
  Report sum;
  for (const Report& report : reports) {
    sum.wanted += report.wanted;
    for (int i = 0; i < kParts; ++i) sum.parts[i] += report.parts[i];
    sum.all += report.all;
    sum.held += report.held;
    sum.idle += report.idle;
    sum.away += report.away;
    sum.crashes += report.crashes;
    sum.freezes += report.freezes;
    sum.lost_nodes += report.lost_nodes;
    sum.broken_devices += report.broken_devices;
    sum.drains += report.drains;
    sum.harmless += report.harmless;
    sum.attempts += report.attempts;
    sum.jobs += report.jobs;
    sum.jobs_succeeded += report.jobs_succeeded;
    sum.jobs_failed += report.jobs_failed;
    sum.cordons += report.cordons;
    sum.steps += report.steps;
  }
  return sum;
}

ordered_json ToJson(const Estimate& estimate) {
  return {{"mean", estimate.mean}, {"low", estimate.low}, {"high", estimate.high}, {"worst_seed", estimate.worst}};
}

std::vector<std::pair<std::string, int64_t>> Counts(const Report& sum) {
  return {{"crashes", sum.crashes},
          {"freezes", sum.freezes},
          {"lost_nodes", sum.lost_nodes},
          {"broken_devices", sum.broken_devices},
          {"drains", sum.drains},
          {"of_these_harmless", sum.harmless},
          {"attempts", sum.attempts},
          {"jobs", sum.jobs},
          {"jobs_succeeded", sum.jobs_succeeded},
          {"jobs_failed", sum.jobs_failed},
          {"cordons_by_p2d", sum.cordons},
          {"steps_of_p2d", sum.steps}};
}

double Interval(const Setting& setting) {
  const int devices = setting.mix_jobs > 0 ? setting.devices_per_node : setting.devices;
  return static_cast<double>(setting.costs.checkpoint_every_images) / setting.costs.images_per_second / devices;
}

void PrintJson(const Setting& setting, const std::vector<Report>& reports) {
  const Report sum = Sum(reports);
  ordered_json json = {
      {"devices", setting.devices},
      {"devices_min", setting.devices_min},
      {"mix_jobs", setting.mix_jobs},
      {"people", setting.people},
      {"all_devices", (setting.nodes + setting.spare_nodes) * setting.devices_per_node},
      {"days", absl::ToDoubleHours(setting.time) / 24},
      {"seed", setting.seed},
      {"seeds", reports.size()},
      {"mttf_device_hours", setting.faults.mttf_hours},
      {"checkpoint_interval_s", Interval(setting)},
      {"checkpoint_write_s", absl::ToDoubleSeconds(setting.costs.checkpoint_write)},
      {"start_up_s", absl::ToDoubleSeconds(setting.costs.start_up)},
      {"goodput", ToJson(EstimateOf(reports, [](const Report& it) { return it.Goodput(); }))},
      {"goodput_of_held_devices", ToJson(EstimateOf(reports, [](const Report& it) { return it.GoodputOfHeld(); }))},
      {"goodput_of_all_devices", ToJson(EstimateOf(reports, [](const Report& it) { return it.GoodputOfAll(); }))},
      {"wanted_device_hours", sum.wanted / 3600}};
  for (int i = 0; i < kParts; ++i) {
    json["part_device_hours"][std::string(PartName(static_cast<Part>(i)))] = sum.parts[i] / 3600;
  }
  json["all_device_hours"] = {
      {"all", sum.all / 3600}, {"held", sum.held / 3600}, {"idle", sum.idle / 3600}, {"away", sum.away / 3600}};
  for (const auto& [name, count] : Counts(sum)) json[name] = count;
  std::cout << json.dump(2) << "\n";
}

void Print(const Setting& setting, const std::vector<Report>& reports) {
  const Report sum = Sum(reports);
  const auto line = [](const char* what, const Estimate& it) {
    std::cout << absl::StrFormat("%-24s %8.4f %%  (95 %% of the mean: %.4f to %.4f; worst seed %.4f)\n", what,
                                 100 * it.mean, 100 * it.low, 100 * it.high, 100 * it.worst);
  };
  std::cout << absl::StrFormat("%d seeds of %.0f days, %d devices; a checkpoint every %.1f s, written in %.1f s\n",
                               reports.size(), absl::ToDoubleHours(setting.time) / 24,
                               (setting.nodes + setting.spare_nodes) * setting.devices_per_node, Interval(setting),
                               absl::ToDoubleSeconds(setting.costs.checkpoint_write));
  line("goodput", EstimateOf(reports, [](const Report& it) { return it.Goodput(); }));
  line("goodput of held devices", EstimateOf(reports, [](const Report& it) { return it.GoodputOfHeld(); }));
  line("goodput of all devices", EstimateOf(reports, [](const Report& it) { return it.GoodputOfAll(); }));
  std::cout << absl::StrFormat("\n%-16s %14s %10s\n", "PART", "DEVICE-HOURS", "SHARE");
  for (int i = 0; i < kParts; ++i) {
    std::cout << absl::StrFormat("%-16s %14.2f %8.4f %%\n", PartName(static_cast<Part>(i)), sum.parts[i] / 3600,
                                 100 * sum.parts[i] / sum.wanted);
  }
  std::cout << absl::StrFormat("%-16s %14.2f\n", "wanted", sum.wanted / 3600);
  std::cout << absl::StrFormat("all devices: %.2f held, %.2f idle, %.2f away of %.2f\n\n", sum.held / 3600,
                               sum.idle / 3600, sum.away / 3600, sum.all / 3600);
  for (const auto& [name, count] : Counts(sum)) std::cout << absl::StrFormat("%12d %s\n", count, name);
}

int Main(int argc, char** argv) {
  Setting setting;
  std::string rates = "fair", output = "text";
  int seeds = 20;
  double days = 30, floor = 0, start_up = absl::ToDoubleSeconds(setting.costs.start_up);
  double write = absl::ToDoubleSeconds(setting.costs.checkpoint_write);
  double wait = absl::ToDoubleMilliseconds(setting.costs.checkpoint_wait);
  double reboot = absl::ToDoubleHours(setting.faults.reboot), person = absl::ToDoubleHours(setting.faults.person);
  double replacement = absl::ToDoubleHours(setting.faults.replacement);
  double maintenance = absl::ToDoubleHours(setting.faults.maintenance);

  CLI::App app(
      "Goodput in simulation: device-seconds spent on samples that are in the result, over those of the jobs from "
      "first\n"
      "start to end. p2d's decision core and its timeouts are the real ones; nodes, training and time are simulated.\n"
      "Every device fails as a Poisson process: the rank ends, hangs, or the node is silently gone until it is "
      "repaired.\n"
      "docs/benchmarks.md, \"Goodput in simulation\", names the sources of the defaults and what is only assumed.");
  app.option_defaults()->always_capture_default();
  app.add_option(
         "--rates", rates,
         "Published rate of unexpected failures: device-hours between two are llama3 50,678, opt 13,605, fair 8,090")
      ->check(CLI::IsMember({"none", "llama3", "opt", "fair"}));
  double mttf = 0;
  app.add_option("--mttf", mttf, "Device-hours between unexpected failures, in place of --rates; 0: as --rates says")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--devices", setting.devices, "Devices of the job")->check(CLI::Range(1, 4096));
  app.add_option("--devices-min", setting.devices_min, "It is elastic, and starts with as few; 0: it is not")
      ->check(CLI::Range(0, 4096));
  app.add_option("--mix", setting.mix_jobs, "Instead of it so many jobs of 8 to 64 devices are kept live; 0: none")
      ->check(CLI::Range(0, 1000));
  app.add_option("--people", setting.people, "Whose jobs these are, in turn: between them fair share decides")
      ->check(CLI::Range(1, 100));
  app.add_option("--nodes", setting.nodes, "Nodes of 8 devices")->check(CLI::Range(1, 512));
  app.add_option("--spare", setting.spare_nodes, "Nodes beside them")->check(CLI::Range(0, 64));
  app.add_option("--days", days, "Then everything is stopped with a checkpoint")->check(CLI::Range(0.1, 3650.0));
  app.add_option("--seed", setting.seed, "The first one; it decides everything that happens");
  app.add_option("--seeds", seeds, "So many runs, of seeds one after the other")->check(CLI::Range(1, 100'000));
  app.add_option("--crash-share", setting.faults.crash_share, "Of failures: a rank ends, its node stays")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--freeze-share", setting.faults.freeze_share, "Of failures: a rank hangs. The rest: the node is gone")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--broken-device-share", setting.faults.broken_device_share,
                 "Of nodes that are gone: they stay instead, with a device on which every rank ends with 51")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--reboot-hours", reboot, "Until a node is back (assumed)")->check(CLI::Range(0.01, 1000.0));
  app.add_option("--replacement-hours", replacement, "The same where parts are replaced (assumed)")
      ->check(CLI::Range(0.01, 1000.0));
  app.add_option("--replacement-share", setting.faults.replacement_share, "Of nodes that are gone (assumed)")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--drain-device-hours", setting.faults.drain_hours,
                 "Between planned drains of a device's node (47 of Llama 3's interruptions were planned); 0: none")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--maintenance-hours", maintenance, "A drained node is away so long (assumed)")
      ->check(CLI::Range(0.01, 1000.0));
  app.add_option("--person-hours", person, "Until somebody looks at a node that jobs break on (assumed)")
      ->check(CLI::Range(0.01, 1000.0));
  app.add_option("--images-per-second", setting.costs.images_per_second, "Of one device (CPU, light-128: measured)")
      ->check(CLI::Range(0.001, 1e6));
  app.add_option("--every-images", setting.costs.checkpoint_every_images,
                 "checkpoint.every_images (default of configs/)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  app.add_option("--write-seconds", write, "Until a checkpoint is durable (CPU, light-128: measured)")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--wait-ms", wait, "Training waits so long for a checkpoint (CPU, light-128: measured)")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--start-seconds", start_up, "From the start of the ranks until they step (CPU, mnist-demo: measured)")
      ->check(CLI::NonNegativeNumber);
  app.add_flag("--play-all", setting.play_all, "Play every heartbeat, tick and checkpoint: slower, the same result");
  app.add_option("--floor", floor, "Exit with 1 if the goodput's mean, in percent, is below")
      ->check(CLI::Range(0.0, 100.0));
  app.add_option("-o,--output", output, "What to print")->check(CLI::IsMember({"text", "json"}));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const int least = setting.devices_min > 0 ? setting.devices_min : setting.devices;
  const int all = (setting.nodes + setting.spare_nodes) * setting.devices_per_node;
  if (least > setting.devices || setting.devices > all || (setting.mix_jobs > 0 && all < 64)) {
    std::cerr << absl::StrFormat(
        "p2_goodput: %d devices cannot run this: --devices-min %d <= --devices %d <= 8 x (--nodes + --spare), and "
        "--mix has jobs of 64\n",
        all, setting.devices_min, setting.devices);
    return 2;
  }
  if (setting.faults.crash_share + setting.faults.freeze_share > 1) {
    std::cerr << "p2_goodput: --crash-share and --freeze-share are parts of the same whole: at most 1 together\n";
    return 2;
  }
  setting.time = absl::Hours(24 * days);
  setting.faults.mttf_hours = mttf > 0 ? mttf : kRates.at(rates);
  setting.faults.reboot = absl::Hours(reboot);
  setting.faults.replacement = absl::Hours(replacement);
  setting.faults.maintenance = absl::Hours(maintenance);
  setting.faults.person = absl::Hours(person);
  setting.costs.start_up = absl::Seconds(start_up);
  setting.costs.checkpoint_write = absl::Seconds(write);
  setting.costs.checkpoint_wait = absl::Milliseconds(wait);

  std::vector<Report> reports;
  for (int i = 0; i < seeds; ++i) {
    Setting one = setting;
    one.seed = setting.seed + i;
    reports.push_back(Cluster(one).Run());
  }
  if (output == "json") {
    PrintJson(setting, reports);
  } else {
    Print(setting, reports);
  }
  return 100 * EstimateOf(reports, [](const Report& it) { return it.Goodput(); }).mean < floor ? 1 : 0;
}

}  // namespace
}  // namespace p2::goodput

int main(int argc, char** argv) { return p2::goodput::Main(argc, argv); }
