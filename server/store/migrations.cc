#include "server/store/migrations.h"

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "p2/storage/v1/records.pb.h"
#include "server/scheduler/types.h"
#include "server/store/keys.h"

namespace p2::store {
namespace {

absl::Status FillOrderKeys(const Database::View& view, Batch& batch) {
  for (const Table table : {kLiveJobs, kFinishedJobs}) {
    p2::storage::v1::Job job;
    bool whole = true;
    P2_RETURN_IF_ERROR(view.Scan(Key(table), "", [&](absl::string_view, absl::string_view payload) {
      whole = job.ParseFromArray(payload.data(), static_cast<int>(payload.size()));
      if (!whole || job.order_key() != 0) return whole;
      job.set_order_key(scheduler::DefaultOrderKey(job.create_order()));
      batch.Put(Key(table).Text(job.id()), job);
      return true;
    }));
    if (!whole) return absl::DataLossError(absl::StrCat("a job after \"", job.id(), "\" cannot be parsed"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Migrate(const Database::View& view, int from, Batch& batch) {
  if (from < 2) P2_RETURN_IF_ERROR(FillOrderKeys(view, batch));
  return absl::OkStatus();
}

}  // namespace p2::store
