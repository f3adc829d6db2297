// The linear maps of the projection, given its blocks: J (jvp) and its transpose (vjp).
//
// With p, q the weights of an element within its block (p over z's elements, q over w's):
//     l2      dr_i = ds_i - <p, ds>_B + <q, dw>_B                   p = q = 1 / |B|
//     log_kl  the same                                 p = softmax_B(z / strength), q =
//     softmax_B(w) kl      dr_i = r_i (ds_i - <p, ds>_B) + p_i sum_B(dw)         p_i = r_i /
//     sum_B(r)
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
constexpr double kInfinity = std::numeric_limits<double>::infinity();

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
struct Scratch {
  PerBlock sum, w_sum, z_total, z_max, z_reference, w_total, w_max;
  std::vector<double> z_share, w_share;
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

// exp(x_i - max_B x) for every element, and its total over the block. Infinite x are let through
// for strength 0, where each is alone in its block.
template <class X>
void block_exponentials(std::int64_t n, Row<const std::int32_t> block, const X& x, PerBlock& max,
                        PerBlock& total, std::vector<double>& out) {
  max.reset(n, -kInfinity);
  for (std::int64_t i = 0; i < n; ++i) max[block[i]] = std::max(max[block[i]], x(i));
  total.reset(n);
  out.resize(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    const double largest = max[block[i]];
    const double share = x(i) == largest ? 1.0 : std::exp(x(i) - largest);
    out[static_cast<std::size_t>(i)] = share;
    total[block[i]] += share;
  }
}

// p, as share(i) / total of the block.
template <class T, Regularization R>
class ZWeights {
 public:
  ZWeights(const RowProblem<T, R>& row, Scratch& scratch)
      : row_(row), total_(scratch.z_total), share_(scratch.z_share) {
    if constexpr (R == Regularization::log_kl) {
      // result = s + a constant of the block, so both have the same softmax.
      const auto result = [&](std::int64_t i) { return row.result(i); };
      block_exponentials(row.n, row.block_z, result, scratch.z_max, total_, share_);
    } else {
      total_.reset(row.n);
      for (std::int64_t i = 0; i < row.n; ++i) total_[row.block_z[i]] += share(i);
    }
  }

  double share(std::int64_t i) const {
    if (R == Regularization::l2) return 1.0;
    if (R == Regularization::kl) return row_.result(i);
    return share_[static_cast<std::size_t>(i)];
  }
  // Turns sums over blocks into quotients by the block's total.
  void divide(PerBlock& sums) const { sums.divide(total_); }

 private:
  const RowProblem<T, R>& row_;
  PerBlock& total_;
  std::vector<double>& share_;
};

// q of log_kl, softmax_B(w), in the same form.
template <class T, Regularization R>
class WSoftmax {
 public:
  WSoftmax(const RowProblem<T, R>& row, Scratch& scratch)
      : total_(scratch.w_total), share_(scratch.w_share) {
    const auto w = [&](std::int64_t j) { return row.w[j]; };
    block_exponentials(row.n, row.block_w, w, scratch.w_max, total_, share_);
  }

  double share(std::int64_t j) const { return share_[static_cast<std::size_t>(j)]; }
  void divide(PerBlock& sums) const { sums.divide(total_); }

 private:
  PerBlock& total_;
  std::vector<double>& share_;
};

// z less a z of the same block: the block's first finite element in input order.
template <class T, Regularization R>
class RelativeZ {
 public:
  RelativeZ(const RowProblem<T, R>& row, Scratch& scratch)
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
// -------------------------------------------------------------------------------------------

template <class T, Regularization R, class G>
void vjp_z(const RowProblem<T, R>& row, const G& g, const ZWeights<T, R>& p, PerBlock& quotient,
           Row<T> out, double* strength_out, Scratch& scratch) {
  const auto cotangent = [&](std::int64_t i) {
    const std::int32_t id = row.block_z[i];
    if (is_infinite_block(id)) return 0.0;
    return over_strength(g(i) - p.share(i) * quotient[id], row.strength);
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
             double* strength_out, Scratch& scratch) {
  if (!valid_ids(row.block_z, row.n) || (w_out && !valid_ids(row.block_w, row.n))) {
    fill_nan(z_out, row.n);
    fill_nan(w_out, row.n);
    if (strength_out) *strength_out = kNan;
    return;
  }
  const auto g = [&](std::int64_t i) {
    return row.w_sign * row.outer(i) * static_cast<double>(g_data[i]);
  };
  PerBlock& sum = scratch.sum;
  sum.reset(row.n);
  for (std::int64_t i = 0; i < row.n; ++i) sum[row.block_z[i]] += g(i);

  if constexpr (R == Regularization::log_kl) {
    if (w_out) {
      const WSoftmax<T, R> q(row, scratch);
      scratch.w_sum = sum;
      q.divide(scratch.w_sum);
      for (std::int64_t j = 0; j < row.n; ++j) {
        w_out[j] = static_cast<T>(row.w_sign * q.share(j) * scratch.w_sum[row.block_w[j]]);
      }
      if (!z_out && !strength_out) return;
    }
  }
  const ZWeights<T, R> p(row, scratch);
  p.divide(sum);
  vjp_z(row, g, p, sum, z_out, strength_out, scratch);
  if (R != Regularization::log_kl && w_out) {
    for (std::int64_t j = 0; j < row.n; ++j) {
      w_out[j] = static_cast<T>(row.w_sign * sum[row.block_w[j]]);
    }
  }
}

// --- J
// ---------------------------------------------------------------------------------------------

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
           const ZWeights<T, R>& p, Row<T> out, Scratch& scratch) {
  PerBlock& mean = scratch.sum;
  mean.reset(row.n);
  for (std::int64_t i = 0; i < row.n; ++i) {
    mean[row.block_z[i]] += p.share(i) * s_tangent(row, dz, z, dstrength, i);
  }
  p.divide(mean);
  for (std::int64_t i = 0; i < row.n; ++i) {
    const std::int32_t id = row.block_z[i];
    const double centred = s_tangent(row, dz, z, dstrength, i) - mean[id];
    out[i] = static_cast<T>(is_infinite_block(id) ? 0.0 : row.w_sign * row.outer(i) * centred);
  }
}

template <class T, Regularization R>
void jvp_add_w(const RowProblem<T, R>& row, Row<const T> dw_data, const ZWeights<T, R>& p,
               Row<T> out, Scratch& scratch) {
  const auto dw = [&](std::int64_t j) { return row.w_sign * static_cast<double>(dw_data[j]); };
  PerBlock& sum = scratch.w_sum;
  sum.reset(row.n);
  if constexpr (R == Regularization::log_kl) {
    const WSoftmax<T, R> q(row, scratch);
    for (std::int64_t j = 0; j < row.n; ++j) sum[row.block_w[j]] += q.share(j) * dw(j);
    q.divide(sum);
    for (std::int64_t i = 0; i < row.n; ++i) {
      out[i] += static_cast<T>(row.w_sign * sum[row.block_z[i]]);
    }
  } else {
    for (std::int64_t j = 0; j < row.n; ++j) sum[row.block_w[j]] += dw(j);
    p.divide(sum);
    for (std::int64_t i = 0; i < row.n; ++i) {
      out[i] += static_cast<T>(row.w_sign * p.share(i) * sum[row.block_z[i]]);
    }
  }
}

template <class T, Regularization R>
void jvp_row(const RowProblem<T, R>& row, Row<const T> dz, Row<const T> dw, bool has_strength,
             double dstrength, Row<T> out, Scratch& scratch) {
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
// ---------------------------------------------------------------------------------------

template <class T, Regularization R, class Body>
void for_each_row(const Problem& problem, const Linearization<T>& at, int threads,
                  const Body& body) {
  const RowSpace& space = problem.space;
  for_each_row_range(
      space.rows(), space.length, threads, [&](std::int64_t begin, std::int64_t end) {
        Scratch scratch;
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
  for_each_row<T, R>(problem, at, threads, [&](std::int64_t r, const auto& row, Scratch& scratch) {
    jvp_row(row, tangents.z.row(space, r), tangents.w.row(space, r), tangents.has_strength,
            tangents.has_strength ? tangents.strength.row(space, r) : 0.0,
            tangents.out.row(space, r), scratch);
  });
}

template <class T, Regularization R>
void vjp_rows(const Problem& problem, const Linearization<T>& at, const Cotangents<T>& cotangents,
              int threads) {
  const RowSpace& space = problem.space;
  for_each_row<T, R>(problem, at, threads, [&](std::int64_t r, const auto& row, Scratch& scratch) {
    vjp_row(row, cotangents.g.row(space, r), cotangents.z.row(space, r), cotangents.w.row(space, r),
            cotangents.strength.row(space, r).data, scratch);
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
