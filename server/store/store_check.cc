#include "server/store/store_check.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/types/span.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "p2/storage/v1/records.pb.h"
#include "server/scheduler/job_lifecycle.h"
#include "server/store/keys.h"

namespace p2::store {
namespace {

namespace pb = p2::storage::v1;

constexpr int kAskEvery = 1024;  // Records between two looks at whether the caller left.

// "files a/job-a/x.png/": the family, the table's letter, the fields; what is no text is escaped.
std::string NameOf(Family family, absl::string_view key) {
  return absl::StrCat(
      kFamilyNames[static_cast<size_t>(family)], " ", absl::CEscape(key.substr(0, 1)), "/",
      absl::CEscape(absl::StrReplaceAll(key.substr(key.empty() ? 0 : 1), {{absl::string_view("\0\1", 2), "/"}})));
}

class Checker {
 public:
  Checker(const Database& database, const Cancelled& cancelled)
      : database_(database), view_(database), cancelled_(cancelled) {}

  absl::StatusOr<StoreReport> Run() {
    P2_RETURN_IF_ERROR(FindDamage("database", database_.VerifyChecksums()));
    absl::StatusOr<StoreNumbers> numbers = database_.Numbers();
    if (numbers.ok()) report_.numbers = *numbers;
    P2_RETURN_IF_ERROR(FindDamage("database", numbers.status()));
    for (const Kind& kind : Kinds()) report_.records[kind.name] = 0;
    for (size_t family = 0; family < std::size(kFamilyNames); ++family) {
      bool left = false;
      P2_RETURN_IF_ERROR(
          FindDamage(kFamilyNames[family],
                     view_.ScanRaw(static_cast<Family>(family), [&](absl::string_view key, absl::string_view value) {
                       left = cancelled_ != nullptr && ++seen_ % kAskEvery == 0 && cancelled_();
                       if (!left) Look(static_cast<Family>(family), key, value);
                       return !left && error_.ok();
                     })));
      if (left) return absl::CancelledError("the caller left");
      P2_RETURN_IF_ERROR(error_);
    }
    CheckCounters();
    return std::move(report_);
  }

 private:
  struct Kind {
    Table table;
    const char* name;
    void (Checker::*check)(absl::string_view key, absl::string_view payload);
  };
  static absl::Span<const Kind> Kinds();

  void Find(std::string subject, std::string message) {
    ++report_.finding_count;
    if (report_.findings.size() < StoreReport::kMaxFindings)
      report_.findings.push_back({std::move(subject), std::move(message)});
  }

  // Damage becomes a finding; another error ends the check.
  absl::Status FindDamage(const std::string& subject, const absl::Status& status) {
    if (!absl::IsDataLoss(status)) return status;
    Find(subject, std::string(status.message()));
    return absl::OkStatus();
  }

  void Look(Family family, absl::string_view key, absl::string_view value) {
    family_ = family;
    const std::string name = NameOf(family, key);
    const auto kind = std::find_if(Kinds().begin(), Kinds().end(), [&](const Kind& known) {
      return known.table.family == family && !key.empty() && known.table.letter == key.front();
    });
    if (kind == Kinds().end()) return Find(name, "is of no known table");
    ++report_.records[kind->name];
    const absl::StatusOr<absl::string_view> payload = DecodeValue(key, value);
    if (!payload.ok()) return Find(name, std::string(payload.status().message()));
    (this->*kind->check)(key, *payload);
  }

  // False, and a finding, if the payload is no such message.
  template <typename Message>
  bool Parse(absl::string_view key, absl::string_view payload, Message& message) {
    if (message.ParseFromArray(payload.data(), static_cast<int>(payload.size()))) return true;
    Find(NameOf(family_, key), absl::StrCat("is no ", Message::descriptor()->name()));
    return false;
  }
  template <typename Message>
  void CheckMessage(absl::string_view key, absl::string_view payload) {
    Message message;
    Parse(key, payload, message);
  }
  void CheckNothing(absl::string_view, absl::string_view) {}

  // The payload under another key; a damaged one is found where it lies.
  std::optional<std::string> Get(const Key& key) {
    absl::StatusOr<std::optional<std::string>> payload = view_.Get(key);
    if (payload.ok()) return *std::move(payload);
    if (!absl::IsDataLoss(payload.status())) error_ = payload.status();
    return "";
  }
  bool Has(const Key& key) { return Get(key).has_value(); }
  bool HasJob(const std::string& id) { return Has(Key(kLiveJobs).Text(id)) || Has(Key(kFinishedJobs).Text(id)); }

  void CheckJob(const pb::Job& job) {
    const std::string name = absl::StrCat("jobs/", job.id());
    last_.set_job_revision(std::max(last_.job_revision(), job.revision()));
    last_.set_create_order(std::max(last_.create_order(), job.create_order()));
    for (const std::string& spec : {job.spec_sha256(), job.origins_sha256()}) {
      if (!spec.empty() && !Has(Key(kSpecs).Text(spec))) Find(name, absl::StrCat("its spec ", spec, " is missing"));
    }
  }

  void CheckLiveJob(absl::string_view key, absl::string_view payload) {
    pb::Job job;
    if (!Parse(key, payload, job)) return;
    CheckJob(job);
    const std::string name = absl::StrCat("jobs/", job.id());
    if (scheduler::IsTerminal(static_cast<scheduler::JobState>(job.state())))
      Find(name, "has ended and is still among the live jobs");
    if (Has(Key(kFinishedJobs).Text(job.id()))) Find(name, "is both live and ended");
    if (!job.latest_checkpoint().empty() && !Has(Key(kCheckpoints).Text(job.id()).Text(job.latest_checkpoint())))
      Find(name, absl::StrCat("its latest checkpoint ", job.latest_checkpoint(), " has no record"));
  }

  void CheckFinishedJob(absl::string_view key, absl::string_view payload) {
    pb::Job job;
    if (!Parse(key, payload, job)) return;
    CheckJob(job);
    const std::string name = absl::StrCat("jobs/", job.id());
    if (!scheduler::IsTerminal(static_cast<scheduler::JobState>(job.state())))
      Find(name, "is among the ended jobs and has not ended");
    if (Get(Key(kFinishedByAge).Number(static_cast<uint64_t>(job.create_order()))) != job.id())
      Find(name, "is not where the index of ended jobs by age should have it");
  }

  void CheckByAge(absl::string_view, absl::string_view id) {
    if (!Has(Key(kFinishedJobs).Text(id)))
      Find(absl::StrCat("jobs/", id), "is in the index of ended jobs and has no record");
  }

  void CheckSpec(absl::string_view key, absl::string_view bytes) {
    const std::string sha256 = Sha256Hex(bytes);
    if (Key(kSpecs).Text(sha256).bytes() != key) Find(NameOf(family_, key), absl::StrCat("holds the spec ", sha256));
  }

  template <typename Message>
  void CheckOfJob(absl::string_view key, absl::string_view payload) {
    Message message;
    if (Parse(key, payload, message) && !HasJob(message.job()))
      Find(NameOf(family_, key), absl::StrCat("belongs to job ", message.job(), ", which has no record"));
  }

  void CheckEvent(absl::string_view key, absl::string_view payload) {
    pb::Event event;
    if (!Parse(key, payload, event)) return;
    last_.set_event_revision(std::max(last_.event_revision(), event.revision()));
    if (!Has(Key(kEventsByResource).Text(event.resource()).Number(static_cast<uint64_t>(event.revision()))))
      Find(absl::StrCat("events/", event.revision()), absl::StrCat("is not in the index of ", event.resource()));
  }

  void CheckEventIndex(absl::string_view key, absl::string_view) {
    const uint64_t revision = LastNumber(key);
    if (!Has(Key(kEvents).Number(revision)))
      Find(absl::StrCat("events/", revision), "is in an index and has no record");
  }

  void CheckExpiry(absl::string_view, absl::string_view id) {
    if (!Has(Key(kRequests).Text(id))) Find(absl::StrCat("request ", id), "has an expiry and no record");
  }

  void CheckMetricChunk(absl::string_view key, absl::string_view payload) {
    pb::MetricChunk chunk;
    if (!Parse(key, payload, chunk)) return;
    for (const pb::MetricRow& row : chunk.rows()) {
      const int columns = row.columns_size();
      const auto fits = [columns](int size) { return size == 0 || size == columns; };
      const bool known = std::all_of(row.columns().begin(), row.columns().end(), [&chunk](uint32_t column) {
        return column < static_cast<uint32_t>(chunk.names_size());
      });
      if (known && row.values_size() == columns && fits(row.counts_size()) && row.mins_size() == row.counts_size() &&
          row.maxs_size() == row.counts_size())
        continue;
      return Find(NameOf(family_, key),
                  absl::StrCat("row ", row.sequence(), " has ", columns, " columns, ", row.values_size(), " values, ",
                               row.counts_size(), " counts, ", row.mins_size(), " minima, ", row.maxs_size(),
                               " maxima and ", chunk.names_size(), " names to choose from"));
    }
  }

  void CheckCounters() {
    pb::Counters counters;
    const std::optional<std::string> payload = Get(Key(kMeta).Text("counters"));
    if (payload.has_value() && !counters.ParseFromString(*payload)) return Find("counters", "is no Counters");
    const auto compare = [&](const char* name, int64_t counter, int64_t last) {
      if (counter < last) Find("counters", absl::StrCat(name, " is ", counter, ", and ", last, " was given already"));
    };
    compare("job_revision", counters.job_revision(), last_.job_revision());
    compare("event_revision", counters.event_revision(), last_.event_revision());
    compare("create_order", counters.create_order(), last_.create_order());
  }

  const Database& database_;
  const Database::View view_;
  const Cancelled& cancelled_;
  StoreReport report_;
  pb::Counters last_;  // The highest that records bear.
  absl::Status error_;
  Family family_ = Family::kMeta;  // That is read now.
  int seen_ = 0;
};

absl::Span<const Checker::Kind> Checker::Kinds() {
  static constexpr Kind kKinds[] = {
      {kMeta, "meta", &Checker::CheckNothing},
      {kLiveJobs, "job", &Checker::CheckLiveJob},
      {kFinishedJobs, "finished", &Checker::CheckFinishedJob},
      {kFinishedByAge, "finished by age", &Checker::CheckByAge},
      {kSpecs, "spec", &Checker::CheckSpec},
      {kWorkers, "worker", &Checker::CheckMessage<pb::Worker>},
      {kSpoolAcks, "spool ack", &Checker::CheckMessage<pb::SpoolAck>},
      {kDatasets, "dataset", &Checker::CheckMessage<pb::Dataset>},
      {kDeletions, "deletion", &Checker::CheckMessage<pb::Deletion>},
      {kQueues, "queue", &Checker::CheckMessage<pb::Queue>},
      {kShares, "share", &Checker::CheckMessage<pb::Share>},
      {kQuotas, "quota", &Checker::CheckMessage<pb::Quota>},
      {kCheckpoints, "checkpoint", &Checker::CheckOfJob<pb::Checkpoint>},
      {kArtifacts, "artifact", &Checker::CheckOfJob<pb::Artifact>},
      {kEvents, "event", &Checker::CheckEvent},
      {kEventsByResource, "event by resource", &Checker::CheckEventIndex},
      {kRequests, "request", &Checker::CheckMessage<pb::Request>},
      {kRequestsByExpiry, "request by expiry", &Checker::CheckExpiry},
      {kMetricChunks, "metrics", &Checker::CheckMetricChunk},
      {kSupersedes, "supersede", &Checker::CheckMessage<pb::Supersede>},
      {kThinningDue, "thinning due", &Checker::CheckMessage<pb::ThinningDue>},
  };
  return kKinds;
}

}  // namespace

absl::StatusOr<StoreReport> CheckStore(const Database& database, const Cancelled& cancelled) {
  return Checker(database, cancelled).Run();
}

}  // namespace p2::store
