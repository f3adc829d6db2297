// The arguments of the C interface's linear maps: checked, and as the solver's own structures.
// Plain C++.
#pragma once

#include <cstdint>

#include "arguments.h"
#include "diffsort/cuda.h"
#include "diffsort/parallel_row/rows/linearized_rows.h"
#include "diffsort/projection.h"

namespace diffsort {

// An operand that is absent is rho; everything else that is read has to be there.
inline const char* check_linearization(const DiffsortProblem& problem,
                                       const DiffsortLinearization& at, bool wants_w) {
  if (const char* wrong = check_problem(problem)) return wrong;
  for (const DiffsortRows& rows : {at.z, at.w, at.result, at.block_z, at.block_w}) {
    if (const char* wrong = check_rows(problem, rows)) return wrong;
  }
  if (problem.rows == 0 || problem.n == 0) return nullptr;
  if (at.block_z.data == nullptr) return "block_z must be given";
  if (wants_w && at.block_w.data == nullptr) return "block_w must be given where w's derivative is";
  const bool kl = problem.regularization == static_cast<std::int32_t>(Regularization::kl);
  return kl && at.result.data == nullptr ? "result must be given for kl" : nullptr;
}

inline const char* check_vjp(const DiffsortProblem& problem, const DiffsortLinearization& at,
                             const DiffsortCotangents& cotangents) {
  const bool wants_w = cotangents.w_out != nullptr;
  if (const char* wrong = check_linearization(problem, at, wants_w)) return wrong;
  if (const char* wrong = check_rows(problem, cotangents.g)) return wrong;
  const bool empty = problem.rows == 0 || problem.n == 0;
  return !empty && cotangents.g.data == nullptr ? "g must be given" : nullptr;
}

inline const char* check_jvp(const DiffsortProblem& problem, const DiffsortLinearization& at,
                             const DiffsortTangents& tangents) {
  const bool wants_w = tangents.w.data != nullptr;
  if (const char* wrong = check_linearization(problem, at, wants_w)) return wrong;
  for (const DiffsortRows& rows : {tangents.z, tangents.w}) {
    if (const char* wrong = check_rows(problem, rows)) return wrong;
  }
  const bool empty = problem.rows == 0 || problem.n == 0;
  if (!empty && tangents.out == nullptr) return "out must be given";
  return tangents.has_strength != 0 ? check_per_row(tangents.strength) : nullptr;
}

inline FloatRows float_rows(const DiffsortProblem& problem, const DiffsortRows& rows) {
  return {rows.data, rows.stride, problem.type == DIFFSORT_FLOAT32};
}

inline FloatOutput float_output(const DiffsortProblem& problem, void* data) {
  return {data, problem.type == DIFFSORT_FLOAT32};
}

inline LinearizedRows linearized_rows(const DiffsortProblem& problem,
                                      const DiffsortLinearization& at) {
  return {{problem.rows, problem.n},
          problem.z_sign,
          problem.w_sign,
          per_row(problem.strength),
          float_rows(problem, at.z),
          float_rows(problem, at.w),
          float_rows(problem, at.result),
          input_rows<std::int32_t>(at.block_z),
          input_rows<std::int32_t>(at.block_w)};
}

inline RowDirections row_directions(const DiffsortProblem& problem,
                                    const DiffsortCotangents& cotangents) {
  RowDirections along;
  along.cotangents = {float_rows(problem, cotangents.g), float_output(problem, cotangents.z_out),
                      float_output(problem, cotangents.w_out), cotangents.strength_out};
  return along;
}

inline RowDirections row_directions(const DiffsortProblem& problem,
                                    const DiffsortTangents& tangents) {
  RowDirections along;
  along.forward = true;
  along.tangents = {float_rows(problem, tangents.z), float_rows(problem, tangents.w),
                    per_row(tangents.strength), tangents.has_strength != 0,
                    float_output(problem, tangents.out)};
  return along;
}

}  // namespace diffsort
