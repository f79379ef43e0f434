// How fast the pure core decides: a full pass over a long queue, one event to its decision, and how both grow; and what
// a queued job takes up. No store, no network: the CPU time of Step, SchedulePass and ClusterState::Apply alone, which
// is what the clock shows where nothing else wants the core. (max_us holds what the kernel did meanwhile.)
//
//   scheduler_bench [--jobs 10000] [--nodes 1000] [--events 2000]   JSON on stdout
#include <malloc.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/scheduler/explain.h"
#include "server/scheduler/step.h"

namespace p2::scheduler {
namespace {

constexpr int kSlots = 8;
constexpr int kGangs[] = {1, 1, 2, 4, 8, 8, 16};

// A cluster whose workers answer nothing: gangs stay STARTING and hold their slots.
class Bench {
 public:
  void AddNodes(int count) {
    for (int i = 0; i < count; ++i) {
      WorkerConnected event;
      event.hello.id = absl::StrCat("node-", i);
      event.hello.instance = "i";
      event.hello.roots = {{"data", "root-data", "/data", 1, 1}};
      event.hello.spool_id = "s";
      event.hello.session = i + 1;
      for (int slot = 0; slot < kSlots; ++slot)
        event.hello.slots.push_back({absl::StrCat("cuda:", slot), "cuda", "H100", "", int64_t{80} << 30, 1});
      Do(event);
    }
    Schedule();
  }

  CreateJob NewJob() {
    CreateJob job;
    job.id = absl::StrCat("job-", ++jobs_);
    job.needs.devices = kGangs[random_() % std::size(kGangs)];
    job.needs.kind = "cuda";
    job.needs.dataset_root = job.needs.checkpoint_root = "data";
    job.needs.dataset_root_id = job.needs.checkpoint_root_id = "root-data";
    job.needs.images_total = 1'000'000;
    job.spec_sha256 = "hash";
    job.owner = absl::StrCat("user-", random_() % 20);
    job.project = absl::StrCat("project-", random_() % 4);
    job.priority = static_cast<int>(random_() % 3);
    return job;
  }

  // Without a pass.
  void Queue(int count) {
    for (int i = 0; i < count; ++i) Do(NewJob());
  }

  // Heap that a job takes up while it waits. The jobs are those of 20 people; `sweep`: each has its own spec and label.
  double BytesAJob(int count, bool sweep) {
    const double before = HeapBytes();
    for (int i = 0; i < count; ++i) {
      CreateJob job;
      job.id = absl::StrCat("mnist-demo-", 100'000 + i);
      job.info.request_id = absl::StrCat("0f8fad5b-d9cb-469f-a165-", 100'000'000'000 + i);
      job.needs.kind = "cuda";
      job.needs.dataset = "mnist";
      job.needs.dataset_root = job.needs.checkpoint_root = "data";
      job.needs.dataset_root_id = job.needs.checkpoint_root_id = "7d444840-9dc0-11d1-b245-5ffdce74fad2";
      job.needs.dataset_path = "datasets/mnist-28";
      job.needs.dataset_fingerprint = job.spec_sha256 = job.origins_sha256 = std::string(64, 'f');
      job.preset = "mnist-demo";
      job.labels["team"] = "vision";
      job.owner = absl::StrCat("user-", i % 20);
      if (sweep) {
        job.labels["lr"] = absl::StrCat(i);
        job.spec_sha256.replace(0, job.labels["lr"].size(), job.labels["lr"]);
      }
      Do(job);
    }
    Schedule();
    return (HeapBytes() - before) / count;
  }

  double Timed(const Event& event) {
    const double begin = CpuMicroseconds();
    Do(event);
    Schedule();
    return CpuMicroseconds() - begin;
  }
  double TimedPass() {
    const double begin = CpuMicroseconds();
    Schedule();
    return CpuMicroseconds() - begin;
  }
  // A gang that holds slots ends.
  Event EndOne() {
    const auto& starting = state_.starting_jobs();
    auto it = starting.begin();
    std::advance(it, static_cast<ptrdiff_t>(random_() % std::min<size_t>(starting.size(), 50)));
    return KillJob{{"user:bench"}, *it, ""};
  }
  Event CancelOne() {
    for (const auto& [priority, projects] : state_.queue().ready()) {
      const auto& line = projects.begin()->second.begin()->second.begin()->second;
      return KillJob{{"user:bench"}, line.rbegin()->job, ""};
    }
    return Tick{};
  }
  double TimedStatus() {
    const double begin = CpuMicroseconds();
    const JobPtr job = state_.FindJob(absl::StrCat("job-", 1 + random_() % jobs_));
    return job == nullptr && jobs_ < 0 ? 0 : CpuMicroseconds() - begin;
  }
  int Starting() const { return static_cast<int>(state_.starting_jobs().size()); }
  int Waiting() const { return static_cast<int>(state_.live_jobs().size()) - Starting(); }
  void Forget() { state_.DropFinished(); }

 private:
  static double CpuMicroseconds() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) * 1e-3;
  }
  static double HeapBytes() {
    const auto heap = mallinfo2();
    return static_cast<double>(heap.uordblks + heap.hblkhd);
  }
  void Take(const Event& event) {
    absl::StatusOr<StepResult> result = Step(state_, event, now_, options_);
    if (!result.ok()) {
      std::fprintf(stderr, "scheduler_bench: %s\n", result.status().ToString().c_str());
      std::exit(1);
    }
    for (const Mutation& mutation : result->mutations) state_.Apply(mutation);
  }
  void Do(const Event& event) {
    now_.mono += absl::Microseconds(50);
    now_.wall += absl::Microseconds(50);
    Take(event);
  }
  void Schedule() {
    while (state_.pass_due()) Take(SchedulePass{});
  }

  ClusterState state_;
  StepOptions options_;
  Moment now_{absl::FromUnixSeconds(1'790'000'000), absl::FromUnixSeconds(1000)};
  std::mt19937_64 random_{7};
  int jobs_ = 0;
};

struct Quantiles {
  double p50, p99, max;
};
Quantiles Of(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times[times.size() * 99 / 100], times.back()};
}
std::string Json(const Quantiles& q) {
  char text[100];
  std::snprintf(text, sizeof text, R"({"p50_us":%.1f,"p99_us":%.1f,"max_us":%.1f})", q.p50, q.p99, q.max);
  return text;
}

// One of each a round: submit, the end of a gang (another takes its devices), a cancelled waiting job, a look at a job.
struct Costs {
  Quantiles submit, dequeue, cancel, status;
};
Costs Measure(Bench& bench, int events) {
  std::vector<double> submit, dequeue, cancel, status;
  for (int i = 0; i < events; ++i) {
    submit.push_back(bench.Timed(bench.NewJob()));
    dequeue.push_back(bench.Timed(bench.EndOne()));
    submit.push_back(bench.Timed(bench.NewJob()));
    cancel.push_back(bench.Timed(bench.CancelOne()));
    status.push_back(bench.TimedStatus());
    bench.Forget();
  }
  return {Of(submit), Of(dequeue), Of(cancel), Of(status)};
}

// Slope of log(time) over log(size), by least squares.
double Slope(const std::vector<double>& sizes, const std::vector<double>& times) {
  double mx = 0, my = 0, xy = 0, xx = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    mx += std::log(sizes[i]) / static_cast<double>(sizes.size());
    my += std::log(times[i]) / static_cast<double>(sizes.size());
  }
  for (size_t i = 0; i < sizes.size(); ++i) {
    xy += (std::log(sizes[i]) - mx) * (std::log(times[i]) - my);
    xx += (std::log(sizes[i]) - mx) * (std::log(sizes[i]) - mx);
  }
  return xy / xx;
}

int Main(int argc, char** argv) {
  CLI::App app("How fast the scheduler's core decides");
  int jobs = 10'000, nodes = 1'000, events = 2'000;
  app.add_option("--jobs", jobs, "Jobs in the queue")->capture_default_str();
  app.add_option("--nodes", nodes, "Workers of 8 devices")->capture_default_str();
  app.add_option("--events", events, "Events of each kind")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  std::printf(R"({"bytes_a_job":%.0f,"bytes_a_job_of_a_sweep":%.0f,)", Bench().BytesAJob(jobs, false),
              Bench().BytesAJob(jobs, true));
  Bench bench;
  bench.AddNodes(nodes);
  bench.Queue(jobs);
  const double first_pass = bench.TimedPass();
  const int started = bench.Starting();
  // A pass over them all that finds no more; then one that has another reason to tell each of them.
  bench.Queue(jobs - bench.Waiting());
  const double full_pass = bench.Timed(SetWeight{{"user:bench"}, "projects/project-0", 1});
  const double retold_pass = bench.Timed(DiskState{true, "the disk is full"});
  bench.Timed(DiskState{false, ""});
  const Costs costs = Measure(bench, events);
  std::printf(R"("jobs":%d,"nodes":%d,"first_pass_ms":%.2f,"started":%d,"full_pass_ms":%.2f,"retold_pass_ms":%.2f,)",
              jobs, nodes, first_pass / 1000, started, full_pass / 1000, retold_pass / 1000);
  std::printf(R"("submit":%s,"dequeue":%s,"cancel":%s,"status":%s,)", Json(costs.submit).c_str(),
              Json(costs.dequeue).c_str(), Json(costs.cancel).c_str(), Json(costs.status).c_str());

  const auto grow = [&](const char* name, const std::vector<std::pair<int, int>>& points, bool by_jobs) {
    std::vector<double> sizes, submit, dequeue, cancel, status;
    for (const auto& [of_jobs, of_nodes] : points) {
      Bench one;
      one.AddNodes(of_nodes);
      one.Queue(of_jobs + of_nodes * 4);
      one.TimedPass();
      const Costs at = Measure(one, std::min(events, 1000));
      sizes.push_back(by_jobs ? of_jobs : of_nodes);
      submit.push_back(at.submit.p50);
      dequeue.push_back(at.dequeue.p50);
      cancel.push_back(at.cancel.p50);
      status.push_back(at.status.p50);
    }
    const auto list = [](const std::vector<double>& values) {
      return absl::StrJoin(values, ",", [](std::string* out, double value) { absl::StrAppend(out, value); });
    };
    std::printf(R"("%s":{"sizes":[%s],"submit_us":[%s],"dequeue_us":[%s],"cancel_us":[%s],"status_us":[%s],)", name,
                list(sizes).c_str(), list(submit).c_str(), list(dequeue).c_str(), list(cancel).c_str(),
                list(status).c_str());
    std::printf(R"("slope":{"submit":%.3f,"dequeue":%.3f,"cancel":%.3f,"status":%.3f}})", Slope(sizes, submit),
                Slope(sizes, dequeue), Slope(sizes, cancel), Slope(sizes, status));
  };
  grow("by_jobs", {{1'000, 100}, {10'000, 100}, {100'000, 100}}, true);
  std::printf(",");
  grow("by_nodes", {{10'000, 10}, {10'000, 100}, {10'000, 1'000}}, false);
  std::printf("}\n");
  return 0;
}

}  // namespace
}  // namespace p2::scheduler

int main(int argc, char** argv) { return p2::scheduler::Main(argc, argv); }
