// The rows of a call, one after the other. Compiled once for each level: see levels.h.
#include "solver.h"

#if defined(DIFFSORT_LEVEL_IS_AVX2)
#include <immintrin.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <type_traits>
#include <vector>

#include "buffer.h"
#include "diffsort/block_sums.h"
#include "diffsort/parallel.h"
#include "diffsort/projection.h"
#include "diffsort/rows.h"
#include "diffsort/sort.h"
#include "general_row.h"
#include "levels.h"
#include "row.h"

DIFFSORT_BEGIN_LEVEL

#include "row_solver.h"
#include "short_rows.h"
#include "short_vjp.h"
#include "vjp_solver.h"

namespace diffsort::DIFFSORT_LEVEL {
namespace {

// Memory without gaps for a row that has some.
template <class V>
class Dense {
 public:
  // The row itself where it is dense, else a copy.
  const V* read(Row<const V> row, std::int64_t n) {
    if (!row || row.stride == 1 || n == 1) return row.data;
    V* const copy = copy_.get(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) copy[i] = row[i];
    return copy;
  }
  // Where to write the row; `written` brings it to its place.
  V* write(Row<V> row, std::int64_t n) {
    if (!row || row.stride == 1 || n == 1) return row.data;
    return copy_.get(static_cast<std::size_t>(n));
  }
  void written(Row<V> row, std::int64_t n) const {
    if (!row || row.stride == 1 || n == 1) return;
    for (std::int64_t i = 0; i < n; ++i) row[i] = copy_.data()[i];
  }

 private:
  Buffer<V> copy_;
};

template <class T, Regularization R>
struct Scratch {
  RowSolver<T, R> solver;
  std::unique_ptr<ShortRows<T, R>> short_rows;  // large, and not every thread meets short rows
  Dense<T> z, w, result;
  Dense<std::int32_t> block_z, block_w;
};

template <class T, Regularization R>
void project_row(const Problem& problem, const Projection<T>& arrays, std::int64_t r,
                 const Workers& workers, Scratch<T, R>& scratch) {
  const RowSpace& space = problem.space;
  const std::int64_t n = space.length;
  const GeneralRow<T> row{n,
                          R,
                          problem.z_sign,
                          problem.w_sign,
                          problem.strength.row(space, r),
                          arrays.z.row(space, r),
                          arrays.w.row(space, r),
                          arrays.result.row(space, r),
                          arrays.block_z.row(space, r),
                          arrays.block_w.row(space, r)};
  const DenseOperand<T> z{scratch.z.read(row.z, n), static_cast<T>(row.z_sign)};
  const DenseOperand<T> w{scratch.w.read(row.w, n), static_cast<T>(row.w_sign)};
  const DenseOutput<T> out{scratch.result.write(row.result, n),
                           scratch.block_z.write(row.block_z, n),
                           scratch.block_w.write(row.block_w, n), row.w_sign};
  if (!scratch.solver.solve(n, z, w, row.strength, out, workers)) return project_general_row(row);
  scratch.result.written(row.result, n);
  scratch.block_z.written(row.block_z, n);
  scratch.block_w.written(row.block_w, n);
}

// Memory that a thread keeps from call to call, unless a long row has made it large.
template <class S>
class Kept {
 public:
  explicit Kept(std::int64_t n) : n_(n) {}
  ~Kept() {
    if (n_ > kKeptLength) memory() = S();
  }
  S& memory() {
    static thread_local S memory;
    return memory;
  }

 private:
  static constexpr std::int64_t kKeptLength = std::int64_t{1} << 18;  // up to 45 MB
  std::int64_t n_;
};

template <class T, Regularization R, bool kEach>
void project_rows(const Problem& problem, const Projection<T>& arrays, std::int64_t begin,
                  std::int64_t end, const Workers& workers) {
  Kept<Scratch<T, R>> kept(problem.space.length);
  Scratch<T, R>& scratch = kept.memory();
  const auto each = [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      project_row<T, R>(problem, arrays, r, workers, scratch);
    }
  };
  if (kEach || !ShortRows<T, R>::serves(problem, arrays, end - begin)) return each(begin, end);
  if (!scratch.short_rows) scratch.short_rows = std::make_unique<ShortRows<T, R>>();
  scratch.short_rows->solve(problem, arrays, begin, end, each);
}

template <class T, bool kEach>
void project(const Problem& problem, const Projection<T>& arrays, std::int64_t begin,
             std::int64_t end, const Workers& workers) {
  switch (problem.regularization) {
    case Regularization::l2:
      return project_rows<T, Regularization::l2, kEach>(problem, arrays, begin, end, workers);
    case Regularization::kl:
      return project_rows<T, Regularization::kl, kEach>(problem, arrays, begin, end, workers);
    case Regularization::log_kl:
      return project_rows<T, Regularization::log_kl, kEach>(problem, arrays, begin, end, workers);
  }
}

template <class T>
struct VjpScratch {
  VjpSolver<T> solver;
  Dense<T> g, w, result, z_out, w_out;
  Dense<std::int32_t> block_z, block_w;
};

template <class T, Regularization R>
bool try_vjp_row(const Problem& problem, const Linearization<T>& at,
                 const Cotangents<T>& cotangents, std::int64_t r, const Workers& workers,
                 VjpScratch<T>& scratch) {
  const RowSpace& space = problem.space;
  const std::int64_t n = space.length;
  const double strength = problem.strength.row(space, r);
  if (!is_moderate(strength)) return false;
  const Row<T> z_out = cotangents.z.row(space, r), w_out = cotangents.w.row(space, r);
  const DenseVjpRow<T> row{n,
                           strength,
                           problem.z_sign,
                           problem.w_sign,
                           scratch.g.read(cotangents.g.row(space, r), n),
                           scratch.result.read(at.result.row(space, r), n),
                           scratch.w.read(at.w.row(space, r), n),
                           scratch.block_z.read(at.block_z.row(space, r), n),
                           scratch.block_w.read(at.block_w.row(space, r), n),
                           scratch.z_out.write(z_out, n),
                           scratch.w_out.write(w_out, n)};
  if (!scratch.solver.template solve<R>(row, workers)) return false;
  scratch.z_out.written(z_out, n);
  scratch.w_out.written(w_out, n);
  return true;
}

template <class T, Regularization R>
std::int64_t vjp_rows(const Problem& problem, const Linearization<T>& at,
                      const Cotangents<T>& cotangents, std::int64_t begin, std::int64_t end,
                      const Workers& workers) {
  if (problem.space.length == 0) return begin;  // no way looks at a row without elements
  Kept<VjpScratch<T>> kept(problem.space.length);
  VjpScratch<T>& scratch = kept.memory();
  const bool is_short = ShortVjp<T, R>::serves(problem, at, cotangents);
  for (std::int64_t r = begin; r < end; r += ShortVjp<T, R>::kTogether) {
    const std::int64_t count = std::min(ShortVjp<T, R>::kTogether, end - r);
    // A row alone would only wait for three that add up for nothing.
    const unsigned solved =
        is_short && count > 1 ? ShortVjp<T, R>::solve(problem, at, cotangents, r, count) : 0;
    for (std::int64_t k = 0; k < count; ++k) {
      if (solved >> k & 1u) continue;
      if (!try_vjp_row<T, R>(problem, at, cotangents, r + k, workers, scratch)) return r + k;
    }
  }
  return end;
}

template <class T>
std::int64_t vjp(const Problem& problem, const Linearization<T>& at,
                 const Cotangents<T>& cotangents, std::int64_t begin, std::int64_t end,
                 const Workers& workers) {
  switch (problem.regularization) {
    case Regularization::l2:
      return vjp_rows<T, Regularization::l2>(problem, at, cotangents, begin, end, workers);
    case Regularization::kl:
      return vjp_rows<T, Regularization::kl>(problem, at, cotangents, begin, end, workers);
    case Regularization::log_kl:
      return vjp_rows<T, Regularization::log_kl>(problem, at, cotangents, begin, end, workers);
  }
  return begin;
}

}  // namespace

#define DIFFSORT_NAME_OF(level) #level
#define DIFFSORT_NAME(level) DIFFSORT_NAME_OF(level)
const Solver kSolver = {DIFFSORT_NAME(DIFFSORT_LEVEL),
                        project<float, false>,
                        project<double, false>,
                        project<float, true>,
                        project<double, true>,
                        vjp<float>,
                        vjp<double>};

}  // namespace diffsort::DIFFSORT_LEVEL

DIFFSORT_END_LEVEL
