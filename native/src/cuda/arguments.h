// The arguments of the C interface: checked, and as the solver's own structures. Plain C++.
#pragma once

#include <cstdint>

#include "diffsort/cuda.h"
#include "diffsort/parallel_row/rows/projection_rows.h"
#include "diffsort/projection.h"

namespace diffsort {

// All checks return what is wrong, or null.
inline const char* check_per_row(const DiffsortPerRow& numbers) {
  if (numbers.data == nullptr) return nullptr;
  if (numbers.type != DIFFSORT_FLOAT32 && numbers.type != DIFFSORT_FLOAT64) {
    return "numbers per row must be float32 or float64";
  }
  return numbers.stride == 0 || numbers.stride == 1 ? nullptr
                                                    : "numbers per row must have stride 0 or 1";
}

inline const char* check_rows(const DiffsortProblem& problem, const DiffsortRows& rows) {
  if (rows.data == nullptr || rows.stride == 0 || rows.stride == problem.n) return nullptr;
  return "rows must have stride 0 or n";
}

inline const char* check_problem(const DiffsortProblem& problem) {
  if (problem.rows < 0 || problem.n < 0) return "rows and n must not be negative";
  if (problem.n > kMaxLength) return "n must be below 2^31 - 2";
  if (problem.n > 0 && problem.rows > (std::int64_t{1} << 60) / problem.n) {
    return "rows times n must not exceed 2^60";
  }
  if (problem.type != DIFFSORT_FLOAT32 && problem.type != DIFFSORT_FLOAT64) {
    return "type must be DIFFSORT_FLOAT32 or DIFFSORT_FLOAT64";
  }
  if (problem.regularization < 0 || problem.regularization > 2) {
    return "regularization must be 0, 1 or 2";
  }
  if ((problem.z_sign != 1.0 && problem.z_sign != -1.0) ||
      (problem.w_sign != 1.0 && problem.w_sign != -1.0)) {
    return "signs must be 1 or -1";
  }
  return check_per_row(problem.strength);
}

inline const char* check_projection(const DiffsortProblem& problem,
                                    const DiffsortProjection& arrays) {
  if (const char* wrong = check_problem(problem)) return wrong;
  if (const char* wrong = check_rows(problem, arrays.z)) return wrong;
  return check_rows(problem, arrays.w);
}

inline DensePerRow per_row(const DiffsortPerRow& numbers) {
  return {numbers.data, numbers.stride, numbers.type == DIFFSORT_FLOAT32, numbers.value};
}

template <class T>
DenseRows<const T> input_rows(const DiffsortRows& rows) {
  return {static_cast<const T*>(rows.data), rows.stride};
}

template <class T>
DenseRows<T> output_rows(void* data, std::int64_t n) {
  return {static_cast<T*>(data), n};
}

template <class T>
ProjectionRows<T> projection_rows(const DiffsortProblem& problem,
                                  const DiffsortProjection& arrays) {
  const std::int64_t n = problem.n;
  return {problem.rows,
          n,
          problem.z_sign,
          problem.w_sign,
          per_row(problem.strength),
          input_rows<T>(arrays.z),
          input_rows<T>(arrays.w),
          output_rows<T>(arrays.result, n),
          output_rows<std::int32_t>(arrays.block_z, n),
          output_rows<std::int32_t>(arrays.block_w, n)};
}

}  // namespace diffsort
