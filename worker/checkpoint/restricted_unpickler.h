// The pickle machine for torch.save files: builds plain data and executes nothing.
//
// Protocol 2, the opcodes that torch.save writes, and these globals: collections.OrderedDict, torch.Size,
// torch._utils._rebuild_tensor_v2, torch._utils._rebuild_parameter, torch.<Type>Storage. Anything else is refused by its
// name and byte. Not torch's own unpickler: it resolves classes by name and cannot read an OrderedDict.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/safetensors/safetensors.h"

namespace p2::checkpoint {

using safetensors::DType;

// Refused above: data.pkl of the largest published file has 20 kB.
inline constexpr size_t kMaxPickleBytes = 16 << 20;
inline constexpr size_t kMaxPickleObjects = 1 << 20;  // Also bounds the stack and the memo.
inline constexpr size_t kMaxPickleString = 64 << 10;

// One object of the pickle. References may form cycles: walk it to a fixed depth.
struct PickleObject {
  enum class Kind { kNone, kBool, kInt, kFloat, kString, kTuple, kList, kDict, kGlobal, kStorage, kTensor };

  Kind kind = Kind::kNone;
  int64_t integer = 0;  // kBool (0, 1), kInt; kStorage: its elements; kTensor: offset of the first element.
  double number = 0;    // kFloat
  std::string text;     // kString; kGlobal: "module.name"; kStorage: its key, the N of data/N.
  DType dtype = DType::kF32;               // kStorage, and kGlobal of a storage class
  std::vector<const PickleObject*> items;  // kTuple, kList; kDict: key, value, key, value, …; kTensor: its storage
  std::vector<int64_t> shape;              // kTensor
  std::vector<int64_t> strides;            // kTensor, elements, one a dimension, none negative

  // The value under a string key of a dict; null if there is none or this is no dict. The last of equal keys, as in
  // Python.
  const PickleObject* Find(absl::string_view key) const;
};

// "None", "bool", "int", …: for messages.
absl::string_view KindName(PickleObject::Kind kind);

// Owns every object. Moving it keeps their addresses.
struct Pickle {
  std::deque<PickleObject> objects;
  const PickleObject* root = nullptr;
  std::vector<const PickleObject*> tensors;  // In the order of their creation.
};

// Bounds hold afterwards for every tensor: shape and strides of equal length (at most safetensors::kMaxDimensions), its
// elements inside its storage's declared number and no more of them than that.
// INVALID_ARGUMENT naming the global, opcode or call that is refused, or the limit that is passed; DATA_LOSS if the
// bytes are no pickle. Both name the byte.
absl::StatusOr<Pickle> Unpickle(absl::string_view bytes);

}  // namespace p2::checkpoint
