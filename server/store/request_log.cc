#include "server/store/request_log.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status_macros.h"
#include "p2/storage/v1/records.pb.h"
#include "server/store/keys.h"
#include "server/store/record_codec.h"

namespace p2::store {
namespace {

constexpr absl::Duration kLife = absl::Hours(7 * 24);
constexpr size_t kSweptForEach = 4;  // More than one.

uint64_t ToNumber(absl::Time time) { return static_cast<uint64_t>(absl::ToUnixNanos(time)); }

void PutExpiry(Batch& batch, const std::string& request_id, absl::Time expiry) {
  batch.Put(Key(kRequestsByExpiry).Number(ToNumber(expiry)).Text(request_id), request_id);
}

}  // namespace

void RequestLog::Put(Batch& batch, const scheduler::RequestRecord& request) {
  batch.Put(Key(kRequests).Text(request.request_id), ToStorage(request));
  PutExpiry(batch, request.request_id, request.time + kLife);
  times_.push_back(request.time);
}

absl::Status RequestLog::Sweep(Batch& batch, absl::FunctionRef<bool(absl::string_view job)> exists) {
  if (times_.empty()) return absl::OkStatus();
  const absl::Time now = times_.back();
  const absl::Time first_put_expires = *std::min_element(times_.begin(), times_.end()) + kLife;
  const size_t most = kSweptForEach * times_.size();
  times_.clear();
  if (now < next_expiry_) {
    next_expiry_ = std::min(next_expiry_, first_put_expires);
    return absl::OkStatus();
  }
  next_expiry_ = first_put_expires;
  std::vector<std::pair<Key, std::string>> expired;
  P2_RETURN_IF_ERROR(
      Database::View(database_).Scan(Key(kRequestsByExpiry), "", [&](absl::string_view key, absl::string_view id) {
        const uint64_t expiry = LastNumber(key.substr(0, 1 + 8));
        if (expiry > ToNumber(now) || expired.size() >= most) {
          next_expiry_ = std::min(next_expiry_, absl::FromUnixNanos(static_cast<int64_t>(expiry)));
          return false;
        }
        expired.emplace_back(Key(kRequestsByExpiry).Number(expiry).Text(id), std::string(id));
        return true;
      }));
  for (auto& [key, id] : expired) {
    batch.Delete(std::move(key));
    P2_ASSIGN_OR_RETURN(const std::optional<std::string> stored, database_.Get(Key(kRequests).Text(id)));
    if (!stored.has_value()) continue;
    pb::Request request;
    if (!request.ParseFromString(*stored)) {
      return absl::DataLossError(absl::StrCat("request \"", absl::CHexEscape(id), "\" cannot be parsed"));
    }
    absl::string_view job = request.resource();
    if (absl::ConsumePrefix(&job, "jobs/") && exists(job)) {
      PutExpiry(batch, id, now + kLife);  // Not before what was just put.
    } else {
      batch.Delete(Key(kRequests).Text(id));
    }
  }
  return absl::OkStatus();
}

}  // namespace p2::store
