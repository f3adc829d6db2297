// The CUDA runtime of a process that has no device: what libdiffsort_cuda asks of it, with a Machine
// for the device. Kernels come from the PTX in the objects that nvcc compiled.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "machine.h"

namespace diffsort::device {

// Two devices by name, which are the same machine. Memory that kernels use has to be allowed beforehand.
constexpr int kDevices = 2;
Machine& machine();

// The devices that were made current since the last call, and the one on which a kernel was last launched.
std::vector<int> take_made_current();
int device_of_last_launch();

// Since the last call, by kernel.
std::map<std::string, Counts> take_counts();

// What the device is, as far as libdiffsort_cuda asks.
struct Properties {
  int compute_capability;  // 75 or 90, those that there is PTX for, where kernels are to run
  int shared_bytes;        // that a block can have
};
constexpr Properties kTuring{75, 64 * 1024}, kHopper{90, 227 * 1024};

void become(const Properties& properties);

}  // namespace diffsort::device
