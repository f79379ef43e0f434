#include "client/p2ctl/command.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/p2ctl/local_state.h"
#include "client/p2ctl/terminal.h"
#include "client/p2ctl/units.h"
#include "client/p2ctl/wrap_text.h"
#include "common/status_macros.h"

namespace p2::ctl {

std::string IdOf(absl::string_view name) { return std::string(name.substr(name.rfind('/') + 1)); }

std::string FullName(absl::string_view collection, absl::string_view ref) {
  return ref.empty() || absl::StartsWith(ref, collection) ? std::string(ref) : absl::StrCat(collection, ref);
}

void AddLater(CLI::App& verb, const std::string& flag, bool value, const std::string& comes_with) {
  const std::string text =
      absl::StrCat(flag.substr(flag.rfind(',') + 1), " is not there yet: it comes with ", comes_with, " (ROADMAP.md)");
  CLI::Option* option =
      value ? verb.add_option_function<std::string>(flag, [text](const std::string&) { throw ComesLater(text); })
            : verb.add_flag_function(flag, [text](int64_t) { throw ComesLater(text); });
  option->group("");
}

namespace {

// Talk as the terminal has room for it; further lines stand two columns in.
std::string Wrapped(absl::string_view text) {
  return WrapText(text, static_cast<size_t>(TerminalWidth(STDERR_FILENO)),
                  [](absl::string_view line) { return std::min(line.find_first_not_of(' '), line.size()) + 2; });
}

}  // namespace

absl::Status Context::Finish() {
  if (const char* color = std::getenv("NO_COLOR"); color != nullptr && color[0] != '\0') flags.no_color = true;
  std::string output = flags.output;
  if (const char* env = std::getenv("P2_OUTPUT"); output.empty() && env != nullptr) output = env;
  if (const char* env = std::getenv("P2_PROJECT"); flags.project.empty() && env != nullptr) flags.project = env;
  if (output.empty()) output = flags.quiet ? "name" : "table";
  P2_ASSIGN_OR_RETURN(style_.format, ParseOutputFormat(output));
  P2_ASSIGN_OR_RETURN(timeout_, ParseDuration(flags.timeout));
  for (const std::string& field : flags.fields) {
    for (absl::string_view part : absl::StrSplit(field, ',', absl::SkipEmpty())) style_.fields.emplace_back(part);
  }
  style_.table.headers = !flags.no_headers;
  style_.table.width = TerminalWidth(STDOUT_FILENO);
  style_.table.color = !flags.no_color && IsTerminal(STDOUT_FILENO);
  return absl::OkStatus();
}

absl::StatusOr<std::pair<std::string, std::string>> Context::Address() const {
  if (!flags.addr.empty()) return std::pair(flags.addr, std::string("--addr"));
  if (const char* env = std::getenv("P2_ADDR"); env != nullptr && env[0] != '\0') {
    return std::pair(std::string(env), std::string("P2_ADDR"));
  }
  P2_ASSIGN_OR_RETURN(const std::optional<LocalState> local, ReadLocalState(LocalStatePath()));
  if (local.has_value()) return std::pair(local->address, std::string("p2ctl local"));
  return std::pair(ClientOptions().address, std::string("the default"));
}

absl::StatusOr<Client*> Context::client() {
  if (client_ == nullptr) {
    ClientOptions options;
    P2_ASSIGN_OR_RETURN(const auto address, Address());
    options.address = address.first;
    options.timeout = timeout_;
    if (flags.verbose) Say(absl::StrCat("server ", address.first, " (from ", address.second, ")"));
    P2_ASSIGN_OR_RETURN(client_, Client::Connect(options));
  }
  return client_.get();
}

absl::StatusOr<v1::Job> Context::ResolveJob(const std::string& ref) {
  P2_ASSIGN_OR_RETURN(Client * server, client());
  v1::GetJobRequest request;
  request.set_name(FullName("jobs/", ref));
  return server->GetJob(request);
}

std::string Context::RequestId(absl::string_view job, size_t count) const {
  if (flags.request_id.empty() || count < 2) return flags.request_id;
  return absl::StrCat(flags.request_id, "-", IdOf(job));
}

void Context::Say(absl::string_view line) const {
  if (flags.quiet) return;
  const std::string text = absl::StrCat(Wrapped(line), "\n");
  std::fwrite(text.data(), 1, text.size(), stderr);
}

void Context::PrintText(absl::string_view text) const {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

absl::Status Context::Print(absl::StatusOr<std::string> text) const {
  if (text.ok()) PrintText(*text);
  return text.status();
}

absl::Status Context::PrintList(const Listing& listing, absl::string_view if_empty,
                                absl::string_view page_token) const {
  P2_RETURN_IF_ERROR(Print(listing.Format(style_, page_token)));
  if (listing.empty() && ForPeople()) Say(if_empty);
  return absl::OkStatus();
}

absl::StatusOr<bool> Context::Confirm(absl::string_view deed) const {
  if (flags.yes) return true;
  if (!IsTerminal(STDIN_FILENO) || !IsTerminal(STDERR_FILENO)) {
    return UsageError(absl::StrCat("it would ", deed, "; nobody is here to ask, so add --yes if that is meant"));
  }
  std::fprintf(stderr, "%s? [y/N] ", std::string(deed).c_str());
  std::string answer;
  std::getline(std::cin, answer);
  return absl::EqualsIgnoreCase(answer, "y") || absl::EqualsIgnoreCase(answer, "yes");
}

void Context::PrintError(const absl::Status& error) const {
  const bool json = style_.format == OutputFormat::kJson || style_.format == OutputFormat::kJsonLines;
  absl::Status shown = error;
  if (absl::IsUnavailable(error)) {
    const auto address = Address();
    shown = absl::UnavailableError(
        absl::StrCat("the server at ", address.ok() ? address->first : "?", " (from ",
                     address.ok() ? address->second : "?", ") is unavailable: ", error.message(),
                     "\nstart one on this machine with `p2ctl local`, or name another: --addr HOST:PORT"));
    error.ForEachPayload(
        [&shown](absl::string_view type, const absl::Cord& payload) { shown.SetPayload(type, payload); });
    shown = WithReason(std::move(shown), "SERVER_UNAVAILABLE");
  }
  std::string text = json ? ErrorJson(shown) : Wrapped(ErrorText(shown));
  if (flags.verbose && !json) absl::StrAppend(&text, "\ncode: ", absl::StatusCodeToString(error.code()));
  std::fprintf(stderr, "%s\n", text.c_str());
}

}  // namespace p2::ctl
