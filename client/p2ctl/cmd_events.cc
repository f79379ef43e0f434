// events: who did what and when.
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/p2ctl/checks.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/interrupt.h"
#include "client/p2ctl/log_text.h"
#include "client/p2ctl/paging.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

struct Options {
  std::string job;
  bool follow = false;
  int64_t tail = 0;
};

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
    if (absl::StartsWith(options.job, "workers/") || absl::StartsWith(options.job, "datasets/")) {
      request.set_resource(options.job);
    } else {
      P2_ASSIGN_OR_RETURN(const v1::Job job, context.ResolveJob(options.job));
      request.set_resource(job.name());
    }
  }
  P2_ASSIGN_OR_RETURN(Page<v1::Event> page,
                      CollectPages(*client, &Client::ListEvents, &v1::ListEventsResponse::events, request));
  std::vector<v1::Event>& events = page.items;
  v1::FollowEventsRequest follow;
  follow.set_resource(request.resource());
  if (!events.empty()) follow.set_start_revision(events.back().revision() + 1);
  if (options.tail > 0 && events.size() > static_cast<size_t>(options.tail))
    events.erase(events.begin(), events.end() - options.tail);
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

}  // namespace

void AddEvents(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = AddVerb(
      app, context, "events", "Show the log of changes, oldest first",
      "  p2ctl events --tail 20\n  p2ctl events mnist-demo-abcde -f\n  p2ctl events workers/w0 -o jsonl", options, Run);
  verb->add_option("RESOURCE", options->job, "Only of this job, or of workers/NAME or datasets/NAME");
  verb->add_flag("-f,--follow", options->follow, "Stay, and print new ones as they come");
  verb->add_option("--tail", options->tail, "Only the newest N; 0: all")->check(NotNegative());
}

}  // namespace p2::ctl
