#include "server/store/supersedes.h"

#include <algorithm>
#include <limits>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "p2/storage/v1/records.pb.h"

namespace p2::store {

absl::StatusOr<Supersedes> Supersedes::Read(const Database::View& view, const Key& of_job) {
  Supersedes supersedes;
  bool whole = true;
  P2_RETURN_IF_ERROR(view.Scan(of_job, "", [&](absl::string_view, absl::string_view payload) {
    p2::storage::v1::Supersede message;
    whole = message.ParseFromArray(payload.data(), static_cast<int>(payload.size()));
    supersedes.starts_[message.attempt()] = message.images_seen();
    return whole;
  }));
  if (whole) return supersedes;
  return absl::DataLossError(absl::StrCat("a record of \"", absl::CHexEscape(of_job.bytes()), "\" cannot be parsed"));
}

int64_t Supersedes::LastGood(int attempt) const {
  int64_t images = std::numeric_limits<int64_t>::max();
  for (auto it = starts_.upper_bound(attempt); it != starts_.end(); ++it) images = std::min(images, it->second);
  return images;
}

}  // namespace p2::store
