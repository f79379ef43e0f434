// Which metrics a job has, and all their points, however many they are.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "p2/client.h"

namespace p2::ctl {

// loss_snr_07, count_snr_07 …, loss_q3, loss_coarse …: the loss by bins of the SNR, quarters of t and stages. An
// interval without samples there leaves it out.
bool IsPartOfLoss(absl::string_view metric);

// By name; empty while it has no points.
absl::StatusOr<std::vector<std::string>> MetricsOf(Client& client, const std::string& job);

// `names`, with "loss_snr_*" replaced by those of `known` that begin so. INVALID_ARGUMENT that tells what `known` has:
// a name that is not in it. Everything fits an empty `known`: nothing can be said yet.
absl::StatusOr<std::vector<std::string>> ChooseMetrics(const std::vector<std::string>& names,
                                                       const std::vector<std::string>& known);

// Whether a point of it stands for several.
bool IsThinned(const v1::QueryMetricsResponse& response);

// As Client::QueryMetrics, but where all points were wanted (max_points 0) and p2d thinned them, since one answer would
// be too big, it asks in parts, as long as that brings more points (old ones p2d has kept thinned): of the metrics,
// then of the range. A metric may then come as several series. `last_images`: where the job stands. REQUIRES: metrics
// are named.
absl::StatusOr<v1::QueryMetricsResponse> QueryAllMetrics(Client& client, const v1::QueryMetricsRequest& request,
                                                         int64_t last_images);

}  // namespace p2::ctl
