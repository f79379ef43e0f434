#include "worker/agent/device_inventory.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "worker/agent/nvml_library.h"

namespace p2::agent {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

Machine CpuMachine(int cores) {
  return {.cores = cores,
          .cpu_model = "Tester 9000",
          .memory_bytes = 8 << 20,
          .gpus = absl::NotFoundError("no NVIDIA driver")};
}

Machine GpuMachine(std::optional<std::string> visible = std::nullopt) {
  return {
      .cores = 16,
      .gpus =
          std::vector<Gpu>{{0, "H200", "GPU-aaaa", 100}, {1, "H200", "GPU-abbb", 100}, {2, "H200", "GPU-cccc", 100}},
      .visible_devices = visible};
}

std::string Uuids(const absl::StatusOr<std::vector<p2::v1::Slot>>& slots) {
  std::string text;
  for (const p2::v1::Slot& slot : slots.value()) absl::StrAppend(&text, slot.id(), "=", slot.uuid(), " ");
  return text;
}

TEST(DeviceInventoryTest, SharesCoresAndMemoryAmongCpuSlots) {
  const auto slots = ListSlots("cpu:2", CpuMachine(5));
  ASSERT_TRUE(slots.ok()) << slots.status();
  ASSERT_THAT(*slots, SizeIs(2));
  EXPECT_EQ((*slots)[1].id(), "cpu:1");
  EXPECT_EQ((*slots)[1].kind(), "cpu");
  EXPECT_EQ((*slots)[1].device_name(), "Tester 9000");
  EXPECT_EQ((*slots)[1].threads(), 2);
  EXPECT_EQ((*slots)[1].memory_bytes(), 4 << 20);
  EXPECT_EQ(ListSlots("cpu:4", CpuMachine(2))->front().threads(), 1);
}

TEST(DeviceInventoryTest, AutoTakesEveryGpuElseACpuSlotPerTwoCores) {
  EXPECT_EQ(Uuids(ListSlots("auto", GpuMachine())), "cuda:0=GPU-aaaa cuda:1=GPU-abbb cuda:2=GPU-cccc ");
  EXPECT_THAT(*ListSlots("auto", CpuMachine(8)), SizeIs(4));
  EXPECT_THAT(*ListSlots("auto", CpuMachine(1)), SizeIs(1));
  EXPECT_EQ(ListSlots("auto", GpuMachine(""))->front().kind(), "cpu") << "an empty CUDA_VISIBLE_DEVICES hides all";
}

TEST(DeviceInventoryTest, CountsPositionsAmongVisibleDevices) {
  EXPECT_EQ(Uuids(ListSlots("cuda:0,1", GpuMachine("2,0"))), "cuda:0=GPU-cccc cuda:1=GPU-aaaa ");
  EXPECT_EQ(Uuids(ListSlots("auto", GpuMachine("GPU-ab,GPU-c"))), "cuda:0=GPU-abbb cuda:1=GPU-cccc ");
  EXPECT_EQ(Uuids(ListSlots("auto", GpuMachine("1,-1,2"))), "cuda:0=GPU-abbb ") << "an unknown entry ends the list";
}

TEST(DeviceInventoryTest, SaysWhatTheMachineLacks) {
  EXPECT_THAT(std::string(ListSlots("cuda:3", GpuMachine()).status().message()),
              HasSubstr("there is no GPU 3; 3 visible here"));
  const auto none = ListSlots("cuda:0", CpuMachine(2));
  EXPECT_EQ(none.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(none.status().message()), HasSubstr("no NVIDIA driver"));
}

TEST(DeviceInventoryTest, RefusesWhatIsNoDeviceSpec) {
  for (const char* spec :
       {"", "gpu:0", "cpu", "cpu:", "cpu:0", "cpu:-1", "cpu:257", "cpu:two", "cuda:", "cuda:0,", "cuda:-1", "cuda:1,1"})
    EXPECT_EQ(ListSlots(spec, GpuMachine()).status().code(), absl::StatusCode::kInvalidArgument) << spec;
}

TEST(DeviceInventoryTest, FindsCoresAndMemoryOfThisMachine) {
  const Machine machine = ProbeMachine(kNvmlLibrary);
  EXPECT_GE(machine.cores, 1);
  EXPECT_GT(machine.memory_bytes, 0);
  EXPECT_FALSE(machine.cpu_model.empty());
}

}  // namespace
}  // namespace p2::agent
