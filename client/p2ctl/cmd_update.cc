// update: what may change while a job lives.
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/job_view.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

struct Options {
  std::string job;
  std::optional<int32_t> priority;
  std::optional<std::string> note;
  std::vector<std::string> labels;
};

absl::StatusOr<int> Run(Context& context, const Options& options) {
  v1::UpdateJobRequest request;
  if (options.priority.has_value()) request.set_priority(*options.priority);
  if (options.note.has_value()) request.set_note(*options.note);
  for (const std::string& label : options.labels) {
    absl::string_view key = label;
    if (absl::StrContains(label, '=') && label[0] != '=') {
      const std::pair<std::string, std::string> parts = absl::StrSplit(label, absl::MaxSplits('=', 1));
      (*request.mutable_set_labels())[parts.first] = parts.second;
    } else if (absl::ConsumeSuffix(&key, "-") && !key.empty() && !absl::StrContains(key, '=')) {
      request.add_erase_labels(std::string(key));
    } else {
      return UsageError(absl::StrCat("--label \"", label, "\": write key=value, or key- to take it away"));
    }
  }
  if (!request.has_priority() && !request.has_note() && options.labels.empty()) {
    return UsageError("nothing to change: give --priority, --label or --note");
  }
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(const v1::Job job, context.ResolveJob(options.job));
  request.set_name(job.name());
  request.set_request_id(context.flags.request_id);
  P2_ASSIGN_OR_RETURN(const v1::Job after, client->UpdateJob(request));
  OutputStyle style = context.style();
  if (style.format == OutputFormat::kTable && style.fields.empty())
    style.fields = {"id", "state", "priority", "labels"};
  P2_RETURN_IF_ERROR(context.Print(JobListing({after}).FormatOne(style)));
  return kOk;
}

}  // namespace

void AddUpdate(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = AddVerb(app, context, "update", "Change a job's priority, labels or note, also while it runs",
                           "  p2ctl update mnist-demo-abcde --priority 10\n"
                           "  p2ctl update mnist-demo-abcde --label team=vision --label sweep- --note 'baseline'",
                           options, Run);
  verb->add_option("JOB", options->job, "ID, or a unique prefix")->required();
  verb->add_option("--priority", options->priority, "-1000 to 1000; the higher goes first")->type_name("N");
  verb->add_option("--label", options->labels, "Set a label, or take one away (key-); repeatable")
      ->type_name("KEY=VALUE|KEY-")
      ->allow_extra_args(false);
  verb->add_option("--note", options->note, "For people; '' takes it away")->type_name("TEXT");
}

}  // namespace p2::ctl
