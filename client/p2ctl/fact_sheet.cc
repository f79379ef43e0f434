#include "client/p2ctl/fact_sheet.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/p2ctl/log_text.h"
#include "client/p2ctl/units.h"
#include "client/p2ctl/wrap_text.h"

namespace p2::ctl {
namespace {

constexpr size_t kValueColumn = 14;

std::string Indented(absl::string_view text) { return absl::StrCat("  ", absl::StrReplaceAll(text, {{"\n", "\n  "}})); }

}  // namespace

std::string FactLine(absl::string_view key, absl::string_view value, const TableStyle& style) {
  if (value.empty()) return "";
  const std::string text = absl::StrCat(key, ":", std::string(kValueColumn - 1 - key.size(), ' '), value);
  return absl::StrCat(WrapText(text, static_cast<size_t>(style.width), [](absl::string_view) { return kValueColumn; }),
                      "\n");
}

std::string Section(absl::string_view title, const std::vector<TableColumn>& columns,
                    const std::vector<std::vector<TableCell>>& rows, const TableStyle& style) {
  if (rows.empty()) return absl::StrCat("\n", title.substr(0, title.find(" (")), ": none\n");
  TableStyle inside = style;
  if (inside.width > 0) inside.width -= 2;  // It is indented.
  std::string table = RenderTable(columns, rows, inside);
  table.pop_back();
  return absl::StrCat("\n", title, ":\n", Indented(table), "\n");
}

std::string EventsSection(const std::vector<v1::Event>& events, const TableStyle& style) {
  constexpr size_t kShown = 20;
  std::vector<std::vector<TableCell>> rows;
  const size_t shown = std::min(kShown, events.size());
  for (size_t i = events.size() - shown; i < events.size(); ++i) {
    const v1::Event& event = events[i];
    rows.push_back({{FormatLocalTime(event.time())}, {event.reason()}, {event.actor()}, {FirstLine(event.message())}});
  }
  return Section(absl::StrCat("Events (", shown, " newest of ", events.size(), ")"),
                 {{.title = "TIME"},
                  {.title = "REASON"},
                  {.title = "ACTOR", .optional = true},
                  {.title = "MESSAGE", .wrap = true}},
                 rows, style);
}

}  // namespace p2::ctl
