// admin status|backup|restore|check: p2d's store as a whole.
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/p2ctl/command.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

struct NoOptions {};
struct RestoreOptions {
  std::string backup;
  std::string data_dir;
};

// Reading a whole store takes as long as it takes; a shorter --timeout is the caller's to give.
constexpr char kLongTimeout[] = "1h";
// p2d's exit code for a damaged store or backup.
constexpr int kStoreFailed = 70;

template <typename Map>
std::string Counts(const Map& counts) {
  const std::map<std::string, int64_t> sorted(counts.begin(), counts.end());
  return sorted.empty() ? "none" : absl::StrJoin(sorted, ", ", absl::PairFormatter(" "));
}

absl::StatusOr<int> Status(Context& context, const NoOptions&) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(const v1::Status status, client->GetStatus());
  Listing listing({{.name = "version"},
                   {.name = "started"},
                   {.name = "jobs"},
                   {.name = "workers"},
                   {.name = "disk"},
                   {.name = "free", .right = true},
                   {.name = "last_backup"},
                   {.name = "watchers", .right = true, .wide = true},
                   {.name = "database", .right = true, .wide = true},
                   {.name = "commits", .right = true, .wide = true},
                   {.name = "schema", .right = true, .wide = true},
                   {.name = "backup_size", .right = true, .wide = true},
                   {.name = "verified", .wide = true},
                   {.name = "data_dir", .wide = true}});
  const v1::Backup& backup = status.last_backup();
  const bool has_backup = status.has_last_backup();
  const std::string disk = status.disk_full() ? "full" : "ok";
  listing.Add(ToJson(status), status.version(),
              {status.version(), TimeCell(status.start_time()), Counts(status.jobs()), Counts(status.workers()),
               Cell(disk, disk, status.disk_full() ? "red" : "green"), BytesCell(status.free_bytes()),
               has_backup ? IdOf(backup.name()) : "none", absl::StrCat(status.watchers()),
               BytesCell(status.database_bytes()), CountCell(status.commits()), absl::StrCat(status.schema_version()),
               has_backup ? BytesCell(backup.size_bytes()) : Cell(""),
               has_backup ? TimeCell(backup.verify_time()) : Cell(""), status.data_dir()});
  P2_RETURN_IF_ERROR(context.Print(listing.FormatOne(context.style())));
  return kOk;
}

absl::StatusOr<int> Backup(Context& context, const NoOptions&) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::CreateBackupRequest request;
  request.set_request_id(context.flags.request_id);
  P2_ASSIGN_OR_RETURN(const v1::Backup backup, client->CreateBackup(request));
  Listing listing({{.name = "id"},
                   {.name = "verified"},
                   {.name = "size", .right = true},
                   {.name = "commits", .right = true},
                   {.name = "path"}});
  listing.Add(ToJson(backup), IdOf(backup.name()),
              {IdOf(backup.name()), TimeCell(backup.verify_time()), BytesCell(backup.size_bytes()),
               CountCell(backup.commits()), backup.path()});
  P2_RETURN_IF_ERROR(context.Print(listing.FormatOne(context.style())));
  return kOk;
}

absl::StatusOr<int> Check(Context& context, const NoOptions&) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(const v1::CheckStoreResponse response, client->CheckStore());
  const bool whole = response.finding_count() == 0;
  if (context.ForPeople() && !whole) {
    Listing findings({{.name = "subject"}, {.name = "finding"}});
    for (const v1::StoreFinding& finding : response.findings())
      findings.Add(ToJson(finding), finding.subject(), {finding.subject(), finding.message()});
    P2_RETURN_IF_ERROR(context.Print(findings.Format(context.style())));
    context.PrintText("\n");
  }
  int64_t records = 0;
  for (const auto& [kind, count] : response.records()) records += count;
  const std::string result = whole ? "whole" : "DAMAGED";
  Listing summary({{.name = "store"},
                   {.name = "findings", .right = true},
                   {.name = "records", .right = true},
                   {.name = "commits", .right = true},
                   {.name = "schema", .right = true}});
  summary.Add(ToJson(response), result,
              {Cell(result, result, whole ? "green" : "red"), CountCell(response.finding_count()), CountCell(records),
               CountCell(response.commits()), absl::StrCat(response.schema_version())});
  P2_RETURN_IF_ERROR(context.Print(summary.FormatOne(context.style())));
  if (whole) return kOk;
  context.Say("the store is damaged: stop p2d and restore a backup (`p2ctl admin restore`)");
  return kVerificationFailed;
}

// Runs the p2d beside this program, with our stdout and stderr. Its exit code.
absl::StatusOr<int> RunServer(std::vector<std::string> arguments) {
  const std::string program = (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "p2d").string();
  arguments.insert(arguments.begin(), program);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_t pid = 0;
  if (const int error = posix_spawn(&pid, program.c_str(), nullptr, nullptr, argv.data(), environ); error != 0)
    return absl::ErrnoToStatus(error, absl::StrCat("cannot run ", program, ", which must lie beside p2ctl"));
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return absl::ErrnoToStatus(errno, "cannot wait for p2d");
  }
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  return absl::InternalError(absl::StrCat("p2d was ended by signal ", WTERMSIG(status)));
}

absl::StatusOr<int> Restore(Context&, const RestoreOptions& options) {
  P2_ASSIGN_OR_RETURN(const int code, RunServer({"--restore", options.backup, "--data-dir", options.data_dir}));
  return code == kStoreFailed ? kVerificationFailed : code;  // The others mean the same in both.
}

}  // namespace

void AddAdmin(CLI::App& app, Context& context) {
  CLI::App* group = app.add_subcommand("admin", "The server's store: status, backup, restore, check");
  group->require_subcommand(1);
  AddVerb(*group, context, "status", "The server's disk, store, jobs, workers and last backup",
          "  p2ctl admin status -o wide\n  p2ctl admin status -o json", std::make_shared<NoOptions>(), Status);
  CLI::App* backup = AddVerb(*group, context, "backup", "Make a backup while the server goes on, and verify it",
                             "  p2ctl admin backup", std::make_shared<NoOptions>(), Backup);
  CLI::App* check = AddVerb(*group, context, "check", "Verify the server's store; exit code 12 if it is damaged",
                            "  p2ctl admin check", std::make_shared<NoOptions>(), Check);
  for (CLI::App* verb : {backup, check}) {
    verb->parse_complete_callback([&app, &context] {
      if (app.get_option("--timeout")->count() == 0) context.flags.timeout = kLongTimeout;
    });
  }
  auto options = std::make_shared<RestoreOptions>();
  CLI::App* restore = AddVerb(*group, context, "restore", "Make a backup the data directory of a new server",
                              "  p2ctl admin restore p2-data/backups/20261128-134500-123 --data-dir p2-data-2\n  p2d "
                              "--data-dir p2-data-2",
                              options, Restore);
  restore->add_option("BACKUP", options->backup, "Its directory (`p2ctl admin backup` shows it)")->required();
  restore->add_option("--data-dir", options->data_dir, "Where to: a new or empty directory")->required();
}

}  // namespace p2::ctl
