// list and get: jobs as rows.
#include <algorithm>
#include <map>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/p2ctl/checks.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/interrupt.h"
#include "client/p2ctl/job_filter.h"
#include "client/p2ctl/job_view.h"
#include "client/p2ctl/paging.h"
#include "client/p2ctl/units.h"
#include "common/rpc/labels.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

constexpr int64_t kDefaultLimit = 50;

struct Options {
  std::vector<std::string> jobs;
  std::string selector, states, user, queue, since, sort, page_token;
  std::optional<int64_t> limit;
  bool watch = false, all_projects = false;
};

using Less = bool (*)(const v1::Job&, const v1::Job&);

absl::StatusOr<Less> SortOrder(const std::string& key) {
  const std::map<std::string, Less> orders = {
      {"created", [](const v1::Job& a, const v1::Job& b) { return ToTime(a.create_time()) > ToTime(b.create_time()); }},
      {"name", [](const v1::Job& a, const v1::Job& b) { return a.name() < b.name(); }},
      {"state", [](const v1::Job& a, const v1::Job& b) { return a.state() < b.state(); }},
      {"images",
       [](const v1::Job& a, const v1::Job& b) { return a.progress().images_seen() > b.progress().images_seen(); }},
      {"loss", [](const v1::Job& a, const v1::Job& b) { return a.progress().loss() < b.progress().loss(); }}};
  const auto found = orders.find(key);
  if (found != orders.end()) return found->second;
  return UsageError(absl::StrCat("--sort \"", key, "\": one of created, name, state, images, loss"));
}

absl::StatusOr<v1::ListJobsRequest> MakeRequest(const Context& context, const Options& options) {
  v1::ListJobsRequest request;
  request.set_label_selector(options.selector);
  request.set_owner(options.user);
  request.set_queue(FullName("queues/", options.queue));
  if (!options.all_projects) request.set_project(context.flags.project);
  request.set_page_token(options.page_token);
  P2_ASSIGN_OR_RETURN(const std::vector<v1::Job::State> states, ParseStates(options.states));
  for (const v1::Job::State state : states) request.add_states(state);
  return request;
}

// What the server does with all jobs, for those that are named or watched. REQUIRES: a selector that parses.
bool Wanted(const v1::Job& job, const v1::ListJobsRequest& filter, absl::Time since) {
  const auto& states = filter.states();
  return (states.empty() || std::count(states.begin(), states.end(), job.state()) > 0) &&
         (filter.owner().empty() || filter.owner() == job.owner()) &&
         (filter.project().empty() || filter.project() == job.project()) &&
         (filter.queue().empty() || filter.queue() == job.queue()) &&
         LabelSelector::Parse(filter.label_selector())->Matches(job.labels()) && ToTime(job.create_time()) >= since;
}

// The newest `limit` jobs that were made since; 0: all of them. The server gives the newest first, so that the first
// older one ends the search.
absl::StatusOr<Page<v1::Job>> ListSince(Client& client, v1::ListJobsRequest request, absl::Time since, int64_t limit) {
  constexpr int64_t kPage = 200;
  Page<v1::Job> chosen;
  do {
    const int64_t room = limit > 0 ? limit - static_cast<int64_t>(chosen.items.size()) : kPage;
    P2_ASSIGN_OR_RETURN(Page<v1::Job> page, CollectPages(client, &Client::ListJobs, &v1::ListJobsResponse::jobs,
                                                         request, std::min(room, kPage)));
    for (v1::Job& job : page.items) {
      if (ToTime(job.create_time()) < since) {
        chosen.next_page_token.clear();
        return chosen;
      }
      chosen.items.push_back(std::move(job));
    }
    chosen.next_page_token = page.next_page_token;
    request.set_page_token(page.next_page_token);
  } while (!chosen.next_page_token.empty() && (limit == 0 || static_cast<int64_t>(chosen.items.size()) < limit));
  return chosen;
}

// Every change of the jobs that the flags choose, a row each, until Ctrl-C.
absl::StatusOr<int> Watch(Context& context, const std::vector<v1::Job>& jobs, bool all,
                          const v1::ListJobsRequest& filter, absl::Time since) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::WatchJobsRequest request;
  if (!all) {
    for (const v1::Job& job : jobs) request.add_names(job.name());
  }
  const std::unique_ptr<Stream<v1::WatchJobsResponse>> stream = client->WatchJobs(request);
  Interrupt interrupt;  // Ends before the stream that its callback touches.
  interrupt.OnRaise([&stream] { stream->Cancel(); });
  std::map<std::string, std::string> shown;
  for (const v1::Job& job : jobs) shown[job.name()] = job.etag();
  while (true) {
    const absl::StatusOr<std::optional<v1::WatchJobsResponse>> event = stream->Next();
    if (interrupt.raised()) {
      context.Say("stopped watching; the jobs go on");
      return kInterrupted;
    }
    if (!event.ok()) return event.status();
    const v1::Job& job = (*event)->job();
    if ((*event)->type() == v1::WatchJobsResponse::DELETED) {
      context.Say(absl::StrCat(IdOf(job.name()), " was deleted"));
      continue;
    }
    // The present state comes first, and again after a break.
    std::string& etag = shown[job.name()];
    if (!etag.empty() && etag == job.etag()) continue;
    etag = job.etag();
    if (!Wanted(job, filter, since)) continue;
    P2_RETURN_IF_ERROR(context.Print(JobListing({job}).FormatRows(context.style())));
  }
}

// The jobs that the flags choose, but for --limit where all had to be read: to sort them, or because a watch must know
// which it has seen.
absl::StatusOr<Page<v1::Job>> Collect(Context& context, const Options& options, const v1::ListJobsRequest& request,
                                      absl::Time since, int64_t limit) {
  Page<v1::Job> page;
  if (!options.jobs.empty()) {
    P2_RETURN_IF_ERROR(LabelSelector::Parse(request.label_selector()).status());
    for (const std::string& ref : options.jobs) {
      P2_ASSIGN_OR_RETURN(v1::Job job, context.ResolveJob(ref));
      if (Wanted(job, request, since)) page.items.push_back(std::move(job));
    }
    return page;
  }
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  if (!options.sort.empty() || options.watch) limit = 0;
  if (since != absl::InfinitePast()) return ListSince(*client, request, since, limit);
  return CollectPages(*client, &Client::ListJobs, &v1::ListJobsResponse::jobs, request, limit);
}

absl::StatusOr<int> Run(Context& context, const Options& options) {
  P2_ASSIGN_OR_RETURN(const v1::ListJobsRequest request, MakeRequest(context, options));
  absl::Time since = absl::InfinitePast();
  if (!options.since.empty()) {
    P2_ASSIGN_OR_RETURN(since, ParseSince(options.since, absl::Now()));
  }
  const int64_t limit = options.limit.value_or(options.since.empty() && options.sort.empty() ? kDefaultLimit : 0);
  P2_ASSIGN_OR_RETURN(Page<v1::Job> page, Collect(context, options, request, since, limit));
  if (!options.sort.empty()) {
    P2_ASSIGN_OR_RETURN(const Less less, SortOrder(options.sort));
    std::stable_sort(page.items.begin(), page.items.end(), less);
  }
  const size_t count = limit > 0 && options.jobs.empty() ? static_cast<size_t>(limit) : page.items.size();
  const Listing listing =
      JobListing({page.items.begin(), page.items.begin() + static_cast<ptrdiff_t>(std::min(count, page.items.size()))});
  if (options.watch && context.style().format == OutputFormat::kJson) {
    P2_RETURN_IF_ERROR(context.Print(listing.FormatRows(context.style())));
  } else if (options.jobs.size() == 1 && !listing.empty()) {
    P2_RETURN_IF_ERROR(context.Print(listing.FormatOne(context.style())));
  } else {
    const bool filtered = !options.jobs.empty() || !options.selector.empty() || !options.states.empty() ||
                          !options.user.empty() || !options.since.empty() || !request.queue().empty() ||
                          !request.project().empty();
    P2_RETURN_IF_ERROR(context.PrintList(
        listing, filtered ? "no job matches" : "no jobs; `p2ctl submit mnist-demo` makes one", page.next_page_token));
    if (context.ForPeople() && !page.next_page_token.empty()) {
      context.Say(absl::StrCat("more: --page-token ", page.next_page_token, ", or a higher --limit"));
    }
  }
  if (options.watch) return Watch(context, page.items, options.jobs.empty(), request, since);
  return kOk;
}

void AddFlags(CLI::App* verb, const std::shared_ptr<Options>& options) {
  verb->add_option("-l,--selector", options->selector, "Only jobs with these labels: key=value,key!=value,key");
  verb->add_option("--state", options->states, "Only these states: RUNNING,QUEUED");
  verb->add_option("--user", options->user, "Only this owner's");
  verb->add_option("--queue", options->queue, "Only those in this queue");
  verb->add_flag("--all-projects", options->all_projects,
                 "Of all projects, also where --project or P2_PROJECT names one");
  verb->add_option("--since", options->since, "Only those made since: 2d, 90s, or a time");
  verb->add_option("--sort", options->sort, "created (default), name, state, images, loss");
  verb->add_option("--limit", options->limit, "At most this many; 0: all [50; all with --since or --sort]")
      ->check(NotNegative());
  verb->add_option("--page-token", options->page_token, "Go on where a list ended (nextPageToken)");
  verb->add_flag("-w,--watch", options->watch, "Stay, and print each change as a row (json: an object a line)");
  AddLater(*verb, "--group", true, "ablations");
}

}  // namespace

void AddJobVerbs(CLI::App& app, Context& context) {
  auto list_options = std::make_shared<Options>();
  CLI::App* list = AddVerb(app, context, "list", "List jobs, newest first",
                           "  p2ctl list --state RUNNING,QUEUED\n"
                           "  p2ctl list -l team=vision --since 2d -o wide\n"
                           "  p2ctl list --project faces --queue h100\n"
                           "  p2ctl list -o json --fields name,state,spec.training.batch\n"
                           "  p2ctl list -w",
                           list_options, Run);
  list->add_option("JOB", list_options->jobs, "Only these: IDs, or unique prefixes");
  AddFlags(list, list_options);
  auto get_options = std::make_shared<Options>();
  CLI::App* get = AddVerb(app, context, "get", "Show jobs as rows; one job with -o json is the object itself",
                          "  p2ctl get mnist-demo-abcde\n"
                          "  p2ctl get mnist-demo-abcde -o yaml\n"
                          "  p2ctl get A B --fields id,state,progress.imagesSeen",
                          get_options, Run);
  get->add_option("JOB", get_options->jobs, "IDs, or unique prefixes")->required();
  AddFlags(get, get_options);
}

}  // namespace p2::ctl
