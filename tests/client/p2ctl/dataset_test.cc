// `p2ctl dataset prepare` and `register` with real images.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/image/png_write.h"
#include "tests/client/fake_server.h"
#include "tests/client/p2ctl/p2ctl_process.h"

namespace p2::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;

class DatasetTest : public ::testing::Test {
 protected:
  DatasetTest() : images_(MakeTempDir()), root_(std::filesystem::canonical(MakeTempDir()).string() + "/root") {
    for (int i = 0; i < 3; ++i) {
      const image::Image grey{8, 8, 1, std::vector<uint8_t>(64, static_cast<uint8_t>(80 * i))};
      EXPECT_TRUE(image::WritePng(grey, absl::StrCat(images_, "/", i, ".png")).ok());
    }
    std::ofstream(images_ + "/broken.jpg") << "no picture";
    root_id_ = Json::parse(P2ctl({"root", "init", root_, "-o", "json"}).out)["id"];
    server_.With([this](FakeState& s) {
      v1::StorageRoot& root = s.roots.emplace_back();
      root.set_name("disk");
      root.set_id(root_id_);
      root.set_path(root_);
    });
  }
  P2ctlResult P2ctl(std::vector<std::string> arguments) {
    return RunP2ctl(std::move(arguments), {{"P2_ADDR", server_.address()}});
  }

  FakeServer server_;
  const std::string images_;
  const std::string root_;
  std::string root_id_;
};

TEST_F(DatasetTest, PreparesAndRegisters) {
  const P2ctlResult result = P2ctl(
      {"dataset", "prepare", images_, "mine", "--resolution", "8", "--channels", "1", "--root", root_, "-o", "json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = Json::parse(result.out);
  EXPECT_EQ(json["imageCount"], "3");
  EXPECT_EQ(json["registered"], true);
  EXPECT_EQ(json["badImages"][0]["path"], "broken.jpg");
  EXPECT_THAT(result.err, AllOf(HasSubstr("1 file could not be read"), HasSubstr("broken.jpg: ")));
  server_.With([&](FakeState& s) {
    const v1::Dataset& dataset = s.datasets.at("datasets/mine");
    EXPECT_EQ(dataset.root(), "disk");
    EXPECT_EQ(dataset.root_id(), root_id_);
    EXPECT_EQ(dataset.path(), "datasets/mine");
    EXPECT_EQ(dataset.image_count(), 3);
    EXPECT_EQ(dataset.fingerprint(), json["fingerprint"]);
    EXPECT_EQ(dataset.bad_image_count(), 1);
    EXPECT_GT(dataset.size_bytes(), 3 * 64);
  });
}

TEST_F(DatasetTest, TakesARootByItsName) {
  EXPECT_EQ(P2ctl({"dataset", "prepare", images_, "mine", "--resolution", "8", "--root", "disk", "-q"}).out, "mine\n");
  EXPECT_TRUE(std::filesystem::exists(root_ + "/datasets/mine/dataset.json"));
}

TEST_F(DatasetTest, SaysHowToRegisterWhenNoServerAnswers) {
  server_.Stop();
  const P2ctlResult result = P2ctl({"dataset", "prepare", images_, "mine", "--resolution", "8", "--root", root_});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.err, HasSubstr(absl::StrCat("p2ctl dataset register ", root_, "/datasets/mine")));
  server_.Start();
  const P2ctlResult registered = P2ctl({"dataset", "register", root_ + "/datasets/mine", "-o", "json"});
  EXPECT_EQ(registered.exit_code, 0) << registered.err;
  EXPECT_EQ(Json::parse(registered.out)["root"], "disk");
}

TEST_F(DatasetTest, ValidatesByDirectoryAndByNameAndSaysWhatDiffers) {
  ASSERT_EQ(P2ctl({"dataset", "prepare", images_, "mine", "--resolution", "8", "--root", root_}).exit_code, 0);
  const std::string directory = root_ + "/datasets/mine";
  const P2ctlResult good = P2ctl({"dataset", "validate", directory, "-o", "json"});
  ASSERT_EQ(good.exit_code, 0) << good.err;
  EXPECT_EQ(Json::parse(good.out)["valid"], true);
  EXPECT_EQ(Json::parse(good.out)["imageCount"], "3");
  EXPECT_EQ(P2ctl({"dataset", "validate", "mine"}).exit_code, 0);
  std::fstream shard(directory + "/shard-00000.p2s", std::ios::in | std::ios::out | std::ios::binary);
  shard.seekp(100);
  shard.put(static_cast<char>(77));
  shard.close();
  const P2ctlResult bad = P2ctl({"dataset", "validate", "mine"});
  EXPECT_EQ(bad.exit_code, 12);
  EXPECT_THAT(bad.err, AllOf(HasSubstr("shard-00000.p2s is damaged"), HasSubstr("record 0 (bytes 64 to"),
                             HasSubstr("the records' fingerprint is")));
  EXPECT_EQ(P2ctl({"dataset", "validate", "other"}).exit_code, 3);
}

TEST_F(DatasetTest, AdvisesFromTheManifest) {
  ASSERT_EQ(P2ctl({"dataset", "prepare", images_, "mine", "--resolution", "8", "--root", root_}).exit_code, 0);
  const P2ctlResult result =
      P2ctl({"dataset", "advise", root_ + "/datasets/mine", "--images-per-second", "100", "-o", "json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = Json::parse(result.out);
  EXPECT_EQ(json["resembles"], "metfaces");
  EXPECT_EQ(json["gamma"], 1.0);
  EXPECT_NEAR(json["hours"].get<double>(), 4.44, 0.01);
  EXPECT_THAT(result.err, HasSubstr("p2ctl submit own-64 --dataset mine"));
}

TEST_F(DatasetTest, TakesLimits) {
  const P2ctlResult result =
      P2ctl({"dataset", "prepare", images_, "mine", "--resolution", "8", "--root", root_, "--max-pixels", "63"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("8 x 8 pixels; at most 63"));
}

TEST_F(DatasetTest, RefusesWhatIsNoRootAndWhatIsNotThere) {
  const P2ctlResult no_root = P2ctl({"dataset", "prepare", images_, "mine", "--resolution", "8", "--root", images_});
  EXPECT_EQ(no_root.exit_code, 6);
  EXPECT_THAT(no_root.err, HasSubstr("p2ctl root init"));
  EXPECT_EQ(P2ctl({"dataset", "prepare", images_, "mine", "--resolution", "8", "--root", "nowhere"}).exit_code, 3);
  EXPECT_EQ(P2ctl({"dataset", "prepare", "/no/such", "mine", "--resolution", "8", "--root", root_}).exit_code, 3);
  EXPECT_EQ(P2ctl({"dataset", "prepare", images_, "Mine!", "--resolution", "8", "--root", root_}).exit_code, 2);
  EXPECT_EQ(P2ctl({"dataset", "prepare", images_, "mine", "--root", root_}).exit_code, 2);
}

}  // namespace
}  // namespace p2::testing
