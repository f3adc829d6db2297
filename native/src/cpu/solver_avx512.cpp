// The level for AVX-512: many short rows side by side, which gain from wider vectors (short_rows.h). In all
// else memory and branches count for more, and it is the level below that serves it.
#include <immintrin.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <type_traits>
#include <utility>

#include "diffsort/block_sums.h"
#include "diffsort/one_block_range.h"
#include "diffsort/parallel.h"
#include "diffsort/projection.h"
#include "diffsort/rows.h"
#include "levels.h"
#include "row.h"
#include "solver.h"

DIFFSORT_BEGIN_LEVEL

#include "short_rows.h"

namespace diffsort::DIFFSORT_LEVEL {
namespace {

template <class T, Regularization R>
void project_rows(const Problem& problem, const Projection<T>& arrays, std::int64_t begin,
                  std::int64_t end, const Workers& workers) {
  const auto each = [&](std::int64_t first, std::int64_t last) {
    avx2::kSolver.project_each(problem, arrays, first, last, workers);
  };
  if (!ShortRows<T, R>::serves(problem, arrays, end - begin)) return each(begin, end);
  static thread_local std::unique_ptr<ShortRows<T, R>> short_rows;
  if (!short_rows) short_rows = std::make_unique<ShortRows<T, R>>();
  short_rows->solve(problem, arrays, begin, end, each);
}

template <class T>
void project(const Problem& problem, const Projection<T>& arrays, std::int64_t begin,
             std::int64_t end, const Workers& workers) {
  switch (problem.regularization) {
    case Regularization::l2:
      return project_rows<T, Regularization::l2>(problem, arrays, begin, end, workers);
    case Regularization::kl:
      return project_rows<T, Regularization::kl>(problem, arrays, begin, end, workers);
    case Regularization::log_kl:
      return project_rows<T, Regularization::log_kl>(problem, arrays, begin, end, workers);
  }
}

template <class T>
void project_each(const Problem& problem, const Projection<T>& arrays, std::int64_t begin,
                  std::int64_t end, const Workers& workers) {
  avx2::kSolver.project_each(problem, arrays, begin, end, workers);
}

template <class T>
std::int64_t vjp(const Problem& problem, const Linearization<T>& at,
                 const Cotangents<T>& cotangents, std::int64_t begin, std::int64_t end,
                 const Workers& workers) {
  return avx2::kSolver.vjp(problem, at, cotangents, begin, end, workers);
}

}  // namespace

const Solver kSolver = {
    "avx512",   project<float>, project<double>, project_each<float>, project_each<double>,
    vjp<float>, vjp<double>};

}  // namespace diffsort::DIFFSORT_LEVEL

DIFFSORT_END_LEVEL
