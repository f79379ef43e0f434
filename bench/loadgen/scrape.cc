// GET /metrics with many series, and what it costs those who submit meanwhile.
#include <algorithm>
#include <sstream>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "bench/loadgen/background_load.h"
#include "bench/loadgen/http_get.h"
#include "bench/loadgen/quantile.h"
#include "bench/loadgen/running_jobs.h"
#include "bench/loadgen/scenarios.h"
#include "bench/loadgen/submitter.h"
#include "common/status_macros.h"

namespace p2::loadgen {
namespace {

// Jobs that p2d shows series of (kMaxJobSeries), and the values that make theirs ten thousand.
constexpr int kJobs = 256, kValues = 40;
constexpr double kSubmitsPerSecond = 200;

int64_t CountSeries(const std::string& page) {
  std::istringstream lines(page);
  int64_t series = 0;
  for (std::string line; std::getline(lines, line);) series += !line.empty() && line[0] != '#';
  return series;
}

}  // namespace

absl::StatusOr<nlohmann::ordered_json> RunScrape(const ScenarioOptions& options, ServerUnderTest& server) {
  ClientOptions client_options;
  client_options.address = server.grpc();
  P2_ASSIGN_OR_RETURN(const auto client, Client::Connect(client_options));
  P2_ASSIGN_OR_RETURN(
      const auto jobs,
      RunningJobs::Start({.address = server.grpc(), .jobs_per_worker = kJobs, .seed = options.load.seed}, *client));
  for (int job = 0; job < kJobs; ++job) {
    absl::Notification durable;
    absl::Status reported;
    jobs->Report(job, ValuesOf(kValues), [&](const absl::Status& status) {
      reported = status;
      durable.Notify();
    });
    durable.WaitForNotification();
    P2_RETURN_IF_ERROR(reported);
  }

  // A third of the time each: scrapes alone, submits alone, both.
  std::vector<double> times;
  std::string page;
  const absl::Duration third = options.load.duration / 3;
  const absl::Time begin = absl::Now();
  while (times.empty() || absl::Now() - begin < third) {
    const absl::Time due = absl::Now();
    P2_ASSIGN_OR_RETURN(page, HttpGet(server.http(), "/metrics"));
    times.push_back(absl::ToDoubleMilliseconds(absl::Now() - due));
  }
  const double rate = static_cast<double>(times.size()) / absl::ToDoubleSeconds(absl::Now() - begin);
  std::sort(times.begin(), times.end());
  P2_ASSIGN_OR_RETURN(const auto submitter, Submitter::Connect(server.grpc(), options.connections, options.load.seed));
  LoadOptions load = options.load;
  load.duration = third;
  if (load.rate == 0) load.rate = kSubmitsPerSecond;
  int64_t offset = 0;
  const Begin submit = [&](int64_t index, Done done) { submitter->Submit(offset + index, std::move(done)); };
  const LoadResult quiet = RunLoad(load, submit);
  offset = quiet.calls;
  P2_ASSIGN_OR_RETURN(const auto scrapes,
                      BackgroundLoad::Start({.grpc = server.grpc(), .http = server.http(), .watchers = 0}));
  const LoadResult scraped = RunLoad(load, submit);

  nlohmann::ordered_json json = {{"rate_per_s", rate},
                                 {"p50_ms", Quantile(times, 0.5)},
                                 {"p99_ms", Quantile(times, 0.99)},
                                 {"max_ms", times.back()},
                                 {"series", CountSeries(page)},
                                 {"bytes", page.size()},
                                 {"submit_p99_ms", quiet.p99_ms},
                                 {"submit_p99_ms_while_scraped", scraped.p99_ms},
                                 {"submit_rate", load.rate}};
  json["background"] = scrapes->Stop();
  json["errors"] = quiet.errors + scraped.errors + json.at("background").at("scrape_errors").get<int64_t>();
  return json;
}

}  // namespace p2::loadgen
