// A C interface to time the solver from another language: many calls between two readings of the
// clock, each on inputs of its own, so that nothing but the solver is in the time.
#include <chrono>

#include "operator_call.h"

using diffsort::benchmarks::Arrays;
using diffsort::benchmarks::Operator;
using diffsort::benchmarks::OperatorCall;

// Also declared in benchmarks/kernel.py.
struct Batch {
  std::int32_t op, is_kl, with_backward, threads;
  std::int64_t calls, rows, n;
  const double* strengths;         // one per call
  const void *values, *cotangent;  // calls * rows * n; rows * n
  void *result, *gradient;         // rows * n, those of the last call remain
  std::int32_t *block_z, *block_w;
};

template <class T>
static double seconds(const Batch& batch) {
  OperatorCall<T> call(static_cast<Operator>(batch.op), batch.is_kl, batch.rows, batch.n,
                       batch.threads);
  Arrays<T> arrays{static_cast<const T*>(batch.values),
                   static_cast<const T*>(batch.cotangent),
                   static_cast<T*>(batch.result),
                   static_cast<T*>(batch.gradient),
                   batch.block_z,
                   batch.block_w};
  const auto begin = std::chrono::steady_clock::now();
  for (std::int64_t i = 0; i < batch.calls; ++i, arrays.values += batch.rows * batch.n) {
    call.forward(arrays, batch.strengths[i], batch.with_backward);
    if (batch.with_backward) call.backward(arrays);
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

extern "C" double diffsort_seconds_float32(const Batch* batch) {
  return seconds<float>(*batch);
}
extern "C" double diffsort_seconds_float64(const Batch* batch) {
  return seconds<double>(*batch);
}
