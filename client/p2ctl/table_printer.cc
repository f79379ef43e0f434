#include "client/p2ctl/table_printer.h"

#include <libsmartcols.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <numeric>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/p2ctl/wrap_text.h"

namespace p2::ctl {
namespace {

constexpr absl::string_view kGap = "  ";
// A column that may be cut short, or that wraps, is of use from here on.
constexpr size_t kLeastCut = 28;
constexpr size_t kLeastWrapped = 12;

struct Layout {
  std::vector<size_t> shown;  // Indices of columns.
  size_t wrap_at = 0;         // Of the column that wraps; 0: it has all the room it wants.
};

Layout Fit(const std::vector<TableColumn>& columns, const std::vector<std::vector<TableCell>>& rows, int width) {
  Layout layout;
  layout.shown.resize(columns.size());
  std::iota(layout.shown.begin(), layout.shown.end(), size_t{0});
  if (width <= 0) return layout;
  std::vector<size_t> widths(columns.size());
  size_t total = 0, wanted = 0;  // `wanted`: of the column that wraps.
  for (size_t i = 0; i < columns.size(); ++i) {
    widths[i] = TextColumns(columns[i].title);
    for (const std::vector<TableCell>& row : rows) widths[i] = std::max(widths[i], TextColumns(row[i].text));
    if (columns[i].wrap) wanted = widths[i];
    if (columns[i].truncate) widths[i] = std::min(widths[i], kLeastCut);
    if (columns[i].wrap) widths[i] = std::min(widths[i], kLeastWrapped);
    total += widths[i] + (i > 0 ? kGap.size() : 0);
  }
  const size_t room = static_cast<size_t>(width);
  for (size_t i = columns.size(); i-- > 0 && total > room;) {
    if (!columns[i].optional) continue;
    layout.shown.erase(std::find(layout.shown.begin(), layout.shown.end(), i));
    total -= widths[i] + kGap.size();
  }
  const size_t left = std::min(wanted, kLeastWrapped) + (room > total ? room - total : 0);
  if (wanted > left) layout.wrap_at = left;
  return layout;
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
  const Layout layout = Fit(columns, rows, style.width);
  for (const size_t i : layout.shown) {
    const TableColumn& column = columns[i];
    const bool wraps = column.wrap && layout.wrap_at > 0;
    const int flags =
        (column.right ? SCOLS_FL_RIGHT : 0) | (column.truncate ? SCOLS_FL_TRUNC : 0) | (wraps ? SCOLS_FL_WRAP : 0);
    libscols_column* added = scols_table_new_column(table.get(), column.title.c_str(), 0, flags);
    if (!wraps) continue;
    // libsmartcols alone would break within words.
    scols_column_set_wrapfunc(added, scols_wrapnl_chunksize, scols_wrapnl_nextchunk, nullptr);
    scols_column_set_safechars(added, "\n");
  }
  for (const std::vector<TableCell>& row : rows) {
    libscols_line* line = scols_table_new_line(table.get(), nullptr);
    for (size_t at = 0; at < layout.shown.size(); ++at) {
      const TableCell& cell = row[layout.shown[at]];
      const bool wraps = columns[layout.shown[at]].wrap;
      const std::string text = wraps ? WrapText(cell.text, layout.wrap_at) : cell.text;
      scols_line_set_data(line, at, text.empty() ? "-" : text.c_str());
      if (!cell.color.empty()) scols_cell_set_color(scols_line_get_cell(line, at), cell.color.c_str());
    }
  }
  char* text = nullptr;
  if (rows.empty()) {  // libsmartcols prints nothing at all for a table without lines.
    const auto title = [&columns](std::string* out, size_t i) { out->append(columns[i].title); };
    return absl::StrJoin(layout.shown, kGap, title) + "\n";
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
