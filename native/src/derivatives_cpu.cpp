// The linear maps of the projection, given its blocks: J (jvp) and its transpose (vjp).
//
// With p, q the weights of an element within its block (p over z's elements, q over w's):
//     l2      dr_i = ds_i - <p, ds>_B + <q, dw>_B              p = q = 1 / |B|
//     log_kl  the same                                         p = softmax_B(s), q = softmax_B(w)
//     kl      dr_i = r_i (ds_i - <p, ds>_B) + p_i sum_B(dw)    p_i = r_i / sum_B(r)
// where s = z / strength, so that ds = (dz - (z - z_ref) dstrength / strength) / strength: any
// z_ref of the block serves, since the map annihilates constants of a block.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "diffsort/parallel.h"
#include "diffsort/projection.h"

namespace diffsort {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// One number per block of a row, addressed by block id.
class PerBlock {
 public:
  void reset(std::int64_t n, double value = 0.0) {
    values_.assign(static_cast<std::size_t>(n), value);
  }
  double& operator[](std::int32_t id) { return values_[static_cast<std::size_t>(block_start(id))]; }

  // Positions at which no block starts hold 0 / 0 afterwards; nobody reads them.
  void divide(const PerBlock& by) {
    for (std::size_t i = 0; i < values_.size(); ++i) values_[i] /= by.values_[i];
  }

 private:
  std::vector<double> values_;
};

// One thread's memory, kept from row to row; only what a call needs is ever sized.
template <class T>
struct Scratch {
  PerBlock sum, total, z_reference;
  std::vector<T> max, z_softmax, w_softmax;
};

// x / strength as a scale of derivatives: zero in the hard limit, where ranks are constant.
double over_strength(double x, double strength) {
  return strength > 0.0 ? x / strength : 0.0;
}

// Block ids come from outside; an id that cannot be one makes the row NaN, never a wild access.
bool valid_ids(Row<const std::int32_t> ids, std::int64_t n) {
  bool valid = true;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t id = ids[i];
    const std::int64_t start = id <= -2 ? -2 - id : id;
    valid &= start >= 0 && start < n;
  }
  return valid;
}

template <class T>
void fill_nan(Row<T> row, std::int64_t n) {
  if (!row) return;
  for (std::int64_t i = 0; i < n; ++i) row[i] = std::numeric_limits<T>::quiet_NaN();
}

template <class T>
struct Operand {
  Row<const T> data;  // absent: rho
  std::int64_t n;
  double sign;

  double operator[](std::int64_t i) const {
    return data ? sign * static_cast<double>(data[i]) : static_cast<double>(n - i);
  }
};

// One row in the terms of P itself: the signs are applied on the way in and on the way out.
template <class T, Regularization R>
struct RowProblem {
  std::int64_t n;
  double strength, z_sign, w_sign;
  Operand<T> z, w;
  Row<const T> result_data;
  Row<const std::int32_t> block_z, block_w;

  double result(std::int64_t i) const { return w_sign * static_cast<double>(result_data[i]); }
  // kl is exp(log_kl): the derivative of exp multiplies by the result.
  double outer(std::int64_t i) const { return R == Regularization::kl ? result(i) : 1.0; }
};

// softmax_B(scale x) into out. An infinite x is let through: at strength 0 it is alone in its block.
template <class T, class X, class Out>
void block_softmax(std::int64_t n, Row<const std::int32_t> block, const X& x, double scale,
                   const Out& out, Scratch<T>& scratch) {
  std::vector<T>& max = scratch.max;
  max.assign(static_cast<std::size_t>(n), -std::numeric_limits<T>::infinity());
  const auto largest = [&](std::int64_t i) -> T& {
    return max[static_cast<std::size_t>(block_start(block[i]))];
  };
  for (std::int64_t i = 0; i < n; ++i) largest(i) = std::max(largest(i), x(i));
  PerBlock& total = scratch.total;
  total.reset(n);
  for (std::int64_t i = 0; i < n; ++i) {
    const double below = static_cast<double>(x(i)) - static_cast<double>(largest(i));
    const double share = x(i) == largest(i) ? 1.0 : std::exp(scale * below);
    total[block[i]] += share;
    out(i) = static_cast<T>(share);
  }
  for (std::int64_t i = 0; i < n; ++i) {
    out(i) = static_cast<T>(static_cast<double>(out(i)) / total[block[i]]);
  }
}

// p, the weights of z's elements within their blocks. l2 has the same weight for all of a block and
// divides the block's sum instead of every term.
template <class T, Regularization R>
class ZWeights {
 public:
  ZWeights(const RowProblem<T, R>& row, Scratch<T>& scratch)
      : row_(row), total_(scratch.total), softmax_(scratch.z_softmax) {
    if constexpr (R == Regularization::log_kl) {
      // result = s + a constant of the block, so both have the same softmax.
      softmax([&](std::int64_t i) { return static_cast<T>(row.result(i)); }, 1.0, scratch);
      return;
    }
    bool weightless = false;
    if (R == Regularization::kl) {
      sum_results();
      for (std::int64_t i = 0; i < row.n; ++i) weightless |= total_[row.block_z[i]] == 0.0;
    }
    if (R == Regularization::kl && weightless) {
      // A block without weight in w has results 0, which do not tell its softmax: z does.
      const double scale = row.strength > 0.0 ? 1.0 / row.strength : 0.0;
      softmax([&](std::int64_t i) { return static_cast<T>(row.z[i]); }, scale, scratch);
      sum_results();
    }
    if (R == Regularization::l2) {
      total_.reset(row.n);
      for (std::int64_t i = 0; i < row.n; ++i) total_[row.block_z[i]] += 1.0;
    }
  }

  double operator[](std::int64_t i) const {
    if (R == Regularization::l2) return 1.0;
    if (R == Regularization::kl) {
      // For an element alone in its block exactly 1, so that its derivative is exactly 0.
      const double total = total_[row_.block_z[i]];
      if (total != 0.0) return row_.result(i) / total;
    }
    return static_cast<double>(softmax_[static_cast<std::size_t>(i)]);
  }
  // sums of terms that were weighted with [] become <p, terms>_B.
  void finish(PerBlock& sums) const {
    if (R == Regularization::l2) sums.divide(total_);
  }

 private:
  template <class X>
  void softmax(const X& x, double scale, Scratch<T>& scratch) {
    softmax_.resize(static_cast<std::size_t>(row_.n));
    const auto out = [&](std::int64_t i) -> T& { return softmax_[static_cast<std::size_t>(i)]; };
    block_softmax<T>(row_.n, row_.block_z, x, scale, out, scratch);
  }
  void sum_results() {
    total_.reset(row_.n);
    for (std::int64_t i = 0; i < row_.n; ++i) total_[row_.block_z[i]] += row_.result(i);
  }

  const RowProblem<T, R>& row_;
  PerBlock& total_;
  std::vector<T>& softmax_;
};

// q of log_kl, softmax_B(w), into out.
template <class T, Regularization R, class Out>
void w_softmax(const RowProblem<T, R>& row, const Out& out, Scratch<T>& scratch) {
  const auto w = [&](std::int64_t j) { return static_cast<T>(row.w[j]); };
  block_softmax<T>(row.n, row.block_w, w, 1.0, out, scratch);
}

// z less a z of the same block: the block's first finite element in input order.
template <class T, Regularization R>
class RelativeZ {
 public:
  RelativeZ(const RowProblem<T, R>& row, Scratch<T>& scratch)
      : row_(row), reference_(scratch.z_reference) {
    reference_.reset(row.n, kNan);
    for (std::int64_t i = 0; i < row.n; ++i) {
      double& reference = reference_[row.block_z[i]];
      if (std::isnan(reference)) reference = row.z[i];
    }
  }
  double operator[](std::int64_t i) const { return row_.z[i] - reference_[row_.block_z[i]]; }

 private:
  const RowProblem<T, R>& row_;
  PerBlock& reference_;
};

// --- J^T

template <class T, Regularization R, class G>
void vjp_z(const RowProblem<T, R>& row, const G& g, const ZWeights<T, R>& p, PerBlock& sum,
           Row<T> out, double* strength_out, Scratch<T>& scratch) {
  const auto cotangent = [&](std::int64_t i) {
    const std::int32_t id = row.block_z[i];
    if (is_infinite_block(id)) return 0.0;
    return over_strength(g(i) - p[i] * sum[id], row.strength);
  };
  if (out) {
    for (std::int64_t i = 0; i < row.n; ++i) out[i] = static_cast<T>(row.z_sign * cotangent(i));
  }
  if (strength_out) {
    const RelativeZ<T, R> z(row, scratch);
    double product = 0.0;
    for (std::int64_t i = 0; i < row.n; ++i) {
      if (!is_infinite_block(row.block_z[i])) product += cotangent(i) * z[i];
    }
    *strength_out = -over_strength(product, row.strength);
  }
}

template <class T, Regularization R>
void vjp_row(const RowProblem<T, R>& row, Row<const T> g_data, Row<T> z_out, Row<T> w_out,
             double* strength_out, Scratch<T>& scratch) {
  if (!valid_ids(row.block_z, row.n) || (w_out && !valid_ids(row.block_w, row.n))) {
    fill_nan(z_out, row.n);
    fill_nan(w_out, row.n);
    if (strength_out) *strength_out = kNan;
    return;
  }
  constexpr bool log_kl = R == Regularization::log_kl;
  if (log_kl && w_out) w_softmax(row, [&](std::int64_t j) -> T& { return w_out[j]; }, scratch);

  const auto g = [&](std::int64_t i) {
    return row.w_sign * row.outer(i) * static_cast<double>(g_data[i]);
  };
  PerBlock& sum = scratch.sum;
  sum.reset(row.n);
  for (std::int64_t i = 0; i < row.n; ++i) sum[row.block_z[i]] += g(i);
  if (!log_kl || z_out || strength_out) {
    const ZWeights<T, R> p(row, scratch);
    p.finish(sum);
    vjp_z(row, g, p, sum, z_out, strength_out, scratch);
    if (R == Regularization::kl && w_out) {
      // w's part is <p, g>_B, not the sum over r g.
      sum.reset(row.n);
      for (std::int64_t i = 0; i < row.n; ++i) {
        sum[row.block_z[i]] += p[i] * row.w_sign * static_cast<double>(g_data[i]);
      }
    }
  }
  if (!w_out) return;
  for (std::int64_t j = 0; j < row.n; ++j) {
    const double weight = log_kl ? static_cast<double>(w_out[j]) : 1.0;
    w_out[j] = static_cast<T>(row.w_sign * weight * sum[row.block_w[j]]);
  }
}

// --- J

// ds_i, up to a constant of the block.
template <class T, Regularization R>
double s_tangent(const RowProblem<T, R>& row, Row<const T> dz, const RelativeZ<T, R>* z,
                 double dstrength, std::int64_t i) {
  if (is_infinite_block(row.block_z[i])) return 0.0;
  double tangent = dz ? row.z_sign * static_cast<double>(dz[i]) : 0.0;
  if (z) tangent -= over_strength((*z)[i], row.strength) * dstrength;
  return over_strength(tangent, row.strength);
}

template <class T, Regularization R>
void jvp_z(const RowProblem<T, R>& row, Row<const T> dz, const RelativeZ<T, R>* z, double dstrength,
           const ZWeights<T, R>& p, Row<T> out, Scratch<T>& scratch) {
  PerBlock& mean = scratch.sum;
  mean.reset(row.n);
  for (std::int64_t i = 0; i < row.n; ++i) {
    mean[row.block_z[i]] += p[i] * s_tangent(row, dz, z, dstrength, i);
  }
  p.finish(mean);
  for (std::int64_t i = 0; i < row.n; ++i) {
    const std::int32_t id = row.block_z[i];
    const double centred = s_tangent(row, dz, z, dstrength, i) - mean[id];
    out[i] = static_cast<T>(is_infinite_block(id) ? 0.0 : row.w_sign * row.outer(i) * centred);
  }
}

template <class T, Regularization R>
void jvp_add_w(const RowProblem<T, R>& row, Row<const T> dw_data, const ZWeights<T, R>& p,
               Row<T> out, Scratch<T>& scratch) {
  constexpr bool log_kl = R == Regularization::log_kl;
  std::vector<T>& q = scratch.w_softmax;
  const auto q_at = [&](std::int64_t j) -> T& { return q[static_cast<std::size_t>(j)]; };
  PerBlock& sum = scratch.sum;
  sum.reset(row.n);
  if (log_kl) {
    q.resize(static_cast<std::size_t>(row.n));
    w_softmax(row, q_at, scratch);
  }
  for (std::int64_t j = 0; j < row.n; ++j) {
    const double weight = log_kl ? static_cast<double>(q_at(j)) : 1.0;
    sum[row.block_w[j]] += weight * row.w_sign * static_cast<double>(dw_data[j]);
  }
  p.finish(sum);
  for (std::int64_t i = 0; i < row.n; ++i) {
    const double share = R == Regularization::kl ? p[i] : 1.0;
    out[i] += static_cast<T>(row.w_sign * share * sum[row.block_z[i]]);
  }
}

template <class T, Regularization R>
void jvp_row(const RowProblem<T, R>& row, Row<const T> dz, Row<const T> dw, bool has_strength,
             double dstrength, Row<T> out, Scratch<T>& scratch) {
  if (!valid_ids(row.block_z, row.n) || (dw && !valid_ids(row.block_w, row.n))) {
    return fill_nan(out, row.n);
  }
  const ZWeights<T, R> p(row, scratch);
  const bool moves_s = row.strength > 0.0 && (dz || has_strength);
  if (!moves_s) {
    for (std::int64_t i = 0; i < row.n; ++i) out[i] = T(0);
  } else if (has_strength) {
    const RelativeZ<T, R> z(row, scratch);
    jvp_z(row, dz, &z, dstrength, p, out, scratch);
  } else {
    jvp_z<T, R>(row, dz, nullptr, 0.0, p, out, scratch);
  }
  if (dw) jvp_add_w(row, dw, p, out, scratch);
}

// --- all rows

template <class T, Regularization R, class Body>
void for_each_row(const Problem& problem, const Linearization<T>& at, int threads,
                  const Body& body) {
  const RowSpace& space = problem.space;
  for_each_row_range(
      space.rows(), space.length, threads, [&](std::int64_t begin, std::int64_t end) {
        Scratch<T> scratch;
        for (std::int64_t r = begin; r < end; ++r) {
          const RowProblem<T, R> row{space.length,
                                     problem.strength.row(space, r),
                                     problem.z_sign,
                                     problem.w_sign,
                                     {at.z.row(space, r), space.length, problem.z_sign},
                                     {at.w.row(space, r), space.length, problem.w_sign},
                                     at.result.row(space, r),
                                     at.block_z.row(space, r),
                                     at.block_w.row(space, r)};
          body(r, row, scratch);
        }
      });
}

template <class T, Regularization R>
void jvp_rows(const Problem& problem, const Linearization<T>& at, const Tangents<T>& tangents,
              int threads) {
  const RowSpace& space = problem.space;
  for_each_row<T, R>(
      problem, at, threads, [&](std::int64_t r, const auto& row, Scratch<T>& scratch) {
        jvp_row(row, tangents.z.row(space, r), tangents.w.row(space, r), tangents.has_strength,
                tangents.has_strength ? tangents.strength.row(space, r) : 0.0,
                tangents.out.row(space, r), scratch);
      });
}

template <class T, Regularization R>
void vjp_rows(const Problem& problem, const Linearization<T>& at, const Cotangents<T>& cotangents,
              int threads) {
  const RowSpace& space = problem.space;
  for_each_row<T, R>(
      problem, at, threads, [&](std::int64_t r, const auto& row, Scratch<T>& scratch) {
        vjp_row(row, cotangents.g.row(space, r), cotangents.z.row(space, r),
                cotangents.w.row(space, r), cotangents.strength.row(space, r).data, scratch);
      });
}

}  // namespace

template <class T>
void project_jvp(const Problem& problem, const Linearization<T>& at, const Tangents<T>& tangents,
                 int threads) {
  switch (problem.regularization) {
    case Regularization::l2:
      return jvp_rows<T, Regularization::l2>(problem, at, tangents, threads);
    case Regularization::kl:
      return jvp_rows<T, Regularization::kl>(problem, at, tangents, threads);
    case Regularization::log_kl:
      return jvp_rows<T, Regularization::log_kl>(problem, at, tangents, threads);
  }
}

template <class T>
void project_vjp(const Problem& problem, const Linearization<T>& at,
                 const Cotangents<T>& cotangents, int threads) {
  switch (problem.regularization) {
    case Regularization::l2:
      return vjp_rows<T, Regularization::l2>(problem, at, cotangents, threads);
    case Regularization::kl:
      return vjp_rows<T, Regularization::kl>(problem, at, cotangents, threads);
    case Regularization::log_kl:
      return vjp_rows<T, Regularization::log_kl>(problem, at, cotangents, threads);
  }
}

template void project_jvp<float>(const Problem&, const Linearization<float>&,
                                 const Tangents<float>&, int);
template void project_jvp<double>(const Problem&, const Linearization<double>&,
                                  const Tangents<double>&, int);
template void project_vjp<float>(const Problem&, const Linearization<float>&,
                                 const Cotangents<float>&, int);
template void project_vjp<double>(const Problem&, const Linearization<double>&,
                                  const Cotangents<double>&, int);

}  // namespace diffsort
