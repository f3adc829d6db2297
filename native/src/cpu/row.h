// One row whose elements lie side by side, as the fast ways want it.
#pragma once

#include <cstdint>

namespace diffsort {

// sign * values; without values: rho.
template <class T>
struct DenseOperand {
  const T* values;
  T sign;
};

// What is wanted of a row; null: not wanted. The result is multiplied by sign.
template <class T>
struct DenseOutput {
  T* result;
  std::int32_t *block_z, *block_w;
  double sign;
};

// What a derivative of a row reads and writes.
template <class T>
struct DenseVjpRow {
  std::int64_t n;
  double strength, z_sign, w_sign;
  const T *g, *result, *w;  // result for kl, w for log_kl
  const std::int32_t *block_z, *block_w;
  T *z_out, *w_out;  // one of them is wanted
};

template <class T>
void fill(T* out, std::int64_t n, T value) {
  if (out == nullptr) return;
  for (std::int64_t i = 0; i < n; ++i) out[i] = value;
}

}  // namespace diffsort
