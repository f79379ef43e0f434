// What decides the last bits of training's numbers (TRAINING.md 4).
#pragma once

#include <c10/core/Device.h>

#include <map>
#include <string>

#include "worker/trainer/train_options.h"

namespace p2::trainer {

// Sets up this process before its first operation: threads, no denormals, deterministic kernels and no TF32 but where
// `spec` asks for cudnn_autotune or that precision. Returns the threads used.
int ConfigureNumerics(const Place& place, const TrainSpec& spec);

// The device of a place; an empty name chooses: the local rank's GPU if there is one, else the CPU.
// INVALID_ARGUMENT-worthy names throw.
at::Device DeviceOf(const Place& place);

// `microbatch`: of the attempt, 0: the whole share. torch, oneDNN, cuDNN, NCCL, device name, CPU capability, threads,
// precision, reduction; in `fast` also ranks and microbatch; cudnn_autotune where it is on.
std::map<std::string, std::string> NumericsFingerprint(const TrainOptions& options, at::Device device, int threads,
                                                       int64_t microbatch);

// "threads: 2 -> 1; torch: 2.10 -> 2.11", empty if equal.
std::string DescribeChange(const std::map<std::string, std::string>& before,
                           const std::map<std::string, std::string>& now);

}  // namespace p2::trainer
