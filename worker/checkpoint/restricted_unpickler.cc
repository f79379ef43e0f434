#include "worker/checkpoint/restricted_unpickler.h"

#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "absl/base/internal/endian.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace p2::checkpoint {
namespace {

using Kind = PickleObject::Kind;

constexpr char kOrderedDict[] = "collections.OrderedDict";
constexpr char kSize[] = "torch.Size";
constexpr char kRebuildTensor[] = "torch._utils._rebuild_tensor_v2";
constexpr char kRebuildParameter[] = "torch._utils._rebuild_parameter";

const std::map<absl::string_view, DType>& StorageClasses() {
  static const auto* const classes = new std::map<absl::string_view, DType>{
      {"torch.FloatStorage", DType::kF32},     {"torch.DoubleStorage", DType::kF64}, {"torch.HalfStorage", DType::kF16},
      {"torch.BFloat16Storage", DType::kBF16}, {"torch.LongStorage", DType::kI64},   {"torch.IntStorage", DType::kI32},
      {"torch.ShortStorage", DType::kI16},     {"torch.CharStorage", DType::kI8},    {"torch.ByteStorage", DType::kU8},
      {"torch.BoolStorage", DType::kBool}};
  return *classes;
}

// Of untrusted text in a message: printable and short.
std::string Quoted(absl::string_view text) { return absl::StrCat("\"", absl::CHexEscape(text.substr(0, 100)), "\""); }

class Machine {
 public:
  explicit Machine(absl::string_view bytes) : bytes_(bytes) {}

  absl::StatusOr<Pickle> Run() {
    while (true) {
      opcode_at_ = at_;
      P2_ASSIGN_OR_RETURN(const uint8_t opcode, Byte());
      if (opcode == '.') break;
      P2_RETURN_IF_ERROR(Execute(opcode));
      if (pickle_.objects.size() > kMaxPickleObjects || stack_.size() > kMaxPickleObjects) {
        return Refused("more than ", kMaxPickleObjects, " objects");
      }
    }
    if (!marks_.empty() || stack_.size() != 1) return Damaged("ends with ", stack_.size(), " objects on its stack");
    pickle_.root = stack_.back();
    return std::move(pickle_);
  }

 private:
  template <typename... T>
  absl::Status Damaged(const T&... what) const {
    return absl::DataLossError(absl::StrCat("pickle, byte ", opcode_at_, ": ", what...));
  }
  template <typename... T>
  absl::Status Refused(const T&... what) const {
    return absl::InvalidArgumentError(absl::StrCat("pickle, byte ", opcode_at_, ": refused: ", what...));
  }

  absl::StatusOr<absl::string_view> Take(size_t count) {
    if (count > bytes_.size() - at_) return Damaged("ends inside an opcode");
    const absl::string_view taken = bytes_.substr(at_, count);
    at_ += count;
    return taken;
  }
  absl::StatusOr<uint8_t> Byte() {
    P2_ASSIGN_OR_RETURN(const absl::string_view byte, Take(1));
    return static_cast<uint8_t>(byte[0]);
  }
  absl::StatusOr<uint32_t> Word() {
    P2_ASSIGN_OR_RETURN(const absl::string_view word, Take(4));
    return absl::little_endian::Load32(word.data());
  }
  absl::StatusOr<absl::string_view> Line() {
    const size_t end = bytes_.find('\n', at_);
    if (end == absl::string_view::npos) return Damaged("ends inside a name");
    if (end - at_ > kMaxPickleString) return Refused("a name of ", end - at_, " bytes");
    const absl::string_view line = bytes_.substr(at_, end - at_);
    at_ = end + 1;
    return line;
  }

  PickleObject* New(Kind kind) {
    PickleObject& object = pickle_.objects.emplace_back();
    object.kind = kind;
    return &object;
  }
  absl::Status PushInt(int64_t value, Kind kind = Kind::kInt) {
    PickleObject* const object = New(kind);
    object->integer = value;
    stack_.push_back(object);
    return absl::OkStatus();
  }
  absl::StatusOr<PickleObject*> Pop() {
    if (stack_.size() <= Floor()) return Damaged("takes an object from an empty stack");
    PickleObject* const top = stack_.back();
    stack_.pop_back();
    return top;
  }
  size_t Floor() const { return marks_.empty() ? 0 : marks_.back(); }
  absl::StatusOr<std::vector<PickleObject*>> PopToMark() {
    if (marks_.empty()) return Damaged("has no mark on its stack");
    std::vector<PickleObject*> popped(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return popped;
  }

  absl::Status PushTuple(const std::vector<PickleObject*>& items) {
    PickleObject* const tuple = New(Kind::kTuple);
    tuple->items.assign(items.begin(), items.end());
    stack_.push_back(tuple);
    return absl::OkStatus();
  }
  absl::Status PushTopAsTuple(size_t count) {
    std::vector<PickleObject*> items(count);
    while (count > 0) {
      P2_ASSIGN_OR_RETURN(items[--count], Pop());
    }
    return PushTuple(items);
  }

  absl::Status Extend(Kind kind, const std::vector<PickleObject*>& items) {
    P2_ASSIGN_OR_RETURN(PickleObject* const target, Pop());
    if (target->kind != kind) return Damaged("adds items to a ", KindName(target->kind));
    if (kind == Kind::kDict && items.size() % 2 != 0) return Damaged("adds a key without a value");
    target->items.insert(target->items.end(), items.begin(), items.end());
    stack_.push_back(target);
    return absl::OkStatus();
  }

  absl::Status Put(uint32_t index) {
    if (stack_.size() <= Floor()) return Damaged("memoizes an object of an empty stack");
    if (index >= kMaxPickleObjects) return Refused("memo index ", index);
    if (index >= memo_.size()) memo_.resize(index + 1);
    memo_[index] = stack_.back();
    return absl::OkStatus();
  }
  absl::Status Get(uint32_t index) {
    if (index >= memo_.size() || memo_[index] == nullptr) return Damaged("memo ", index, " was never set");
    stack_.push_back(memo_[index]);
    return absl::OkStatus();
  }

  absl::Status PushGlobal() {
    P2_ASSIGN_OR_RETURN(const absl::string_view module, Line());
    P2_ASSIGN_OR_RETURN(const absl::string_view name, Line());
    std::string full = absl::StrCat(module, ".", name);
    const auto storage = StorageClasses().find(full);
    if (storage == StorageClasses().end() && full != kOrderedDict && full != kSize && full != kRebuildTensor &&
        full != kRebuildParameter) {
      return Refused("global ", Quoted(full), ", which is none of those that a file of weights needs");
    }
    PickleObject* const global = New(Kind::kGlobal);
    global->text = std::move(full);
    if (storage != StorageClasses().end()) global->dtype = storage->second;
    stack_.push_back(global);
    return absl::OkStatus();
  }

  // ('storage', class, key, location, elements); the location ("cuda:0") does not matter here.
  absl::Status PushStorage() {
    P2_ASSIGN_OR_RETURN(const PickleObject* const id, Pop());
    if (id->kind != Kind::kTuple || id->items.size() != 5 || id->items[0]->text != "storage" ||
        id->items[1]->kind != Kind::kGlobal || StorageClasses().count(id->items[1]->text) == 0 ||
        id->items[2]->kind != Kind::kString || id->items[3]->kind != Kind::kString ||
        id->items[4]->kind != Kind::kInt) {
      return Refused("a persistent id that is no ('storage', class, key, location, size)");
    }
    const absl::string_view key = id->items[2]->text;
    if (key.empty() || key.size() > 20 || key.find_first_not_of("0123456789") != absl::string_view::npos) {
      return Refused("storage key ", Quoted(key), ", which is no number");
    }
    const DType dtype = id->items[1]->dtype;
    const int64_t elements = id->items[4]->integer;
    if (!safetensors::TensorBytes(dtype, {elements}).ok()) return Refused("a storage of ", elements, " elements");
    PickleObject* const storage = New(Kind::kStorage);
    storage->text = std::string(key);
    storage->dtype = dtype;
    storage->integer = elements;
    stack_.push_back(storage);
    return absl::OkStatus();
  }

  static std::optional<std::vector<int64_t>> Lengths(const PickleObject& tuple) {
    if (tuple.kind != Kind::kTuple || tuple.items.size() > safetensors::kMaxDimensions) return std::nullopt;
    std::vector<int64_t> lengths;
    for (const PickleObject* item : tuple.items) {
      if (item->kind != Kind::kInt || item->integer < 0) return std::nullopt;
      lengths.push_back(item->integer);
    }
    return lengths;
  }

  // (storage, offset, shape, strides, requires_grad, hooks)
  absl::Status RebuildTensor(const std::vector<const PickleObject*>& arguments) {
    if (arguments.size() != 6 || arguments[0]->kind != Kind::kStorage || arguments[1]->kind != Kind::kInt) {
      return Refused("_rebuild_tensor_v2 with other arguments than (storage, offset, size, stride, requires_grad, hooks)");
    }
    const int64_t elements = arguments[0]->integer, offset = arguments[1]->integer;
    const auto shape = Lengths(*arguments[2]), strides = Lengths(*arguments[3]);
    if (!shape.has_value() || !strides.has_value() || shape->size() != strides->size() || offset < 0) {
      return Refused("a tensor of impossible shape, strides or offset");
    }
    int64_t last = offset, count = 1;
    for (size_t i = 0; i < shape->size(); ++i) {
      int64_t reach = 0;
      if (__builtin_mul_overflow(count, (*shape)[i], &count)) return Refused("a tensor of impossible shape");
      if ((*shape)[i] > 0 && (__builtin_mul_overflow((*shape)[i] - 1, (*strides)[i], &reach) ||
                              __builtin_add_overflow(last, reach, &last))) {
        return Refused("a tensor of impossible strides");
      }
    }
    if (count > elements || (count > 0 && last >= elements)) {
      return Refused("a tensor of ", count, " elements up to element ", last, " of a storage that has ", elements);
    }
    PickleObject* const tensor = New(Kind::kTensor);
    tensor->integer = offset;
    tensor->dtype = arguments[0]->dtype;
    tensor->items = {arguments[0]};
    tensor->shape = *shape;
    tensor->strides = *strides;
    pickle_.tensors.push_back(tensor);
    stack_.push_back(tensor);
    return absl::OkStatus();
  }

  absl::Status Call() {
    P2_ASSIGN_OR_RETURN(const PickleObject* const arguments, Pop());
    P2_ASSIGN_OR_RETURN(const PickleObject* const callee, Pop());
    if (callee->kind != Kind::kGlobal || arguments->kind != Kind::kTuple) {
      return Refused("a call of a ", KindName(callee->kind));
    }
    const auto& given = arguments->items;
    if (callee->text == kRebuildTensor) return RebuildTensor(given);
    if (callee->text == kOrderedDict && given.empty()) {
      stack_.push_back(New(Kind::kDict));
      return absl::OkStatus();
    }
    if (callee->text == kRebuildParameter && given.size() == 3 && given[0]->kind == Kind::kTensor) {
      stack_.push_back(const_cast<PickleObject*>(given[0]));
      return absl::OkStatus();
    }
    if (callee->text == kSize && given.size() == 1 && given[0]->kind == Kind::kTuple) {
      stack_.push_back(const_cast<PickleObject*>(given[0]));
      return absl::OkStatus();
    }
    return Refused("a call of ", callee->text, " with ", given.size(), " arguments of another kind than torch.save's");
  }

  // Only a state dict's attributes ({'_metadata': …}), which say nothing that matters here.
  absl::Status Build() {
    P2_ASSIGN_OR_RETURN(const PickleObject* const state, Pop());
    if (stack_.size() <= Floor() || stack_.back()->kind != Kind::kDict || state->kind != Kind::kDict) {
      return Refused("a BUILD of something else than an OrderedDict's attributes");
    }
    return absl::OkStatus();
  }

  absl::Status Execute(uint8_t opcode) {
    switch (opcode) {
      case 0x80: {  // PROTO
        P2_ASSIGN_OR_RETURN(const uint8_t protocol, Byte());
        return protocol == 2 ? absl::OkStatus() : Refused("protocol ", protocol, "; torch.save writes 2");
      }
      case '(':
        marks_.push_back(stack_.size());
        return marks_.size() <= kMaxPickleObjects ? absl::OkStatus() : Refused("too many marks");
      case ')':
        return PushTuple({});
      case '}':
        stack_.push_back(New(Kind::kDict));
        return absl::OkStatus();
      case ']':
        stack_.push_back(New(Kind::kList));
        return absl::OkStatus();
      case 't': {
        P2_ASSIGN_OR_RETURN(const std::vector<PickleObject*> items, PopToMark());
        return PushTuple(items);
      }
      case 0x85:  // TUPLE1
      case 0x86:  // TUPLE2
      case 0x87:  // TUPLE3
        return PushTopAsTuple(opcode - 0x84u);
      case 'u': {
        P2_ASSIGN_OR_RETURN(const std::vector<PickleObject*> items, PopToMark());
        return Extend(Kind::kDict, items);
      }
      case 's': {
        P2_ASSIGN_OR_RETURN(PickleObject* const value, Pop());
        P2_ASSIGN_OR_RETURN(PickleObject* const key, Pop());
        return Extend(Kind::kDict, {key, value});
      }
      case 'e': {
        P2_ASSIGN_OR_RETURN(const std::vector<PickleObject*> items, PopToMark());
        return Extend(Kind::kList, items);
      }
      case 'a': {
        P2_ASSIGN_OR_RETURN(PickleObject* const item, Pop());
        return Extend(Kind::kList, {item});
      }
      case 'q': {
        P2_ASSIGN_OR_RETURN(const uint8_t index, Byte());
        return Put(index);
      }
      case 'r': {
        P2_ASSIGN_OR_RETURN(const uint32_t index, Word());
        return Put(index);
      }
      case 'h': {
        P2_ASSIGN_OR_RETURN(const uint8_t index, Byte());
        return Get(index);
      }
      case 'j': {
        P2_ASSIGN_OR_RETURN(const uint32_t index, Word());
        return Get(index);
      }
      case 'c':
        return PushGlobal();
      case 'R':
        return Call();
      case 'b':
        return Build();
      case 'Q':
        return PushStorage();
      case 'X': {  // BINUNICODE
        P2_ASSIGN_OR_RETURN(const uint32_t size, Word());
        if (size > kMaxPickleString) return Refused("a string of ", size, " bytes");
        P2_ASSIGN_OR_RETURN(const absl::string_view text, Take(size));
        PickleObject* const string = New(Kind::kString);
        string->text = std::string(text);
        stack_.push_back(string);
        return absl::OkStatus();
      }
      case 'J': {  // BININT
        P2_ASSIGN_OR_RETURN(const uint32_t value, Word());
        return PushInt(static_cast<int32_t>(value));
      }
      case 'K': {  // BININT1
        P2_ASSIGN_OR_RETURN(const uint8_t value, Byte());
        return PushInt(value);
      }
      case 'M': {  // BININT2
        P2_ASSIGN_OR_RETURN(const absl::string_view value, Take(2));
        return PushInt(absl::little_endian::Load16(value.data()));
      }
      case 0x8a: {  // LONG1: two's complement, least byte first
        P2_ASSIGN_OR_RETURN(const uint8_t size, Byte());
        if (size > 8) return Refused("an integer of ", size, " bytes");
        P2_ASSIGN_OR_RETURN(const absl::string_view digits, Take(size));
        uint64_t value = 0;
        for (size_t i = 0; i < digits.size(); ++i) value |= uint64_t{static_cast<uint8_t>(digits[i])} << (8 * i);
        if (size > 0 && size < 8 && (digits.back() & 0x80) != 0) value |= ~uint64_t{0} << (8 * size);
        return PushInt(static_cast<int64_t>(value));
      }
      case 'G': {  // BINFLOAT, big endian
        P2_ASSIGN_OR_RETURN(const absl::string_view digits, Take(8));
        const uint64_t bits = absl::big_endian::Load64(digits.data());
        PickleObject* const object = New(Kind::kFloat);
        std::memcpy(&object->number, &bits, sizeof(bits));
        stack_.push_back(object);
        return absl::OkStatus();
      }
      case 'N':
        stack_.push_back(New(Kind::kNone));
        return absl::OkStatus();
      case 0x88:  // NEWTRUE
      case 0x89:  // NEWFALSE
        return PushInt(opcode == 0x88, Kind::kBool);
      default:
        return Refused("opcode 0x", absl::Hex(opcode, absl::kZeroPad2), ", which torch.save does not write");
    }
  }

  const absl::string_view bytes_;
  size_t at_ = 0;
  size_t opcode_at_ = 0;
  Pickle pickle_;
  std::vector<PickleObject*> stack_;
  std::vector<size_t> marks_;  // Heights of the stack.
  std::vector<PickleObject*> memo_;
};

}  // namespace

const PickleObject* PickleObject::Find(absl::string_view key) const {
  if (kind != Kind::kDict) return nullptr;
  for (size_t i = items.size(); i >= 2; i -= 2) {
    if (items[i - 2]->kind == Kind::kString && items[i - 2]->text == key) return items[i - 1];
  }
  return nullptr;
}

absl::string_view KindName(PickleObject::Kind kind) {
  switch (kind) {
    case Kind::kNone:
      return "None";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return "str";
    case Kind::kTuple:
      return "tuple";
    case Kind::kList:
      return "list";
    case Kind::kDict:
      return "dict";
    case Kind::kGlobal:
      return "global";
    case Kind::kStorage:
      return "storage";
    case Kind::kTensor:
      return "tensor";
  }
  return "?";
}

absl::StatusOr<Pickle> Unpickle(absl::string_view bytes) {
  if (bytes.size() > kMaxPickleBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a pickle of ", bytes.size(), " bytes; at most ", kMaxPickleBytes, " are read"));
  }
  return Machine(bytes).Run();
}

}  // namespace p2::checkpoint
