// The solver's interface: projections onto the permutahedron and their derivatives, row by row.
//
// P(w) is the convex hull of all permutations of w, and rho = (n, n-1, ..., 1). An operand that is
// absent stands for rho, so that
//     soft_rank(x) = P(±x / strength, rho)         z = x,       w absent
//     soft_sort(x) = ±P(rho / strength, ±x)        z absent,    w = x
// (Blondel, Teboul, Berthet, Djolonga: Fast Differentiable Sorting and Ranking, ICML 2020).
//
// Every function handles rows of any strides, on `workers`, writes each output
// element once and never an input, and gives bit for bit the same result for any thread count.
#pragma once

#include <cstdint>
#include <type_traits>

#include "diffsort/parallel.h"
#include "diffsort/rows.h"

namespace diffsort {

enum class Regularization : int {
  l2 = 0,      // Euclidean projection
  kl = 1,      // KL projection; w >= 0 and the result are in the linear domain
  log_kl = 2,  // the same with w and the result as logarithms: log kl(z, exp(w))
};

// visit(integral_constant of the regularization).
template <class Visit>
auto with_regularization(Regularization regularization, const Visit& visit) {
  switch (regularization) {
    case Regularization::l2:
      return visit(std::integral_constant<Regularization, Regularization::l2>{});
    case Regularization::kl:
      return visit(std::integral_constant<Regularization, Regularization::kl>{});
    default:
      return visit(std::integral_constant<Regularization, Regularization::log_kl>{});
  }
}

// result = w_sign P(z_sign z / strength, w_sign w), the signs being +1 or -1. They serve the two
// directions without a negated copy; rho is never negated.
struct Problem {
  RowSpace space;
  Regularization regularization = Regularization::l2;
  double z_sign = 1.0, w_sign = 1.0;
  PerRow strength;  // 0 is the hard limit; negative, NaN or infinite gives a NaN row
};

// Block ids: what the forward pass leaves behind for derivatives. For every element of z (and of
// w), in input order, the sorted position at which its block starts. Two sentinels:
constexpr std::int32_t kNanRow = -1;  // the row has no value; its derivatives are NaN
// An element of z at ±inf, in the block that starts at `start`: its derivatives are zero.
constexpr std::int32_t infinite_block(std::int32_t start) {
  return -2 - start;
}
constexpr bool is_infinite_block(std::int32_t id) {
  return id <= -2;
}
constexpr std::int32_t block_start(std::int32_t id) {
  return is_infinite_block(id) ? -2 - id : id;
}

template <class T>
struct Projection {
  Rows<const T> z, w;
  Rows<T> result;                       // absent: only the blocks are wanted
  Rows<std::int32_t> block_z, block_w;  // absent: not wanted
};

// The vector instructions that the CPU's solver uses here: "portable", "avx2" or "avx512". The best
// that this processor has, unless the environment variable DIFFSORT_SIMD names another when this is first asked;
// std::runtime_error if that is not there.
const char* simd_level();

// Cost: O(n) per row. Scratch for one long row of float32 with one sorted operand: 8 bytes per
// element (24 where its values crowd), and 16 more for every block of more than one element (l2; 40 in
// kl and log_kl). kl ranks with a range of up to 64 strength take 20 bytes for every block on top, up to
// 10 per element, and in rows of up to 65536 up to 28 per element. l2 ranks that are dense beside the
// strength, in rows of up to 262144, take up to 90 bytes per element instead. Rows are spread over the
// workers; they share the parts of a row that is the only one and longer than 65536, but not of such
// ranks.
template <class T>
void project(const Problem& problem, const Projection<T>& arrays, const Workers& workers);

// The linear maps J and J^T of the projection, given its blocks. Arrays are read as the
// regularization needs them: `result` for kl; w for log_kl where w is differentiated; z where the
// strength is, for log_kl, and for kl where w is. An absent z or w stands for rho, as in `project`.
template <class T>
struct Linearization {
  Rows<const T> z, w, result;
  Rows<const std::int32_t> block_z, block_w;
};

// out = J_z dz + J_w dw + J_strength dstrength; absent tangents are zero.
template <class T>
struct Tangents {
  Rows<const T> z, w;
  PerRow strength;
  bool has_strength = false;
  Rows<T> out;
};

// z = J_z^T g, w = J_w^T g, strength = J_strength^T g; absent outputs are not computed.
template <class T>
struct Cotangents {
  Rows<const T> g;
  Rows<T> z, w;
  Rows<double> strength;  // one number per row
};

// Cost: O(n) per row.
template <class T>
void project_jvp(const Problem& problem, const Linearization<T>& at, const Tangents<T>& tangents,
                 const Workers& workers);
template <class T>
void project_vjp(const Problem& problem, const Linearization<T>& at,
                 const Cotangents<T>& cotangents, const Workers& workers);

}  // namespace diffsort
