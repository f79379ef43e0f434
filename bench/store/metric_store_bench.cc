// What metrics cost beside their arrival: a query of a range of positions; and old ones that are thinned, how long that
// holds p2d's loop, and the synced batch behind it.
//
//   metric_store_bench --dir DIR [--chunks 2000] [--values 100]   DIR must not exist, and is removed
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/store/rocksdb_job_store.h"

namespace p2::store {
namespace {

constexpr int kRowsPerChunk = 128;
constexpr absl::Duration kBudget = absl::Milliseconds(2);  // That of a tick.

scheduler::AppendMetrics Row(int n, int values) {
  scheduler::AppendMetrics row{.job = "job",
                               .attempt = 1,
                               .sequence = static_cast<uint64_t>(n),
                               .images_seen = n,
                               .step = n,
                               .time = absl::FromUnixSeconds(n),
                               .received = absl::FromUnixSeconds(n)};
  for (int i = 0; i < values; ++i) row.values[absl::StrCat("metric/", i)] = 1.0 / (n + i);
  return row;
}

class Times {
 public:
  template <typename F>
  auto Measure(const F& what) {
    const absl::Time begin = absl::Now();
    auto result = what();
    ms_.push_back(absl::ToDoubleMilliseconds(absl::Now() - begin));
    return result;
  }
  std::string Show() {
    std::sort(ms_.begin(), ms_.end());
    const auto at = [this](double part) {
      return ms_[static_cast<size_t>(part * static_cast<double>(ms_.size() - 1))];
    };
    return absl::StrCat("p50 ", at(0.5), " p99 ", at(0.99), " max ", at(1), " ms");
  }

 private:
  std::vector<double> ms_;
};

absl::Status Run(const std::string& directory, int chunks, int values) {
  const RocksDbJobStoreOptions options{.database_path = directory + "/db", .commits_path = directory + "/commits"};
  auto store = OpenRocksDbJobStore(options);
  if (!store.ok()) return store.status();
  for (int chunk = 0; chunk < chunks; ++chunk) {
    std::vector<scheduler::Mutation> rows;
    for (int i = 1; i <= kRowsPerChunk; ++i) rows.push_back(Row(chunk * kRowsPerChunk + i, values));
    if (absl::Status status = (*store)->Apply(rows); !status.ok()) return status;
  }
  store->reset();
  store = OpenRocksDbJobStore(options);
  if (!store.ok()) return store.status();
  Times whole, end;
  const int64_t rows = int64_t{chunks} * kRowsPerChunk, first = rows - rows / 100;
  for (int i = 0; i < 5; ++i) {
    int64_t all = 0, found = 0;
    absl::Status status =
        whole.Measure([&] { return (*store)->ReadMetrics("job", {}, [&](const MetricRow&) { return ++all > 0; }); });
    if (status.ok()) {
      status = end.Measure(
          [&] { return (*store)->ReadMetricsBetween("job", first, rows, [&](const MetricRow&) { ++found; }); });
    }
    if (!status.ok()) return status;
    if (all != rows || found != rows - first + 1) return absl::InternalError("rows are missing");
  }
  printf("%d chunks of %d rows of %d values\n  reading all: %s\n  the last hundredth: %s\n", chunks, kRowsPerChunk,
         values, whole.Show().c_str(), end.Show().c_str());
  Times prepared, held, next;
  int taken = 0, ticks = 0;
  while (true) {
    const auto thinned = prepared.Measure([&] { return (*store)->PrepareThinning(absl::InfiniteFuture(), kBudget); });
    if (!thinned.ok()) return thinned.status();
    if (thinned->empty()) break;
    if (absl::Status status = held.Measure([&] { return (*store)->CommitThinning(*thinned); }); !status.ok())
      return status;
    taken += static_cast<int>(thinned->size());
    ++ticks;
    const scheduler::Mutation small = scheduler::SetSpoolAck{.worker = "w", .spool_id = "s", .sequence = 1};
    if (absl::Status status = next.Measure([&] { return (*store)->Apply({&small, 1}); }); !status.ok()) return status;
  }
  printf("thinning %d chunks in %d ticks\n  beside the loop: %s\n  held: %s\n  the next batch: %s\n", taken, ticks,
         prepared.Show().c_str(), held.Show().c_str(), next.Show().c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace p2::store

int main(int argc, char** argv) {
  std::string directory;
  int chunks = 2000, values = 100;
  CLI::App app("What metrics cost beside their arrival");
  app.add_option("--dir", directory, "Where the store is made")->required()->check(!CLI::ExistingPath);
  app.add_option("--chunks", chunks)->check(CLI::Range(2, 1'000'000));
  app.add_option("--values", values, "A row")->check(CLI::Range(1, 1000));
  CLI11_PARSE(app, argc, argv);
  std::filesystem::create_directories(directory);
  const absl::Status status = p2::store::Run(directory, chunks, values);
  std::filesystem::remove_all(directory);
  if (status.ok()) return 0;
  fprintf(stderr, "metric_store_bench: %s\n", status.ToString().c_str());
  return 1;
}
