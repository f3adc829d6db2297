// The fused projection of one row on the CPU: sort, pool, write every block in input order.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "diffsort/isotonic.h"
#include "diffsort/parallel.h"
#include "diffsort/projection.h"
#include "diffsort/sort.h"

namespace diffsort {
namespace {

// A sorted operand: its i-th largest value and where that came from.
template <class T>
struct Sorted {
  const SortedPairs<T>& row;
  double operator()(std::int64_t i) const { return static_cast<double>(row.value(i)); }
  std::int64_t index(std::int64_t i) const { return row.index(i); }
};

// rho = (n, n-1, ..., 1): sorted already.
struct Rho {
  std::int64_t n;
  double operator()(std::int64_t i) const { return static_cast<double>(n - i); }
  static std::int64_t index(std::int64_t i) { return i; }
};

// One thread's memory, kept from row to row.
template <class T, Regularization R>
struct Scratch {
  SortedPairs<T> z, w;
  Pooling<R> pooling;
};

template <class T>
struct Output {
  Row<T> result;
  Row<std::int32_t> block_z, block_w;
  double sign;  // of the result

  void write(std::int64_t i, double value) const {
    if (result) result[i] = static_cast<T>(sign * value + 0.0);  // + 0.0: never -0
  }

  void write_nan_row(std::int64_t n) const {
    for (std::int64_t i = 0; i < n; ++i) {
      if (result) result[i] = std::numeric_limits<T>::quiet_NaN();
      if (block_z) block_z[i] = kNanRow;
      if (block_w) block_w[i] = kNanRow;
    }
  }
};

// What a block adds to each of its elements: result_i = from_z(i) combined with sums over the
// block, in forms that subtract nearby numbers only (never s - v).
template <Regularization R>
struct BlockResult;

// mean_B(w) + (s_i - mean_B(s))
template <>
struct BlockResult<Regularization::l2> {
  template <class Z, class W, class Write>
  static void write(std::int64_t a, std::int64_t b, double strength, const Z& z, const W& w,
                    const Write& out) {
    double s_sum = 0.0, w_sum = 0.0;
    for (std::int64_t i = a + 1; i < b; ++i) {
      s_sum += scaled_difference(z(i), z(a), strength);
      w_sum += w(i) - w(a);
    }
    const double size = static_cast<double>(b - a);
    const double s_mean = s_sum / size;
    // At strength 0 an infinite w may share a block with others; with both signs there is no mean.
    const double w_mean = std::isinf(w(a)) ? w(a) + w(b - 1) : w(a) + w_sum / size;
    for (std::int64_t i = a; i < b; ++i) {
      out(i, w_mean + (scaled_difference(z(i), z(a), strength) - s_mean));
    }
  }
};

// softmax_B(s)_i * sum_B(w)
template <>
struct BlockResult<Regularization::kl> {
  template <class Z, class W, class Write>
  static void write(std::int64_t a, std::int64_t b, double strength, const Z& z, const W& w,
                    const Write& out) {
    double s_sum = 0.0, w_sum = 0.0;
    for (std::int64_t i = a; i < b; ++i) {
      s_sum += std::exp(scaled_difference(z(i), z(a), strength));
      w_sum += w(i);
    }
    for (std::int64_t i = a; i < b; ++i) {
      out(i, std::exp(scaled_difference(z(i), z(a), strength)) / s_sum * w_sum);
    }
  }
};

// (s_i - lse_B(s)) + lse_B(w)
template <>
struct BlockResult<Regularization::log_kl> {
  template <class Z, class W, class Write>
  static void write(std::int64_t a, std::int64_t b, double strength, const Z& z, const W& w,
                    const Write& out) {
    double s_sum = 1.0, w_sum = 1.0;  // the first element's exp(0)
    for (std::int64_t i = a + 1; i < b; ++i) {
      s_sum += std::exp(scaled_difference(z(i), z(a), strength));
      w_sum += std::exp(w(i) == w(a) ? 0.0 : w(i) - w(a));
    }
    const double shift = w(a) + (std::log(w_sum) - std::log(s_sum));
    for (std::int64_t i = a; i < b; ++i) out(i, shift + scaled_difference(z(i), z(a), strength));
  }
};

template <class T, Regularization R, class Z, class W>
void project_sorted(std::int64_t n, double strength, const Z& z, const W& w, Pooling<R>& pooling,
                    const Output<T>& out) {
  // An infinite w has a limit only where nothing smooths it.
  if (strength > 0.0 && (std::isinf(w(0)) || std::isinf(w(n - 1)))) return out.write_nan_row(n);
  if (R == Regularization::kl && w(n - 1) < 0.0) return out.write_nan_row(n);

  pooling.run(n, strength, z, w);
  for (std::size_t k = 0; k < pooling.blocks(); ++k) {
    const std::int64_t a = pooling.start(k), b = pooling.end(k, n);
    const auto write = [&](std::int64_t i, double value) { out.write(z.index(i), value); };
    if (out.result && b - a == 1) {
      write(a, w(a));  // alone in its block, an element of w comes through unchanged
    } else if (out.result) {
      BlockResult<R>::write(a, b, strength, z, w, write);
    }
    const auto id = static_cast<std::int32_t>(a);
    const std::int32_t id_z = std::isinf(z(a)) ? infinite_block(id) : id;
    for (std::int64_t i = a; i < b; ++i) {
      if (out.block_z) out.block_z[z.index(i)] = id_z;
      if (out.block_w) out.block_w[w.index(i)] = id;
    }
  }
}

// l2 ranks are one block if (max - min) / strength <= n / 2: the mean of the k largest exceeds the
// mean of all by at most (max - min) (n - k) / n, and that of rho by exactly (n - k) / 2. The order
// within a block does not matter, so such a row is not sorted. Cost: two passes.
template <class T>
bool rank_in_one_block(std::int64_t n, double strength, double sign, Row<const T> z,
                       const Output<T>& out) {
  const T first = z[0];
  T low = first, high = first;
  double sum = 0.0;  // of z - first; not finite if z is not
  for (std::int64_t i = 0; i < n; ++i) {
    low = std::min(low, z[i]);
    high = std::max(high, z[i]);
    sum += static_cast<double>(z[i]) - static_cast<double>(first);
  }
  const double range = static_cast<double>(high) - static_cast<double>(low);
  const double size = static_cast<double>(n);
  if (!std::isfinite(sum) || !(range <= 0.5 * size * strength)) return false;
  const double mean = sum / size;
  for (std::int64_t i = 0; i < n; ++i) {
    const double centred = (static_cast<double>(z[i]) - static_cast<double>(first)) - mean;
    out.write(i, 0.5 * (size + 1.0) + sign * centred / strength);
    if (out.block_z) out.block_z[i] = 0;
    if (out.block_w) out.block_w[i] = 0;
  }
  return true;
}

template <class T, Regularization R>
void project_row(const Problem& problem, Row<const T> z, Row<const T> w, double strength,
                 Scratch<T, R>& scratch, const Output<T>& out) {
  const std::int64_t n = problem.space.length;
  if (R == Regularization::l2 && z && !w && strength > 0.0 && std::isfinite(strength) &&
      rank_in_one_block(n, strength, problem.z_sign, z, out)) {
    return;
  }
  const bool valid = strength >= 0.0 && std::isfinite(strength) &&
                     (!z || scratch.z.sort(z, problem.z_sign < 0.0, n)) &&
                     (!w || scratch.w.sort(w, problem.w_sign < 0.0, n));
  if (!valid) return out.write_nan_row(n);

  const Sorted<T> sorted_z{scratch.z}, sorted_w{scratch.w};
  const Rho rho{n};
  if (z && w) return project_sorted(n, strength, sorted_z, sorted_w, scratch.pooling, out);
  if (z) return project_sorted(n, strength, sorted_z, rho, scratch.pooling, out);
  if (w) return project_sorted(n, strength, rho, sorted_w, scratch.pooling, out);
  project_sorted(n, strength, rho, rho, scratch.pooling, out);
}

template <class T, Regularization R>
void project_rows(const Problem& problem, const Projection<T>& arrays, const Workers& workers) {
  const RowSpace& space = problem.space;
  if (space.length == 0) return;
  for_each_row_range<Scratch<T, R>>(
      space.rows(), space.length, workers,
      [&](std::int64_t begin, std::int64_t end, Scratch<T, R>& scratch) {
        for (std::int64_t r = begin; r < end; ++r) {
          const Output<T> out{arrays.result.row(space, r), arrays.block_z.row(space, r),
                              arrays.block_w.row(space, r), problem.w_sign};
          project_row<T, R>(problem, arrays.z.row(space, r), arrays.w.row(space, r),
                            problem.strength.row(space, r), scratch, out);
        }
      });
}

}  // namespace

template <class T>
void project(const Problem& problem, const Projection<T>& arrays, const Workers& workers) {
  switch (problem.regularization) {
    case Regularization::l2:
      return project_rows<T, Regularization::l2>(problem, arrays, workers);
    case Regularization::kl:
      return project_rows<T, Regularization::kl>(problem, arrays, workers);
    case Regularization::log_kl:
      return project_rows<T, Regularization::log_kl>(problem, arrays, workers);
  }
}

template void project<float>(const Problem&, const Projection<float>&, const Workers&);
template void project<double>(const Problem&, const Projection<double>&, const Workers&);

}  // namespace diffsort
