// All pages of a list call, or as many as a limit needs.
#pragma once

#include <google/protobuf/repeated_ptr_field.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/status_macros.h"
#include "p2/client.h"

namespace p2::ctl {

template <typename Item>
struct Page {
  std::vector<Item> items;
  std::string next_page_token;  // Empty: that was all.
};

// `limit`: 0 for all. Starts at the token that `request` holds.
//   CollectPages(client, &Client::ListJobs, &v1::ListJobsResponse::jobs, request, 50)
template <typename Item, typename Request, typename Response>
absl::StatusOr<Page<Item>> CollectPages(Client& client, absl::StatusOr<Response> (Client::*list)(const Request&),
                                        const google::protobuf::RepeatedPtrField<Item>& (Response::*items)() const,
                                        Request request, int64_t limit = 0) {
  constexpr int64_t kMaxPage = 1000;
  Page<Item> page;
  while (true) {
    const int64_t wanted = limit > 0 ? limit - static_cast<int64_t>(page.items.size()) : kMaxPage;
    request.set_page_size(static_cast<int32_t>(std::min(wanted, kMaxPage)));
    P2_ASSIGN_OR_RETURN(const Response response, (client.*list)(request));
    page.items.insert(page.items.end(), (response.*items)().begin(), (response.*items)().end());
    page.next_page_token = response.next_page_token();
    request.set_page_token(page.next_page_token);
    const bool full = limit > 0 && static_cast<int64_t>(page.items.size()) >= limit;
    if (full || page.next_page_token.empty()) return page;
  }
}

}  // namespace p2::ctl
