// Aligned tables for people (libsmartcols).
#pragma once

#include <string>
#include <vector>

namespace p2::ctl {

struct TableColumn {
  std::string title;
  bool right = false;  // Numbers.
  // May be cut short when the terminal is too narrow; other columns keep their width.
  bool truncate = false;
  // Long text goes on in the next line, in its column; at most one column of a table.
  bool wrap = false;
  // Left out when the terminal is too narrow; the last one goes first.
  bool optional = false;
};

struct TableCell {
  std::string text;
  std::string color;  // libsmartcols' name ("green"); empty: none.
};

struct TableStyle {
  // Columns of the terminal; 0: not a terminal, nothing is cut.
  int width = 0;
  bool headers = true;
  bool color = false;
};

// Every row has as many cells as there are columns. Ends in a newline unless empty.
std::string RenderTable(const std::vector<TableColumn>& columns, const std::vector<std::vector<TableCell>>& rows,
                        const TableStyle& style);

}  // namespace p2::ctl
