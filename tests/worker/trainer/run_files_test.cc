#include "worker/trainer/run_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/worker/trainer/tiny_dataset.h"
#include "worker/checkpoint/checkpoint_reader.h"

namespace p2::trainer {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class Recorder final : public EventSink {
 public:
  void Emit(const Event& event) override { events.push_back(event); }
  std::vector<std::string> Notices() const {
    std::vector<std::string> notices;
    for (const Event& event : events) {
      if (const auto* notice = std::get_if<Notice>(&event))
        notices.push_back(absl::StrCat(notice->reason, ": ", notice->message));
    }
    return notices;
  }
  std::vector<Event> events;
};

class RunFilesTest : public ::testing::Test {
 protected:
  RunFilesTest() : dir_(FreshDir()) {
    options_.checkpoint_dir = dir_ + "/checkpoints";
    options_.work_dir = dir_;
    options_.spec_json = "{}";
    options_.spec.emas = {{.name = "0.9999", .rate = 0.9999}};
  }

  // An attempt that starts at `images` and reports at `points`, eight images a step.
  void Attempt(int64_t images, const std::vector<int64_t>& points, double loss) {
    RunFiles files(options_, sink_);
    files.Emit(Started{images, "", {}, 10});
    for (const int64_t at : points)
      files.Emit(MetricPoints{at, at / 8, {{"loss", loss}, {"mse", 3}, {"mse_weighted", 2}, {"loss_snr_07", 0.5}}});
  }

  std::vector<std::string> Rows() const {
    std::ifstream file(dir_ + "/progress.csv");
    const std::string text(std::istreambuf_iterator<char>(file), {});
    return absl::StrSplit(text, '\n', absl::SkipEmpty());
  }
  // Cells of a column, from top to bottom.
  std::vector<std::string> Column(const std::string& name) const {
    std::vector<std::string> cells;
    const std::vector<std::string> rows = Rows(), head = absl::StrSplit(rows.at(0), ',');
    const size_t at = static_cast<size_t>(std::find(head.begin(), head.end(), name) - head.begin());
    for (size_t i = 1; i < rows.size(); ++i) {
      const std::vector<std::string> row = absl::StrSplit(rows[i], ',');
      EXPECT_EQ(row.size(), head.size());
      cells.push_back(at < row.size() ? row[at] : "no such column");
    }
    return cells;
  }
  std::vector<std::string> EventFiles() const {
    std::vector<std::string> files;
    for (const std::string& name : checkpoint::NamesIn(dir_ + "/tensorboard")) {
      if (name.find("tfevents") != std::string::npos) files.push_back(name);
    }
    std::sort(files.begin(), files.end());
    return files;
  }

  const std::string dir_;
  TrainOptions options_;
  Recorder sink_;
};

TEST_F(RunFilesTest, HasThePublishedLoggersColumns) {
  Attempt(0, {16}, 0.25);
  const std::vector<std::string> head = absl::StrSplit(Rows()[0], ',');
  const std::vector<std::string> published{"grad_norm", "loss", "loss_q0", "loss_q1", "loss_q2", "loss_q3",
                                           "samples",   "step", "mse",     "mse_q0",  "mse_q1",  "mse_q2",
                                           "mse_q3",    "vb",   "vb_q0",   "vb_q1",   "vb_q2",   "vb_q3"};
  EXPECT_EQ(std::vector<std::string>(head.begin(), head.begin() + static_cast<int64_t>(published.size())), published);
  EXPECT_THAT(Column("samples"), ElementsAre("16"));
  EXPECT_THAT(Column("step"), ElementsAre("1")) << "zero-based, as there";
  EXPECT_THAT(Column("mse"), ElementsAre("2")) << "the weighted one, as there";
  EXPECT_THAT(Column("mse_raw"), ElementsAre("3"));
  EXPECT_THAT(Column("loss_snr_07"), ElementsAre("0.5"));
  EXPECT_THAT(Column("ema_distance_0.9999"), ElementsAre(""));
}

TEST_F(RunFilesTest, ARestartTakesBackWhatLiesPastItsPosition) {
  Attempt(0, {8, 16, 24, 32}, 0.5);
  std::ofstream(dir_ + "/progress.csv", std::ios::app) << "1,2,3";  // A row that a kill tore.
  Attempt(16, {24, 32, 40}, 0.25);
  EXPECT_THAT(Column("samples"), ElementsAre("8", "16", "24", "32", "40"));
  EXPECT_THAT(Column("loss"), ElementsAre("0.5", "0.5", "0.25", "0.25", "0.25"));
  EXPECT_THAT(EventFiles(), SizeIs(2));
  EXPECT_THAT(sink_.Notices(), IsEmpty());
}

TEST_F(RunFilesTest, ARollbackTakesBackWhatItPassesAnew) {
  Attempt(0, {8, 16, 24, 16, 24, 32}, 0.5);
  EXPECT_THAT(Column("samples"), ElementsAre("8", "16", "24", "32"));
}

TEST_F(RunFilesTest, RowsUnderOtherColumnsAreBroughtUnderThese) {
  std::ofstream(dir_ + "/progress.csv") << "step,samples,loss,old\n0,8,0.5,7\n1,16,0.25,8\n";
  Attempt(8, {16}, 0.125);
  EXPECT_THAT(Column("samples"), ElementsAre("8", "16"));
  EXPECT_THAT(Column("loss"), ElementsAre("0.5", "0.125"));
  EXPECT_THAT(Rows()[0], Not(HasSubstr("old")));
}

TEST_F(RunFilesTest, NamesEventFilesInTheOrderOfTheAttempts) {
  std::vector<std::string> after_each;
  for (int attempt = 0; attempt < 4; ++attempt) {  // Within one second.
    Attempt(0, {}, 0);
    after_each.push_back(EventFiles().back());
  }
  EXPECT_EQ(EventFiles(), after_each);
}

TEST_F(RunFilesTest, AFileThatCannotBeWrittenIsOneNoticeAndTheOtherGoesOn) {
  std::ofstream(dir_ + "/tensorboard") << "a file where the directory should be";
  Attempt(0, {8, 16}, 0.5);
  EXPECT_THAT(sink_.Notices(), ElementsAre(AllOf(HasSubstr("RUN_FILE_FAILED"), HasSubstr("/tensorboard"))));
  EXPECT_THAT(Column("samples"), ElementsAre("8", "16"));
  EXPECT_THAT(sink_.events, SizeIs(4)) << "the start, two reports, the notice";
}

TEST_F(RunFilesTest, AMissingPictureIsANotice) {
  RunFiles files(options_, sink_);
  files.Emit(Started{0, "", {}, 10});
  files.Emit(ArtifactWritten{"samples-000000008.png", "samples", "image/png", 8});
  EXPECT_THAT(sink_.Notices(), ElementsAre(HasSubstr("samples-000000008.png")));
}

TEST_F(RunFilesTest, ARankThatReportsNothingLeavesNoFile) {
  {
    RunFiles files(options_, sink_);
    files.Emit(Progress{});
    files.Emit(Finished{});
  }
  EXPECT_FALSE(fs::exists(dir_ + "/progress.csv"));
  EXPECT_FALSE(fs::exists(dir_ + "/tensorboard"));
}

}  // namespace
}  // namespace p2::trainer
