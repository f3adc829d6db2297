// The weights of softmaxes over the blocks of w, for derivatives of sorted values in log_kl: exp(w - top).
//
// With one top for all blocks of a row, w - top is rounded: as many digits are lost as its exponent
// has. In float32 nothing nearer than kNearTop underflows. Wider rows take a top for each block, in
// long_sort_vjp.h.
// Cost: one read and one write.
// Chosen: derivatives of sorted values of log_kl, up to 131072 of them, whose w is not wider than kNearTop.
#pragma once

#include <cstdint>

#include "exp.h"
#include "scan.h"
#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

constexpr double kNearTop = 64.0;

inline bool share_a_top(const RowFacts& w) {
  return w.finite && w.range() <= kNearTop;
}

template <class T>
void write_softmax_weights(const T* w, std::int64_t n, double sign, const RowFacts& facts, T* out) {
  const double top = sign < 0.0 ? facts.low : facts.high;
  map(w, n, out, [&](Doubles x) { return exp_nonpositive<T>((x - top) * sign); });
}

}  // namespace diffsort::DIFFSORT_LEVEL
