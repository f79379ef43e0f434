#include "client/p2ctl/spec_file.h"

#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "client/p2ctl/command.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

constexpr size_t kMaxSpecBytes = 256 << 10;

// Where `text` stops being UTF-8 without NUL; npos: nowhere. Overlong forms and surrogates count as broken.
size_t FirstBadByte(absl::string_view text) {
  const auto byte = [text](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  size_t at = 0;
  while (at < text.size()) {
    const unsigned lead = byte(at), second = byte(at + 1);
    const size_t length = lead == 0     ? 0
                          : lead < 0x80 ? 1
                          : lead < 0xC2 ? 0
                          : lead < 0xE0 ? 2
                          : lead < 0xF0 ? 3
                          : lead < 0xF5 ? 4
                                        : 0;
    bool good = length > 0 && !(lead == 0xE0 && second < 0xA0) && !(lead == 0xED && second > 0x9F) &&
                !(lead == 0xF0 && second < 0x90) && !(lead == 0xF4 && second > 0x8F);
    for (size_t i = 1; i < length; ++i) good = good && (byte(at + i) & 0xC0) == 0x80;
    if (!good) return at;
    at += length;
  }
  return absl::string_view::npos;
}

absl::StatusOr<std::string> ReadText(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is a directory; -f takes a spec file (YAML)"));
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read the spec file ", path));
  std::string text((std::istreambuf_iterator<char>(file)), {});
  if (text.size() > kMaxSpecBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " has ", text.size(), " bytes; a spec has at most ", kMaxSpecBytes));
  }
  if (const size_t bad = FirstBadByte(text); bad != absl::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s is no text: byte 0x%02x at offset %d is %s; a spec is YAML in UTF-8", path,
                        static_cast<unsigned char>(text[bad]), bad, text[bad] == '\0' ? "NUL" : "not UTF-8"));
  }
  if (absl::StripAsciiWhitespace(text).empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is empty; the least that a spec says is `extends: PRESET`"));
  }
  return text;
}

absl::StatusOr<std::string> ReadSpec(const std::string& path) {
  absl::StatusOr<std::string> text = ReadText(path);
  if (!text.ok()) return WithReason(text.status(), "SPEC_UNREADABLE");
  return text;
}

}  // namespace

absl::Status FillSpec(absl::string_view verb, const std::string& preset, const std::string& file,
                      v1::CreateJobRequest& request) {
  if (!preset.empty() && !file.empty()) {
    return UsageError(absl::StrCat("both a preset (", preset, ") and a spec file (", file,
                                   ") are named; give one. A file builds on a preset with `extends: ", preset, "`"));
  }
  if (preset.empty() && file.empty()) {
    return UsageError(absl::StrCat("name a preset or a spec file: `", verb,
                                   "` takes PRESET, or -f FILE (`p2ctl preset list` shows the "
                                   "presets)"));
  }
  request.set_preset(preset);
  if (!file.empty()) {
    P2_ASSIGN_OR_RETURN(*request.mutable_spec_yaml(), ReadSpec(file));
    request.set_spec_file_name(IdOf(file));
  }
  return absl::OkStatus();
}

std::vector<v1::CreateJobRequest> SplitDocuments(const v1::CreateJobRequest& request) {
  // `---` in the first column begins a document, whatever stands around it.
  std::vector<std::string> documents(1);
  bool marked = false, holds_something = false;  // Of the last document.
  for (absl::string_view line : absl::StrSplit(request.spec_yaml(), '\n')) {
    const bool marker = line == "---" || absl::StartsWith(line, "--- ") || line == "---\r";
    if (marker && holds_something) {
      documents.emplace_back();
      holds_something = false;
    } else if (marker && marked) {
      documents.back().clear();
    }
    marked = marker || (marked && !documents.back().empty());
    absl::StrAppend(&documents.back(), line, "\n");
    const absl::string_view text = absl::StripAsciiWhitespace(marker ? line.substr(3) : line);
    holds_something = holds_something || (!text.empty() && text[0] != '#' && text[0] != '%' && text != "...");
  }
  if (documents.size() == 1) return {request};
  if (!holds_something) documents.pop_back();
  std::vector<v1::CreateJobRequest> requests;
  for (const std::string& document : documents) {
    requests.push_back(request);
    requests.back().set_spec_yaml(document);
    if (documents.size() > 1)
      requests.back().set_spec_file_name(absl::StrCat(request.spec_file_name(), "#", requests.size()));
  }
  return requests;
}

}  // namespace p2::ctl
