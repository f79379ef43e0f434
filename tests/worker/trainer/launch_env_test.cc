#include "worker/trainer/launch_env.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace p2::trainer {
namespace {

using ::testing::HasSubstr;

GetEnv Env(std::map<std::string, std::string> values) {
  return [values](const char* name) -> std::optional<std::string> {
    const auto found = values.find(name);
    return found == values.end() ? std::nullopt : std::make_optional(found->second);
  };
}

TEST(LaunchEnvTest, IsTheOnlyRankWithoutALauncher) {
  Place place;
  ASSERT_TRUE(PlaceFromEnvironment(Env({}), &place).ok());
  EXPECT_EQ(place.rank, 0);
  EXPECT_EQ(place.world_size, 1);
  EXPECT_FALSE(place.store_fd.has_value());
}

TEST(LaunchEnvTest, TakesTorchrunsVariables) {
  Place place;
  place.device = "cuda";
  ASSERT_TRUE(PlaceFromEnvironment(Env({{"RANK", "5"},
                                        {"WORLD_SIZE", "8"},
                                        {"LOCAL_RANK", "1"},
                                        {"LOCAL_WORLD_SIZE", "4"},
                                        {"MASTER_ADDR", "10.0.0.1"},
                                        {"MASTER_PORT", "29500"},
                                        {"SLURM_PROCID", "7"}}),
                                   &place)
                  .ok());
  EXPECT_EQ(place.rank, 5);
  EXPECT_EQ(place.world_size, 8);
  EXPECT_EQ(place.local_world_size, 4);
  EXPECT_EQ(place.master_address, "10.0.0.1");
  EXPECT_EQ(place.master_port, 29500);
  EXPECT_EQ(place.device, "cuda:1");
}

TEST(LaunchEnvTest, TakesSlurmsVariables) {
  Place place;
  ASSERT_TRUE(PlaceFromEnvironment(Env({{"SLURM_PROCID", "3"},
                                        {"SLURM_NTASKS", "4"},
                                        {"SLURM_LOCALID", "1"},
                                        {"MASTER_ADDR", "node1"},
                                        {"MASTER_PORT", "29500"}}),
                                   &place)
                  .ok());
  EXPECT_EQ(place.rank, 3);
  EXPECT_EQ(place.world_size, 4);
}

TEST(LaunchEnvTest, TakesWhatTheAgentHandsOver) {
  Place place;
  ASSERT_TRUE(PlaceFromEnvironment(
                  Env({{"P2_DEVICE", "cpu:1"}, {"P2_DATA_INTERFACE", "192.168.0.4"}, {"P2_STORE_FD", "9"}}), &place)
                  .ok());
  EXPECT_EQ(place.device, "cpu:1");
  EXPECT_EQ(place.data_interface, "192.168.0.4");
  EXPECT_EQ(place.store_fd, 9);
}

TEST(LaunchEnvTest, NamesTheVariableThatIsWrong) {
  Place place;
  EXPECT_THAT(std::string(PlaceFromEnvironment(Env({{"RANK", "one"}}), &place).message()),
              HasSubstr("RANK is \"one\""));
  EXPECT_THAT(std::string(PlaceFromEnvironment(Env({{"RANK", "2"}, {"WORLD_SIZE", "2"}}), &place).message()),
              HasSubstr("ranks count from 0"));
  EXPECT_THAT(std::string(PlaceFromEnvironment(Env({{"RANK", "0"}, {"WORLD_SIZE", "2"}}), &place).message()),
              HasSubstr("MASTER_PORT is not set"));
}

}  // namespace
}  // namespace p2::trainer
