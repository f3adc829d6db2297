// What the functions of the C interface share.
#pragma once

#include <cstdio>

#include "diffsort/cuda.h"
#include "diffsort/projection.h"

namespace diffsort {

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
struct TypeTag {};
template <Regularization R>
struct RegularizationTag {};

// visit(TypeTag, RegularizationTag) as the problem, which has been checked, says.
template <class T, class Visit>
auto dispatch_regularization(const DiffsortProblem& problem, const Visit& visit) {
  switch (static_cast<Regularization>(problem.regularization)) {
    case Regularization::l2:
      return visit(TypeTag<T>{}, RegularizationTag<Regularization::l2>{});
    case Regularization::kl:
      return visit(TypeTag<T>{}, RegularizationTag<Regularization::kl>{});
    default:
      return visit(TypeTag<T>{}, RegularizationTag<Regularization::log_kl>{});
  }
}

template <class Visit>
auto dispatch(const DiffsortProblem& problem, const Visit& visit) {
  return problem.type == DIFFSORT_FLOAT32 ? dispatch_regularization<float>(problem, visit)
                                          : dispatch_regularization<double>(problem, visit);
}

}  // namespace diffsort
