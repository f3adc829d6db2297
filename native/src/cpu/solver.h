// What is compiled for each level of vector instructions, as a table of functions (solver.cpp, and
// solver_avx512.cpp for what gains from that).
#pragma once

#include <cstdint>
#include <vector>

#include "diffsort/projection.h"

namespace diffsort {

// Rows [begin, end) of a call, each on all of the workers; only long rows have work for more than one.
template <class T>
using ProjectRows = void (*)(const Problem&, const Projection<T>&, std::int64_t begin,
                             std::int64_t end, const Workers&);

// J^T of rows [begin, end), for the calls that training makes: one cotangent is wanted, of z or of w.
// Returns the first row that it does not serve, or end. Of that row nothing was written that counts.
template <class T>
using VjpRows = std::int64_t (*)(const Problem&, const Linearization<T>&, const Cotangents<T>&,
                                 std::int64_t begin, std::int64_t end, const Workers&);

struct Solver {
  const char* level;
  ProjectRows<float> project_float;
  ProjectRows<double> project_double;
  ProjectRows<float> project_each_float;  // one after the other, none side by side
  ProjectRows<double> project_each_double;
  VjpRows<float> vjp_float;
  VjpRows<double> vjp_double;

  void project(const Problem& problem, const Projection<float>& arrays, std::int64_t begin,
               std::int64_t end, const Workers& workers) const {
    project_float(problem, arrays, begin, end, workers);
  }
  void project(const Problem& problem, const Projection<double>& arrays, std::int64_t begin,
               std::int64_t end, const Workers& workers) const {
    project_double(problem, arrays, begin, end, workers);
  }
  void project_each(const Problem& problem, const Projection<float>& arrays, std::int64_t begin,
                    std::int64_t end, const Workers& workers) const {
    project_each_float(problem, arrays, begin, end, workers);
  }
  void project_each(const Problem& problem, const Projection<double>& arrays, std::int64_t begin,
                    std::int64_t end, const Workers& workers) const {
    project_each_double(problem, arrays, begin, end, workers);
  }
  std::int64_t vjp(const Problem& problem, const Linearization<float>& at,
                   const Cotangents<float>& cotangents, std::int64_t begin, std::int64_t end,
                   const Workers& workers) const {
    return vjp_float(problem, at, cotangents, begin, end, workers);
  }
  std::int64_t vjp(const Problem& problem, const Linearization<double>& at,
                   const Cotangents<double>& cotangents, std::int64_t begin, std::int64_t end,
                   const Workers& workers) const {
    return vjp_double(problem, at, cotangents, begin, end, workers);
  }
};

// The levels that this build has and this processor can run, the best first.
std::vector<const Solver*> solver_levels();

// That of the best level which this processor has, or of the one that the environment variable
// DIFFSORT_SIMD names: "portable", "avx2" or "avx512". Throws std::runtime_error for one that is not there.
const Solver& solver();

namespace portable {
extern const Solver kSolver;
}
namespace avx2 {
extern const Solver kSolver;
}
namespace avx512 {
extern const Solver kSolver;
}

}  // namespace diffsort
