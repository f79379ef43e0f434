#include "client/p2ctl/table_printer.h"

#include <libsmartcols.h>

#include <cstdlib>
#include <memory>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace p2::ctl {

std::string RenderTable(const std::vector<TableColumn>& columns, const std::vector<std::vector<TableCell>>& rows,
                        const TableStyle& style) {
  if (rows.empty() && !style.headers) return "";
  const std::unique_ptr<libscols_table, void (*)(libscols_table*)> table(scols_new_table(), scols_unref_table);
  scols_table_enable_noheadings(table.get(), !style.headers);
  scols_table_enable_colors(table.get(), style.color);
  scols_table_set_column_separator(table.get(), "  ");
  scols_table_set_termforce(table.get(), style.width > 0 ? SCOLS_TERMFORCE_ALWAYS : SCOLS_TERMFORCE_NEVER);
  if (style.width > 0) scols_table_set_termwidth(table.get(), static_cast<size_t>(style.width));
  for (const TableColumn& column : columns) {
    const int flags = (column.right ? SCOLS_FL_RIGHT : 0) | (column.truncate ? SCOLS_FL_TRUNC : 0);
    scols_table_new_column(table.get(), column.title.c_str(), 0, flags);
  }
  for (const std::vector<TableCell>& row : rows) {
    libscols_line* line = scols_table_new_line(table.get(), nullptr);
    for (size_t i = 0; i < row.size(); ++i) {
      scols_line_set_data(line, i, row[i].text.empty() ? "-" : row[i].text.c_str());
      if (!row[i].color.empty()) scols_cell_set_color(scols_line_get_cell(line, i), row[i].color.c_str());
    }
  }
  char* text = nullptr;
  if (rows.empty()) {  // libsmartcols prints nothing at all for a table without lines.
    return absl::StrJoin(columns, "  ",
                         [](std::string* out, const TableColumn& column) { out->append(column.title); }) +
           "\n";
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
