#include "client/p2ctl/table_printer.h"

#include <libsmartcols.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <numeric>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace p2::ctl {
namespace {

constexpr absl::string_view kGap = "  ";
// A column that may be cut short or wraps is of use from here on.
constexpr size_t kLeastText = 28;

// Of UTF-8 text whose characters are all one column wide.
size_t Width(absl::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

// Which columns are shown.
std::vector<size_t> Fitting(const std::vector<TableColumn>& columns, const std::vector<std::vector<TableCell>>& rows,
                            const TableStyle& style) {
  std::vector<size_t> shown(columns.size());
  std::iota(shown.begin(), shown.end(), size_t{0});
  std::vector<size_t> widths(columns.size());
  size_t total = 0;
  for (size_t i = 0; i < columns.size(); ++i) {
    widths[i] = Width(columns[i].title);
    for (const std::vector<TableCell>& row : rows) widths[i] = std::max(widths[i], Width(row[i].text));
    if (columns[i].truncate || columns[i].wrap) widths[i] = std::min(widths[i], kLeastText);
    total += widths[i] + kGap.size();
  }
  if (style.width <= 0) return shown;
  for (size_t i = columns.size(); i-- > 0 && total - kGap.size() > static_cast<size_t>(style.width);) {
    if (!columns[i].optional) continue;
    shown.erase(std::find(shown.begin(), shown.end(), i));
    total -= widths[i] + kGap.size();
  }
  return shown;
}

}  // namespace

std::string RenderTable(const std::vector<TableColumn>& columns, const std::vector<std::vector<TableCell>>& rows,
                        const TableStyle& style) {
  if (rows.empty() && !style.headers) return "";
  const std::unique_ptr<libscols_table, void (*)(libscols_table*)> table(scols_new_table(), scols_unref_table);
  scols_table_enable_noheadings(table.get(), !style.headers);
  scols_table_enable_colors(table.get(), style.color);
  scols_table_set_column_separator(table.get(), kGap.data());
  scols_table_set_termforce(table.get(), style.width > 0 ? SCOLS_TERMFORCE_ALWAYS : SCOLS_TERMFORCE_NEVER);
  if (style.width > 0) scols_table_set_termwidth(table.get(), static_cast<size_t>(style.width));
  const std::vector<size_t> shown = Fitting(columns, rows, style);
  for (const size_t i : shown) {
    const TableColumn& column = columns[i];
    const int flags = (column.right ? SCOLS_FL_RIGHT : 0) | (column.truncate ? SCOLS_FL_TRUNC : 0) |
                      (column.wrap ? SCOLS_FL_WRAP : 0);
    scols_table_new_column(table.get(), column.title.c_str(), 0, flags);
  }
  for (const std::vector<TableCell>& row : rows) {
    libscols_line* line = scols_table_new_line(table.get(), nullptr);
    for (size_t at = 0; at < shown.size(); ++at) {
      const TableCell& cell = row[shown[at]];
      scols_line_set_data(line, at, cell.text.empty() ? "-" : cell.text.c_str());
      if (!cell.color.empty()) scols_cell_set_color(scols_line_get_cell(line, at), cell.color.c_str());
    }
  }
  char* text = nullptr;
  if (rows.empty()) {  // libsmartcols prints nothing at all for a table without lines.
    const auto title = [&columns](std::string* out, size_t i) { out->append(columns[i].title); };
    return absl::StrJoin(shown, kGap, title) + "\n";
  }
  scols_print_table_to_string(table.get(), &text);
  const std::unique_ptr<char, void (*)(void*)> owned(text, std::free);
  std::string out;
  for (absl::string_view line : absl::StrSplit(absl::StripSuffix(text, "\n"), '\n')) {
    out.append(std::string(absl::StripTrailingAsciiWhitespace(line))).push_back('\n');
  }
  return out;
}

}  // namespace p2::ctl
