// What the functions of the C interface share.
#pragma once

#include <cstdio>

#include "diffsort/cuda.h"
#include "diffsort/projection.h"

namespace diffsort {

inline Regularization regularization_of(const DiffsortProblem& problem) {
  return static_cast<Regularization>(problem.regularization);
}

// The status of arguments that do not fit together.
inline int refuse(const DiffsortCall& call, const char* function, const char* wrong) {
  if (call.message != nullptr && call.message_bytes > 0) {
    std::snprintf(call.message, call.message_bytes, "%s: %s", function, wrong);
  }
  return DIFFSORT_MISFIT;
}

inline int refuse_workspace(const DiffsortCall& call, const char* function) {
  refuse(call, function, "the workspace is too small for a row");
  return DIFFSORT_SMALL_WORKSPACE;
}

template <class T>
struct TypeTag {
  using Type = T;
};

// visit(TypeTag, integral_constant of the regularization), as the problem says, which has been checked.
template <class Visit>
auto dispatch(const DiffsortProblem& problem, const Visit& visit) {
  return with_regularization(regularization_of(problem), [&](auto regularization) {
    return problem.type == DIFFSORT_FLOAT32 ? visit(TypeTag<float>{}, regularization)
                                            : visit(TypeTag<double>{}, regularization);
  });
}

}  // namespace diffsort
