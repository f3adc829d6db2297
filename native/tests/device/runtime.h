// The CUDA runtime of a process that has no device: what libdiffsort_cuda asks of it, with a Machine
// for the device. Kernels come from the PTX in the objects that nvcc compiled.
#pragma once

#include <map>
#include <string>

#include "machine.h"

namespace diffsort::device {

// The one device. Memory that kernels use has to be allowed beforehand.
Machine& machine();

// Since the last call, by kernel.
std::map<std::string, Counts> take_counts();

// What the device is, as far as libdiffsort_cuda asks.
struct Properties {
  int compute_capability;  // 75 or 90: those that there is PTX for
  int shared_bytes;        // that a block can have
};
constexpr Properties kTuring{75, 64 * 1024}, kHopper{90, 227 * 1024};

void become(const Properties& properties);

}  // namespace diffsort::device
