#include "worker/checkpoint/restricted_unpickler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace p2::checkpoint {
namespace {

using namespace std::string_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Message(const std::string& bytes) {
  const absl::StatusOr<Pickle> pickle = Unpickle(bytes);
  EXPECT_FALSE(pickle.ok());
  return std::string(pickle.status().message());
}

// A tensor of `shape` and `strides` (opcodes) over a storage of `elements` (an opcode).
std::string Tensor(const std::string& elements, const std::string& shape, const std::string& strides) {
  return "\x80\x02" "ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0"s +
         "0X\x06\0\0\0cuda:0"s + elements + "tQK\x01(" + shape + "t(" + strides +
         "t\x89" "ccollections\nOrderedDict\n)RtR.";
}

TEST(RestrictedUnpicklerTest, ReadsTensorsWhereverTheyWereTrained) {
  const absl::StatusOr<Pickle> pickle = Unpickle(Tensor("K\x07", "K\x02K\x03", "K\x03K\x01"));
  ASSERT_TRUE(pickle.ok()) << pickle.status();
  ASSERT_EQ(pickle->root->kind, PickleObject::Kind::kTensor);
  EXPECT_THAT(pickle->root->shape, ElementsAre(2, 3));
  EXPECT_EQ(pickle->root->integer, 1);
}

TEST(RestrictedUnpicklerTest, RefusesTensorsThatLeaveTheirStorage) {
  EXPECT_THAT(Message(Tensor("K\x06", "K\x02K\x03", "K\x03K\x01")), HasSubstr("up to element 6 of a storage that has 6"));
  EXPECT_THAT(Message(Tensor("K\x07", "K\x02K\x03", "K\x7fK\x01")), HasSubstr("storage that has 7"));
  // One element shown a million times.
  EXPECT_THAT(Message(Tensor("K\x07", "J\x40\x42\x0f\x00"s, "K\x00"s)), HasSubstr("1000000 elements"));
  const std::string huge = "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f";
  EXPECT_THAT(Message(Tensor(huge, "K\x01", "K\x01")), HasSubstr("refused: a storage of 9223372036854775807"));
  EXPECT_THAT(Message(Tensor("K\x07", huge + huge, "K\x01K\x01")), HasSubstr("impossible shape"));
  EXPECT_THAT(Message(Tensor("K\x07", "K\x02K\x02", huge + "K\x01")), HasSubstr("impossible strides"));
  EXPECT_THAT(Message(Tensor("K\x07", "J\xff\xff\xff\xff", "K\x01")), HasSubstr("impossible shape"));
}

TEST(RestrictedUnpicklerTest, NamesTheGlobalThatItRefuses) {
  EXPECT_THAT(Message("\x80\x02" "cos\nsystem\nX\x02\0\0\0id\x85R."s),
              HasSubstr("byte 2: refused: global \"os.system\""));
  EXPECT_THAT(Message("\x80\x02" "cbuiltins\neval\n."), HasSubstr("builtins.eval"));
  EXPECT_THAT(Message("\x80\x02" "ctorch\nload\n."), HasSubstr("torch.load"));
  EXPECT_THAT(Message("\x80\x02" "c__torch__\nNet\n."), HasSubstr("__torch__.Net"));
}

TEST(RestrictedUnpicklerTest, RefusesOpcodesAndCallsThatTorchSaveDoesNotMake) {
  EXPECT_THAT(Message("\x80\x02(S'x'\no."), HasSubstr("opcode 0x53"));
  EXPECT_THAT(Message("\x80\x04."), HasSubstr("protocol 4"));
  EXPECT_THAT(Message("\x80\x02" "ccollections\nOrderedDict\nK\x01\x85R."), HasSubstr("call of collections.OrderedDict"));
  EXPECT_THAT(Message("\x80\x02K\x01)R."), HasSubstr("call of a int"));
  EXPECT_THAT(Message("\x80\x02]}b."), HasSubstr("BUILD"));
  EXPECT_THAT(Message("\x80\x02K\x01Q."), HasSubstr("persistent id"));
}

TEST(RestrictedUnpicklerTest, BoundsWhatAFewBytesMayAskFor) {
  EXPECT_THAT(Message("\x80\x02X\xff\xff\xff\x7f."), HasSubstr("string of 2147483647 bytes"));
  EXPECT_THAT(Message("\x80\x02Nr\xff\xff\xff\x7f."), HasSubstr("memo index"));
  EXPECT_THAT(Message("\x80\x02" + std::string(kMaxPickleObjects + 8, 'N')), HasSubstr("objects"));
  EXPECT_THAT(Message("\x80\x02" + std::string(kMaxPickleObjects + 8, '(')), HasSubstr("marks"));
  EXPECT_THAT(Message("\x80\x02Nq\x00"s + [] {
                std::string many;
                for (size_t i = 0; i < kMaxPickleObjects + 8; ++i) many += "h\x00"s;
                return many;
              }()),
              HasSubstr("objects"));
  EXPECT_THAT(Message(std::string(kMaxPickleBytes + 1, '.')), HasSubstr("at most"));
}

TEST(RestrictedUnpicklerTest, TellsDamageByItsByte) {
  for (const std::string& bytes : {""s, "\x80"s, "\x80\x02"s, "\x80\x02."s, "\x80\x02R."s, "\x80\x02t."s, "\x80\x02(h\x01."s,
                                   "\x80\x02NN."s, "\x80\x02Na."s, "\x80\x02}(NuN."s, "\x80\x02(."s, "\x80\x02X\x05\0\0\0ab"s}) {
    const absl::StatusOr<Pickle> pickle = Unpickle(bytes);
    EXPECT_TRUE(absl::IsDataLoss(pickle.status())) << pickle.status();
    EXPECT_THAT(std::string(pickle.status().message()), HasSubstr("byte "));
  }
}

TEST(RestrictedUnpicklerTest, KeepsAListThatHoldsItself) {
  const absl::StatusOr<Pickle> pickle = Unpickle("\x80\x02]q\x00h\x00" "a."s);
  ASSERT_TRUE(pickle.ok()) << pickle.status();
  EXPECT_EQ(pickle->root->items[0], pickle->root);
}

TEST(RestrictedUnpicklerTest, ReadsNumbersOfEverySize) {
  const absl::StatusOr<Pickle> pickle =
      Unpickle("\x80\x02(K\xffM\x00\x01J\xfe\xff\xff\xff\x8a\x02\x00\xff\x8a\x00\x88G?\xf0\0\0\0\0\0\0t."s);
  ASSERT_TRUE(pickle.ok()) << pickle.status();
  std::vector<int64_t> integers;
  for (const PickleObject* item : pickle->root->items) integers.push_back(item->integer);
  EXPECT_THAT(integers, ElementsAre(255, 256, -2, -256, 0, 1, 0));
  EXPECT_EQ(pickle->root->items[6]->number, 1.0);
}

}  // namespace
}  // namespace p2::checkpoint
