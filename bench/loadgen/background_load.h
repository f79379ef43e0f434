// Scrapes and watches beside what is measured.
#pragma once

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/loadgen/watchers.h"
#include "common/doorbell.h"
#include "nlohmann/json.hpp"

namespace p2::loadgen {

struct BackgroundOptions {
  std::string grpc, http;  // p2d's addresses.
  int watchers = 10;
  absl::Duration scrape_interval = absl::Seconds(1);
};

// Confined to one thread.
class BackgroundLoad {
 public:
  static absl::StatusOr<std::unique_ptr<BackgroundLoad>> Start(const BackgroundOptions& options);
  ~BackgroundLoad() { Stop(); }

  // Ends it, once. scrapes, scrape_p50_ms, scrape_p99_ms, scrape_bytes (the last one's), scrape_errors, and
  // Watchers::ToJson.
  nlohmann::ordered_json Stop();

 private:
  void Scrape(const BackgroundOptions& options);

  std::unique_ptr<Watchers> watchers_;
  Doorbell stop_;
  std::thread scraper_;

  // Of the scraping thread until it is joined.
  std::vector<double> scrapes_;  // ms
  size_t scrape_bytes_ = 0;
  int64_t scrape_errors_ = 0;
};

}  // namespace p2::loadgen
