// What the linear maps of a row say of a single element, for the CPU and for kernels alike. The
// formulas of whole blocks are in src/derivatives_cpu.cpp.
#pragma once

#include <cmath>
#include <cstdint>

#include "diffsort/host_device.h"
#include "diffsort/projection.h"

namespace diffsort {

// x / strength as a scale of derivatives: zero in the hard limit, where ranks are constant.
DIFFSORT_HD inline double over_strength(double x, double strength) {
  return strength > 0.0 ? x / strength : 0.0;
}

// The same, for kernels that would have the code of a division at many places.
DIFFSORT_HD DIFFSORT_NOINLINE inline double called_over_strength(double x, double strength) {
  return over_strength(x, strength);
}

// Block ids come from outside; an id that cannot be one makes the row NaN, never a wild access.
DIFFSORT_HD inline bool is_valid_id(std::int32_t id, std::int64_t n) {
  const std::int64_t start = block_start(id);
  return start >= 0 && start < n;
}

// An element's part of softmax(scale x), before it is divided by the sum of all parts. An infinite
// x is let through: at strength 0 it is alone in its block.
DIFFSORT_HD inline double softmax_part(double x, double largest, double scale) {
  return x == largest ? 1.0 : std::exp(scale * (x - largest));
}

}  // namespace diffsort
