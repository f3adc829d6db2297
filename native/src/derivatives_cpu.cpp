// The linear maps of the projection, given its blocks: J (jvp) and its transpose (vjp).
//
// With p, q the weights of an element within its block (p over z's elements, q over w's):
//     l2      dr_i = ds_i - <p, ds>_B + <q, dw>_B              p = q = 1 / |B|
//     log_kl  the same                                         p = softmax_B(s), q = softmax_B(w)
//     kl      dr_i = r_i (ds_i - <p, ds>_B) + p_i sum_B(dw)    p_i = r_i / sum_B(r)
// where s = z / strength, so that ds = (dz - (z - z_ref) dstrength / strength) / strength: any
// z_ref of the block serves, since the map annihilates constants of a block.
#include <cstdint>
#include <limits>
#include <utility>

#include "block_weights.h"
#include "cpu/solver.h"
#include "diffsort/parallel.h"
#include "diffsort/projection.h"

namespace diffsort {
namespace {

template <class T>
void fill_nan(Row<T> row, std::int64_t n) {
  if (!row) return;
  for (std::int64_t i = 0; i < n; ++i) row[i] = std::numeric_limits<T>::quiet_NaN();
}

// --- J^T

template <class T, Regularization R, class G>
void vjp_z(const RowProblem<T, R>& row, const G& g, const ZWeights<T, R>& p, PerBlock<>& sum,
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
  if (log_kl && w_out) {
    w_softmax(row, [&](std::int64_t j) -> T& { return w_out[j]; }, scratch);
    std::swap(scratch.sum, scratch.total);  // memory that has done its work serves the sums
  }

  const auto g = [&](std::int64_t i) {
    return row.w_sign * row.outer(i) * static_cast<double>(g_data[i]);
  };
  PerBlock<>& sum = scratch.sum;
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
  PerBlock<>& mean = scratch.sum;
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
  PerBlock<>& sum = scratch.sum;
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

template <class T, Regularization R>
RowProblem<T, R> row_problem(const Problem& problem, const Linearization<T>& at, std::int64_t r) {
  const RowSpace& space = problem.space;
  return {space.length,
          problem.strength.row(space, r),
          problem.z_sign,
          problem.w_sign,
          {at.z.row(space, r), space.length, problem.z_sign},
          {at.w.row(space, r), space.length, problem.w_sign},
          at.result.row(space, r),
          at.block_z.row(space, r),
          at.block_w.row(space, r)};
}

template <class T, Regularization R>
void jvp_rows(const Problem& problem, const Linearization<T>& at, const Tangents<T>& tangents,
              const Workers& workers) {
  const RowSpace& space = problem.space;
  const auto solve = [&](std::int64_t begin, std::int64_t end, Scratch<T>& scratch) {
    for (std::int64_t r = begin; r < end; ++r) {
      jvp_row(row_problem<T, R>(problem, at, r), tangents.z.row(space, r), tangents.w.row(space, r),
              tangents.has_strength, tangents.has_strength ? tangents.strength.row(space, r) : 0.0,
              tangents.out.row(space, r), scratch);
    }
  };
  for_each_row_range<Scratch<T>>(space.rows(), space.length, workers, solve);
}

template <class T, Regularization R>
void vjp_rows(const Problem& problem, const Linearization<T>& at, const Cotangents<T>& cotangents,
              const Workers& workers) {
  const RowSpace& space = problem.space;
  const bool one_operand = !cotangents.strength && !cotangents.z != !cotangents.w;
  const Workers alone(1);
  const bool by_row = one_operand && shares_its_row(space.rows(), space.length, workers);
  const auto solve = [&](std::int64_t begin, std::int64_t end, Scratch<T>& scratch) {
    for (std::int64_t r = begin; r < end; ++r) {
      if (one_operand) {
        r = solver().vjp(problem, at, cotangents, r, end, by_row ? workers : alone);
      }
      if (r == end) return;
      vjp_row(row_problem<T, R>(problem, at, r), cotangents.g.row(space, r),
              cotangents.z.row(space, r), cotangents.w.row(space, r),
              cotangents.strength.row(space, r).data, scratch);
    }
  };
  for_each_row_range<Scratch<T>>(space.rows(), space.length, by_row ? alone : workers, solve);
}

}  // namespace

template <class T>
void project_jvp(const Problem& problem, const Linearization<T>& at, const Tangents<T>& tangents,
                 const Workers& workers) {
  with_regularization(problem.regularization, [&](auto regularization) {
    jvp_rows<T, regularization()>(problem, at, tangents, workers);
  });
}

template <class T>
void project_vjp(const Problem& problem, const Linearization<T>& at,
                 const Cotangents<T>& cotangents, const Workers& workers) {
  with_regularization(problem.regularization, [&](auto regularization) {
    vjp_rows<T, regularization()>(problem, at, cotangents, workers);
  });
}

template void project_jvp<float>(const Problem&, const Linearization<float>&,
                                 const Tangents<float>&, const Workers&);
template void project_jvp<double>(const Problem&, const Linearization<double>&,
                                  const Tangents<double>&, const Workers&);
template void project_vjp<float>(const Problem&, const Linearization<float>&,
                                 const Cotangents<float>&, const Workers&);
template void project_vjp<double>(const Problem&, const Linearization<double>&,
                                  const Cotangents<double>&, const Workers&);

}  // namespace diffsort
