#include "general_row.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "diffsort/isotonic.h"
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

template <class T, Regularization R>
void project_row(const GeneralRow<T>& row) {
  const std::int64_t n = row.n;
  const Output<T> out{row.result, row.block_z, row.block_w, row.w_sign};
  Scratch<T, R> scratch;
  const bool valid = row.strength >= 0.0 && std::isfinite(row.strength) &&
                     (!row.z || scratch.z.sort(row.z, row.z_sign < 0.0, n)) &&
                     (!row.w || scratch.w.sort(row.w, row.w_sign < 0.0, n));
  if (!valid) return out.write_nan_row(n);

  const Sorted<T> z{scratch.z}, w{scratch.w};
  const Rho rho{n};
  if (row.z && row.w) return project_sorted(n, row.strength, z, w, scratch.pooling, out);
  if (row.z) return project_sorted(n, row.strength, z, rho, scratch.pooling, out);
  if (row.w) return project_sorted(n, row.strength, rho, w, scratch.pooling, out);
  project_sorted(n, row.strength, rho, rho, scratch.pooling, out);
}

}  // namespace

template <class T>
void project_general_row(const GeneralRow<T>& row) {
  with_regularization(row.regularization,
                      [&](auto regularization) { project_row<T, regularization()>(row); });
}

template void project_general_row<float>(const GeneralRow<float>&);
template void project_general_row<double>(const GeneralRow<double>&);

}  // namespace diffsort
