#include "bench/loadgen/background_load.h"

#include <algorithm>

#include "absl/time/clock.h"
#include "bench/loadgen/http_get.h"
#include "bench/loadgen/quantile.h"
#include "common/status_macros.h"

namespace p2::loadgen {

absl::StatusOr<std::unique_ptr<BackgroundLoad>> BackgroundLoad::Start(const BackgroundOptions& options) {
  auto load = std::make_unique<BackgroundLoad>();
  if (options.watchers > 0) {
    P2_ASSIGN_OR_RETURN(load->watchers_, Watchers::Start(options.grpc, options.watchers));
    load->watchers_->Measure(true);
  }
  load->scraper_ = std::thread([raw = load.get(), options] { raw->Scrape(options); });
  return load;
}

void BackgroundLoad::Scrape(const BackgroundOptions& options) {
  do {
    const absl::Time begin = absl::Now();
    const absl::StatusOr<std::string> page = HttpGet(options.http, "/metrics");
    if (page.ok()) {
      scrapes_.push_back(absl::ToDoubleMilliseconds(absl::Now() - begin));
      scrape_bytes_ = page->size();
    } else {
      ++scrape_errors_;
    }
  } while (!stop_.WaitFor(options.scrape_interval));
}

nlohmann::ordered_json BackgroundLoad::Stop() {
  if (!scraper_.joinable()) return {};
  stop_.Ring();
  scraper_.join();
  std::sort(scrapes_.begin(), scrapes_.end());
  nlohmann::ordered_json json = {{"scrapes", scrapes_.size()},
                                 {"scrape_p50_ms", Quantile(scrapes_, 0.5)},
                                 {"scrape_p99_ms", Quantile(scrapes_, 0.99)},
                                 {"scrape_bytes", scrape_bytes_},
                                 {"scrape_errors", scrape_errors_}};
  if (watchers_ != nullptr) json.update(watchers_->ToJson());
  watchers_.reset();
  return json;
}

}  // namespace p2::loadgen
