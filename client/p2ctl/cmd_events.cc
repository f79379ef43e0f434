// events and audit: who did what and when.
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/p2ctl/checks.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/interrupt.h"
#include "client/p2ctl/log_text.h"
#include "client/p2ctl/paging.h"
#include "client/p2ctl/units.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

struct Options {
  std::string job;
  bool follow = false;
  int64_t tail = 0;
};

struct AuditOptions {
  std::string since, user, resource;
  int64_t tail = 0;
};

// A resource by its name, or a job by its ID or a prefix.
absl::StatusOr<std::string> ResourceOf(Context& context, const std::string& ref) {
  for (const char* collection : {"workers/", "datasets/", "queues/", "quotas/", "shares/"}) {
    if (absl::StartsWith(ref, collection)) return ref;
  }
  P2_ASSIGN_OR_RETURN(const v1::Job job, context.ResolveJob(ref));
  return job.name();
}

// Leaves the newest `tail`; 0: all.
void KeepTail(std::vector<v1::Event>& events, int64_t tail) {
  if (tail > 0 && events.size() > static_cast<size_t>(tail)) events.erase(events.begin(), events.end() - tail);
}

Listing EventListing(const std::vector<v1::Event>& events) {
  Listing listing({{.name = "revision", .right = true, .wide = true},
                   {.name = "time"},
                   {.name = "resource"},
                   {.name = "reason"},
                   {.name = "actor", .optional = true},
                   {.name = "message", .truncate = true}});
  for (const v1::Event& event : events) {
    listing.Add(ToJson(event), absl::StrCat(event.revision()),
                {absl::StrCat(event.revision()), TimeCell(event.time()), event.resource(), event.reason(),
                 event.actor(), Cell(FirstLine(event.message()), event.message())});
  }
  return listing;
}

absl::StatusOr<int> Run(Context& context, const Options& options) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::ListEventsRequest request;
  if (!options.job.empty()) {
    P2_ASSIGN_OR_RETURN(*request.mutable_resource(), ResourceOf(context, options.job));
  }
  P2_ASSIGN_OR_RETURN(Page<v1::Event> page,
                      CollectPages(*client, &Client::ListEvents, &v1::ListEventsResponse::events, request));
  std::vector<v1::Event>& events = page.items;
  v1::FollowEventsRequest follow;
  follow.set_resource(request.resource());
  if (!events.empty()) follow.set_start_revision(events.back().revision() + 1);
  KeepTail(events, options.tail);
  const Listing past = EventListing(events);
  const bool lines = options.follow && context.style().format == OutputFormat::kJson;
  if (lines) {
    P2_RETURN_IF_ERROR(context.Print(past.FormatRows(context.style())));
  } else {
    P2_RETURN_IF_ERROR(context.PrintList(past, options.follow ? "no events yet" : "no events"));
  }
  if (!options.follow) return kOk;

  const std::unique_ptr<Stream<v1::Event>> stream = client->FollowEvents(follow);
  Interrupt interrupt;  // Ends before the stream that its callback touches.
  interrupt.OnRaise([&stream] { stream->Cancel(); });
  absl::StatusOr<std::optional<v1::Event>> event;
  while ((event = stream->Next()).ok() && event->has_value()) {
    P2_RETURN_IF_ERROR(context.Print(EventListing({**event}).FormatRows(context.style())));
  }
  if (!interrupt.raised()) return event.status();
  context.Say("stopped following");
  return kInterrupted;
}

// "priority 0 -> priority 5"; where the event has no values, its message.
std::string ChangeText(const v1::Event& event) {
  if (event.after().empty()) return FirstLine(event.message());
  return event.before().empty() ? event.after() : absl::StrCat(event.before(), " -> ", event.after());
}

Listing AuditListing(const std::vector<v1::Event>& events) {
  Listing listing({{.name = "time"},
                   {.name = "who"},
                   {.name = "what"},
                   {.name = "resource"},
                   {.name = "change", .truncate = true},
                   {.name = "request", .optional = true},
                   {.name = "revision", .right = true, .wide = true},
                   {.name = "before", .wide = true},
                   {.name = "after", .wide = true},
                   {.name = "message", .wide = true, .truncate = true}});
  for (const v1::Event& event : events) {
    listing.Add(ToJson(event), absl::StrCat(event.revision()),
                {TimeCell(event.time()), event.actor(), event.reason(), event.resource(), ChangeText(event),
                 event.request_id(), absl::StrCat(event.revision()), event.before(), event.after(),
                 Cell(FirstLine(event.message()), event.message())});
  }
  return listing;
}

absl::StatusOr<int> RunAudit(Context& context, const AuditOptions& options) {
  absl::Time since = absl::InfinitePast();
  if (!options.since.empty()) {
    P2_ASSIGN_OR_RETURN(since, ParseSince(options.since, absl::Now()));
  }
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::ListEventsRequest request;
  request.set_audit(true);
  if (!options.user.empty()) request.set_actor(FullName("user:", options.user));
  if (!options.resource.empty()) {
    P2_ASSIGN_OR_RETURN(*request.mutable_resource(), ResourceOf(context, options.resource));
  }
  P2_ASSIGN_OR_RETURN(Page<v1::Event> page,
                      CollectPages(*client, &Client::ListEvents, &v1::ListEventsResponse::events, request));
  std::erase_if(page.items, [since](const v1::Event& event) { return ToTime(event.time()) < since; });
  KeepTail(page.items, options.tail);
  P2_RETURN_IF_ERROR(context.PrintList(AuditListing(page.items), "nobody changed anything"));
  return kOk;
}

}  // namespace

void AddEvents(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = AddVerb(
      app, context, "events", "Show the log of changes, oldest first",
      "  p2ctl events --tail 20\n  p2ctl events mnist-demo-abcde -f\n  p2ctl events workers/w0 -o jsonl", options, Run);
  verb->add_option("RESOURCE", options->job,
                   "Only of this job, or of workers/NAME, datasets/NAME, queues/NAME, quotas/users/U …");
  verb->add_flag("-f,--follow", options->follow, "Stay, and print new ones as they come");
  verb->add_option("--tail", options->tail, "Only the newest N; 0: all")->check(NotNegative());
}

void AddAudit(CLI::App& app, Context& context) {
  CLI::App* group = app.add_subcommand("audit", "What people changed");
  group->require_subcommand(1);
  auto options = std::make_shared<AuditOptions>();
  CLI::App* list = AddVerb(*group, context, "list", "Who changed what and when, from what to what; oldest first",
                           "  p2ctl audit list --since 2d --user ada\n"
                           "  p2ctl audit list --resource mnist-demo-abcde -o wide\n"
                           "  p2ctl audit list --resource quotas/users/ada -o jsonl",
                           options, RunAudit);
  list->add_option("--since", options->since, "Only since: 2d, 90s, or a time");
  list->add_option("--user", options->user, "Only what this person did");
  list->add_option("--resource", options->resource,
                   "Only of this job, or of workers/NAME, datasets/NAME, queues/NAME, quotas/users/U …");
  list->add_option("--tail", options->tail, "Only the newest N; 0: all")->check(NotNegative());
}

}  // namespace p2::ctl
