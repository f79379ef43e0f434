// A hundred NaNs, anywhere in a step: none reaches a checkpoint, and each run ends in the bits of a run that did not
// update in that step.
//
// A NaN (or an infinity) is written into one element of the result of one operator of the forward or the backward
// pass, or of the summed gradient, on one rank. RecordFunction shows every operator's result, so the product needs no
// hook for it. What comes after the gradients are judged (optimizer, EMA) is not touched.
#include <ATen/record_function.h>
#include <gmock/gmock.h>
#include <torch/torch.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>

#include "common/safetensors/safetensors.h"
#include "tests/worker/trainer/tiny_run.h"

namespace p2::trainer {
namespace {

using ::testing::Each;

constexpr int kTries = 100;
constexpr int kSteps = 7;
constexpr int kBatch = 6;

// The places, by the operators that compute them. "": the summed gradient.
struct Place {
  const char* name;
  std::set<std::string> operators;
  bool first_only = false;  // Of these operators in a step; else any of them.
};
const Place kPlaces[] = {
    {"gradient", {}},
    {"input", {"aten::sub_"}},
    {"noised input", {"aten::mul"}, /*first_only=*/true},
    {"activation", {"aten::convolution", "aten::silu", "aten::native_group_norm", "aten::addmm"}},
    {"loss", {"aten::mean", "aten::sum"}},
    {"activation's gradient",
     {"aten::convolution_backward", "aten::silu_backward", "aten::native_group_norm_backward"}},
};

// What the calling thread, a rank, is to spoil. Known to it after its first step; armed after the step before, disarmed
// when the gradients are summed.
struct Injection {
  bool counting = false;
  bool armed = false;
  const Place* place = nullptr;
  int64_t nth = 0;       // Which of the place's operators in the step.
  uint64_t element = 0;  // Modulo the result's size.
  float value = 0;
  int64_t met = 0;  // The place's operators so far.
  int made = 0;
};
thread_local Injection* current = nullptr;

void Spoil(const c10::IValue& result, Injection& injection) {
  if (!result.isTensor() || !result.toTensor().defined()) return;
  const at::Tensor tensor = result.toTensor();
  if (tensor.scalar_type() != at::kFloat || tensor.numel() == 0 || !tensor.is_contiguous()) return;
  if (injection.armed && injection.met == injection.nth) {
    tensor.mutable_data_ptr<float>()[injection.element % static_cast<uint64_t>(tensor.numel())] = injection.value;
    ++injection.made;
  }
  ++injection.met;
}

std::unique_ptr<at::ObserverContext> Begin(const at::RecordFunction&) { return nullptr; }
void End(const at::RecordFunction& function, at::ObserverContext*) {
  Injection* const injection = current;
  if (injection == nullptr || !injection->counting || injection->place->operators.count(function.name()) == 0) return;
  for (const c10::IValue& result : function.outputs()) {
    Spoil(result, *injection);
    break;  // The first result is what goes on.
  }
}

struct Observer {
  Observer() : handle(at::addGlobalCallback(at::RecordFunctionCallback(Begin, End).needsOutputs(true))) {}
  ~Observer() { at::removeCallback(handle); }
  at::CallbackHandle handle;
};

// One try: these steps of `rank` are spoiled.
struct Try {
  const Place* place = nullptr;
  int ranks = 1;
  int rank = 0;
  std::set<int64_t> steps;
  double where = 0;  // In [0, 1): which of the place's operators.
  uint64_t element = 0;
  float value = 0;
};

struct Outcome {
  std::map<std::string, std::string> digests;  // Of the last checkpoint.
  std::set<int64_t> skipped;                   // The steps without an update, by the checkpoints.
  int made = 0;                                // Injections.
  int rollbacks = 0;                           // Notices of them.
};

class NonFiniteTest : public ::testing::Test {
 protected:
  void SetUp() override {
    data_ = FreshDir("data");
    MakeTinyDataset(data_);
  }

  TrainOptions Options(const std::string& name) {
    TrainOptions options = TinyOptions(data_, FreshDir(name));
    options.spec.images = kSteps * kBatch;
    options.spec.checkpoint_every_images = kBatch;
    options.spec.keep_last = kSteps;
    return options;
  }

  // The hooks of the rank that is spoiled. `operators`: of the place in a step, counted in the second.
  TrainerHooks Spoiling(const Try& attempt, Injection* injection) {
    *injection = {.counting = true, .place = attempt.place, .element = attempt.element, .value = attempt.value};
    TrainerHooks hooks;
    const auto operators = std::make_shared<int64_t>(0);
    hooks.on_gradients = [=](int64_t first_sample, at::Tensor& grads) {
      const int64_t step = first_sample / kBatch;
      if (attempt.place->operators.empty() && attempt.steps.count(step) != 0) {
        grads[static_cast<int64_t>(attempt.element % static_cast<uint64_t>(grads.numel()))] = attempt.value;
        ++injection->made;
      }
      if (*operators == 0) *operators = injection->met;
      injection->counting = injection->armed = false;
    };
    hooks.on_step = [=](int64_t images_seen) {
      current = injection;
      injection->counting = true;
      injection->met = 0;
      // After a rollback the spoiled steps are passed over.
      injection->armed = attempt.steps.count(images_seen / kBatch) != 0 && injection->made < std::ssize(attempt.steps);
      injection->nth = static_cast<int64_t>(attempt.where * static_cast<double>(*operators));
    };
    return hooks;
  }

  // Runs it; no checkpoint may hold anything that is not finite.
  Outcome Run(const Try& attempt, const std::string& name) {
    const TrainOptions options = Options(name);
    Injection injection;
    std::vector<TrainerHooks> hooks(static_cast<size_t>(attempt.ranks));
    hooks[static_cast<size_t>(attempt.rank)] = Spoiling(attempt, &injection);
    GangRun run(attempt.ranks);
    RunRanks(options, hooks, &run);
    EXPECT_THAT(run.exit_codes, Each(ExitCode::kDone));
    Outcome outcome{.made = injection.made};
    const std::vector<std::string> reasons = run.sinks[0].Reasons();
    outcome.rollbacks = static_cast<int>(std::count(reasons.begin(), reasons.end(), "DATA_SKIPPED"));
    const std::map<int64_t, int64_t> updates = CheckedUpdates(options.checkpoint_dir);
    EXPECT_GE(updates.size(), 2u);
    int64_t before = 0;
    int64_t from = 0;
    for (const auto& [steps, updated] : updates) {
      // A rollback leaves no checkpoint of the steps that it passed over.
      for (int64_t step = from; step < steps - (updated - before); ++step) outcome.skipped.insert(step);
      from = steps;
      before = updated;
    }
    outcome.digests = TensorDigests(options, options.spec.images);
    checkpoint::RemoveTree(options.checkpoint_root);
    return outcome;
  }

  // By the steps a checkpoint has seen, its updates; each tensor is looked through for what is not finite.
  static std::map<int64_t, int64_t> CheckedUpdates(const std::string& directory) {
    std::map<int64_t, int64_t> updates;
    for (const std::string& name : checkpoint::ListCheckpoints(directory)) {
      ExpectFinite(absl::StrCat(directory, "/", name));
      const auto checkpoint = checkpoint::Checkpoint::Open(absl::StrCat(directory, "/", name));
      EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
      if (!checkpoint.ok()) continue;
      updates[(*checkpoint)->state().images_seen / kBatch] = (*checkpoint)->state().updates;
    }
    return updates;
  }

  static void ExpectFinite(const std::string& directory) {
    const auto checkpoint = checkpoint::Checkpoint::Open(directory);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    for (const checkpoint::FileEntry& file : (*checkpoint)->manifest().files) {
      if (file.path.find(".safetensors") == std::string::npos) continue;
      const auto reader = safetensors::Reader::Open(directory + "/" + file.path);
      ASSERT_TRUE(reader.ok()) << reader.status();
      for (const safetensors::TensorInfo& tensor : (*reader)->tensors()) {
        std::vector<float> values(tensor.size / sizeof(float));
        ASSERT_TRUE((*reader)
                        ->Read(tensor.name, absl::MakeSpan(reinterpret_cast<std::byte*>(values.data()), tensor.size))
                        .ok());
        for (const float value : values)
          ASSERT_TRUE(std::isfinite(value)) << directory << " " << file.path << " " << tensor.name;
      }
    }
  }

  // The digests of a run whose gradient is spoiled in these steps: what others that skip them must end in.
  const std::map<std::string, std::string>& Reference(int ranks, const std::set<int64_t>& steps) {
    const auto key = std::make_pair(ranks, steps);
    if (references_.count(key) == 0) {
      const Try plain{.place = &kPlaces[0],
                      .ranks = ranks,
                      .steps = steps,
                      .element = 5,
                      .value = std::numeric_limits<float>::quiet_NaN()};
      Outcome outcome = Run(plain, absl::StrCat("reference-", references_.size()));
      EXPECT_EQ(outcome.made, steps.size());
      EXPECT_EQ(outcome.skipped, steps);
      references_[key] = std::move(outcome.digests);
    }
    return references_[key];
  }

  std::string data_;
  std::map<std::pair<int, std::set<int64_t>>, std::map<std::string, std::string>> references_;
};

TEST_F(NonFiniteTest, AHundredNeverReachACheckpoint) {
  const Observer observer;
  const char* const given = std::getenv("P2_TEST_SEED");
  const uint64_t seed = given != nullptr ? std::stoull(given) : std::random_device()();
  std::printf("P2_TEST_SEED=%llu repeats this\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 random(seed);
  const auto below = [&random](uint64_t n) { return static_cast<int>(random() % n); };
  constexpr float kBad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()};
  std::map<std::string, int> by_place;
  int unused = 0;
  for (int i = 0; i < kTries && unused < kTries / 2 && !HasFailure();) {
    Try attempt;
    attempt.place = &kPlaces[static_cast<size_t>(i) % std::size(kPlaces)];
    attempt.ranks = i % 5 == 4 ? 2 : 1;
    attempt.rank = below(static_cast<uint64_t>(attempt.ranks));
    const int length = i % 10 == 7 ? 3 : 1;
    const int first = 2 + below(static_cast<uint64_t>(kSteps - 2 - length));
    for (int step = first; step < first + length; ++step) attempt.steps.insert(step);
    attempt.where = attempt.place->first_only ? 0 : static_cast<double>(random() >> 11) * 0x1p-53;
    attempt.element = random();
    // An infinity in an activation may come out finite again; only in the gradient is it always bad.
    attempt.value = kBad[attempt.place->operators.empty() ? below(3) : 0];
    SCOPED_TRACE(absl::StrCat("try ", i, ": ", attempt.place->name, ", rank ", attempt.rank, " of ", attempt.ranks,
                              ", steps ", first, " to ", first + length - 1, ", seed ", seed));
    const Outcome outcome = Run(attempt, absl::StrCat("try-", i, "-", unused));
    EXPECT_EQ(outcome.made, length) << "it was not injected";
    EXPECT_EQ(outcome.digests, Reference(attempt.ranks, outcome.skipped));
    if (outcome.skipped != attempt.steps) {
      // Dropout, and the loss where both branches of a where() are computed: there a NaN may change nothing at all.
      EXPECT_THAT(attempt.steps, ::testing::IsSupersetOf(outcome.skipped));
      ++unused;
      continue;
    }
    EXPECT_EQ(outcome.rollbacks, length == 3 ? 1 : 0);
    ++by_place[attempt.place->name];
    ++i;
  }
  std::printf("%d more met a value that is not used, and changed no bit\n", unused);
  EXPECT_EQ(
      std::accumulate(by_place.begin(), by_place.end(), 0, [](int n, const auto& place) { return n + place.second; }),
      kTries);
  for (const auto& [name, count] : by_place) std::printf("%-24s %d of %d tries\n", name.c_str(), count, kTries);
}

}  // namespace
}  // namespace p2::trainer
