// What is compiled for each level of vector instructions, as a table of functions.
#pragma once

#include <cstdint>

#include "diffsort/projection.h"

namespace diffsort {

// Rows [begin, end) of a call, each on all of the workers; only long rows have work for more than one.
template <class T>
using ProjectRows = void (*)(const Problem&, const Projection<T>&, std::int64_t begin,
                             std::int64_t end, const Workers&);

// J^T of one row, for the calls that training makes; false: nothing was written that counts, and
// the general way serves this row.
template <class T>
struct VjpRow {
  std::int64_t n;
  Regularization regularization;
  double strength, z_sign, w_sign;
  Row<const T> g, w, result;  // w for log_kl, result for kl
  Row<const std::int32_t> block_z, block_w;
  Row<T> z_out, w_out;  // one of them is wanted
};
template <class T>
using TryVjpRow = bool (*)(const VjpRow<T>&, const Workers&);

struct Solver {
  const char* level;
  ProjectRows<float> project_float;
  ProjectRows<double> project_double;
  TryVjpRow<float> try_vjp_float;
  TryVjpRow<double> try_vjp_double;

  void project(const Problem& problem, const Projection<float>& arrays, std::int64_t begin,
               std::int64_t end, const Workers& workers) const {
    project_float(problem, arrays, begin, end, workers);
  }
  void project(const Problem& problem, const Projection<double>& arrays, std::int64_t begin,
               std::int64_t end, const Workers& workers) const {
    project_double(problem, arrays, begin, end, workers);
  }
  bool try_vjp(const VjpRow<float>& row, const Workers& workers) const {
    return try_vjp_float(row, workers);
  }
  bool try_vjp(const VjpRow<double>& row, const Workers& workers) const {
    return try_vjp_double(row, workers);
  }
};

// That of the best level which this processor has, or of the one that the environment variable
// DIFFSORT_SIMD names: "portable" or "avx2".
const Solver& solver();

namespace portable {
extern const Solver kSolver;
}
namespace avx2 {
extern const Solver kSolver;
}

}  // namespace diffsort
