// Text about one thing, for people: facts as `Key:  value`, and titled tables below them.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "client/p2ctl/table_printer.h"
#include "p2/v1/event_service.pb.h"

namespace p2::ctl {

// "Owner:        ada\n", wrapped in its column; "" if there is no value. REQUIRES: a key of at most 12 characters.
std::string FactLine(absl::string_view key, absl::string_view value, const TableStyle& style);

// A titled, indented table, with an empty line before it; "\nTitle: none\n" without rows (what stands in parentheses
// behind the title is left out then).
std::string Section(absl::string_view title, const std::vector<TableColumn>& columns,
                    const std::vector<std::vector<TableCell>>& rows, const TableStyle& style);

// The section of a resource's events, the newest 20 of them, oldest first. `events`: oldest first.
std::string EventsSection(const std::vector<v1::Event>& events, const TableStyle& style);

}  // namespace p2::ctl
