// progress.csv: a row for each report, under the column names of the published code's logger where it has the value.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/file_util.h"

namespace p2::trainer {

// The published code's columns: grad_norm, loss, loss_q0 … loss_q3 (by quarters of t), mse and vb likewise, samples
// (images seen) and step (zero-based, of the last step). Its mse is the weighted one; p2's unweighted one is mse_raw.
// Then p2's own, and ema_distance_<profile> of each average. A value that a report lacks is an empty cell.
// Thread-compatible; errors name the file.
class ProgressCsv {
 public:
  // Opens `path` or makes it. Rows of a run that went past `images_seen` are removed, as are torn ones; rows under
  // other columns (another version, other averages) are brought under these.
  static absl::StatusOr<std::unique_ptr<ProgressCsv>> Open(const std::string& path, int64_t images_seen,
                                                           const std::vector<std::string>& ema_profiles);

  // A report at `images_seen`, after `step` steps, by the names of MetricPoints.
  absl::Status Add(int64_t images_seen, int64_t step, const std::map<std::string, double>& values);

  // Removes the rows past `images_seen`: the run went back.
  absl::Status Truncate(int64_t images_seen);

 private:
  ProgressCsv(std::string path, std::vector<std::string> columns)
      : path_(std::move(path)), columns_(std::move(columns)) {}

  const std::string path_;
  const std::vector<std::string> columns_;
  UniqueFd fd_;
};

}  // namespace p2::trainer
