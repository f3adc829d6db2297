// Linear maps to take, by the kernels' code or the library, and by the sequential solver.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "diffsort/cuda.h"
#include "support.h"

namespace diffsort::testing {

inline constexpr double kInf = std::numeric_limits<double>::infinity();

// The operands of a case: a rank has no w, a sort has no z.
enum class Operands { z, w, both, one_w_for_all };

// Rows of one shape with everything that derivatives read, and directions to take them along.
template <class T>
struct DerivativeCase {
  std::int64_t rows, n;
  Regularization regularization;
  double z_sign = 1.0, w_sign = 1.0;
  std::vector<T> strength;
  std::vector<T> z, w;  // empty: rho
  bool one_w = false;   // serves all rows
  Solved<T> solved;
  std::vector<T> g, dz, dw;
  double dstrength = 0.3;

  std::size_t size() const { return static_cast<std::size_t>(rows * n); }
  Rows<const T> w_rows() const {
    Rows<const T> view;
    if (w.empty()) return view;
    view = contiguous_rows<const T>(w.data(), n);
    if (one_w) view.strides.batch[0] = 0;
    return view;
  }
  Problem problem() const {
    Problem problem = problem_of(rows, n, regularization, 0.0);
    problem.z_sign = z_sign;
    problem.w_sign = w_sign;
    problem.strength.data = strength.data();
    problem.strength.is_float32 = std::is_same_v<T, float>;
    problem.strength.strides.batch[0] = 1;
    return problem;
  }
};

template <class T>
Rows<const T> view(const std::vector<T>& values, std::int64_t n) {
  return values.empty() ? Rows<const T>{} : contiguous_rows<const T>(values.data(), n);
}

template <class V>
DiffsortRows rows_of(const std::vector<V>& values, std::int64_t stride) {
  return {values.empty() ? nullptr : values.data(), stride};
}

template <class T>
std::vector<T> random_values(std::size_t size, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  std::vector<T> values(size);
  for (T& value : values) value = static_cast<T>(normal(random));
  return values;
}

// Every family of rows at several strengths; some with infinite values, one with a NaN, one with an
// invalid strength.
template <class T>
DerivativeCase<T> random_case(std::int64_t n, Regularization regularization, Operands operands,
                              std::mt19937_64& random) {
  DerivativeCase<T> c;
  c.n = n;
  c.regularization = regularization;
  std::vector<T> values;
  for (const Vector& family : families(n, random)) {
    for (const double strength : {0.0, 0.03, 1.0, 20.0}) {
      values.insert(values.end(), family.begin(), family.end());
      c.strength.push_back(static_cast<T>(strength));
    }
  }
  c.rows = static_cast<std::int64_t>(c.strength.size());
  c.strength[5] = T(-1);
  const auto element = [&](std::int64_t r, std::int64_t i) -> T& {
    return values[static_cast<std::size_t>(r * n + i % n)];
  };
  if (n > 0) {
    element(2, 1) = static_cast<T>(std::nan(""));
    if (operands == Operands::z || operands == Operands::both) {
      for (const std::int64_t r : {0, 1, 6, 9}) {
        element(r, 0) = static_cast<T>(kInf);
        element(r, n / 2) = static_cast<T>(-kInf);
        element(r, n / 3) = static_cast<T>(kInf);
      }
    }
  }
  if (operands == Operands::z || operands == Operands::both) c.z = values;
  if (operands != Operands::z) {
    c.w = operands == Operands::both ? random_values<T>(values.size(), random) : values;
    c.one_w = operands == Operands::one_w_for_all;
    if (c.one_w) c.w.resize(static_cast<std::size_t>(n));
    // kl: not negative, and some rows with elements that weigh nothing.
    for (std::size_t i = 0; regularization == Regularization::kl && i < c.w.size(); ++i) {
      const bool weightless = i % 5 < 2 || i < c.w.size() / 3;
      c.w[i] = weightless && i % 11 < 9 ? T(0) : std::abs(c.w[i]);
    }
  }
  // At strength 0 an infinite w has a limit.
  if (operands == Operands::both && n > 0) c.w[static_cast<std::size_t>(8 * n + n / 2)] = T(kInf);
  c.z_sign = random() % 2 == 0 ? 1.0 : -1.0;
  c.w_sign = regularization != Regularization::kl && random() % 2 == 0 ? -1.0 : 1.0;

  c.solved = {std::vector<T>(c.size()), std::vector<std::int32_t>(c.size()),
              std::vector<std::int32_t>(c.size())};
  project<T>(
      c.problem(),
      {view(c.z, n), c.w_rows(), contiguous_rows(c.solved.result.data(), n),
       contiguous_rows(c.solved.block_z.data(), n), contiguous_rows(c.solved.block_w.data(), n)},
      1);
  c.g = random_values<T>(c.size(), random);
  c.dz = random_values<T>(c.size(), random);
  c.dw = random_values<T>(c.size(), random);
  return c;
}

// What is differentiated.
struct Asked {
  bool z, w, strength;
};

inline constexpr Asked kAsked[] = {{true, true, true},   {true, false, false},
                                   {false, true, false}, {false, false, true},
                                   {true, true, false},  {false, false, false}};

template <class T>
struct Answer {
  std::vector<T> z, w, tangent;
  std::vector<double> strength;

  explicit Answer(const DerivativeCase<T>& c)
      : z(c.size(), T(-7)),
        w(c.size(), T(-7)),
        tangent(c.size(), T(-7)),
        strength(static_cast<std::size_t>(c.rows), -7.0) {}
};

template <class T>
Answer<T> sequential(const DerivativeCase<T>& c, const Asked& asked) {
  Answer<T> answer(c);
  const Linearization<T> at{view(c.z, c.n), c.w_rows(), view(c.solved.result, c.n),
                            view(c.solved.block_z, c.n), view(c.solved.block_w, c.n)};
  Cotangents<T> cotangents;
  cotangents.g = view(c.g, c.n);
  if (asked.z) cotangents.z = contiguous_rows(answer.z.data(), c.n);
  if (asked.w) cotangents.w = contiguous_rows(answer.w.data(), c.n);
  if (asked.strength) cotangents.strength = contiguous_rows(answer.strength.data(), 1);
  project_vjp(c.problem(), at, cotangents, 1);

  Tangents<T> tangents;
  if (asked.z) tangents.z = view(c.dz, c.n);
  if (asked.w) tangents.w = view(c.dw, c.n);
  tangents.has_strength = asked.strength;
  tangents.strength.value = c.dstrength;
  tangents.out = contiguous_rows(answer.tangent.data(), c.n);
  project_jvp(c.problem(), at, tangents, 1);
  return answer;
}

template <class T>
DiffsortProblem c_problem(const DerivativeCase<T>& c) {
  constexpr std::int32_t type = std::is_same_v<T, float> ? DIFFSORT_FLOAT32 : DIFFSORT_FLOAT64;
  return {c.rows,
          c.n,
          type,
          static_cast<std::int32_t>(c.regularization),
          c.z_sign,
          c.w_sign,
          {c.strength.data(), 1, type, 0.0}};
}

template <class T>
DiffsortLinearization c_linearization(const DerivativeCase<T>& c) {
  return {rows_of(c.z, c.n), rows_of(c.w, c.one_w ? 0 : c.n), rows_of(c.solved.result, c.n),
          rows_of(c.solved.block_z, c.n), rows_of(c.solved.block_w, c.n)};
}

template <class T>
DiffsortCotangents c_cotangents(const DerivativeCase<T>& c, const Asked& asked, Answer<T>& answer) {
  DiffsortCotangents cotangents{};
  cotangents.g = rows_of(c.g, c.n);
  if (asked.z) cotangents.z_out = answer.z.data();
  if (asked.w) cotangents.w_out = answer.w.data();
  if (asked.strength) cotangents.strength_out = answer.strength.data();
  return cotangents;
}

template <class T>
DiffsortTangents c_tangents(const DerivativeCase<T>& c, const Asked& asked, Answer<T>& answer) {
  DiffsortTangents tangents{};
  if (asked.z) tangents.z = rows_of(c.dz, c.n);
  if (asked.w) tangents.w = rows_of(c.dw, c.n);
  tangents.has_strength = asked.strength;
  tangents.strength.value = c.dstrength;
  tangents.out = answer.tangent.data();
  return tangents;
}

template <class V>
bool same_bits(const std::vector<V>& a, const std::vector<V>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(V)) == 0);
}

template <class T>
bool same_bits(const Answer<T>& a, const Answer<T>& b) {
  return same_bits(a.z, b.z) && same_bits(a.w, b.w) && same_bits(a.tangent, b.tangent) &&
         same_bits(a.strength, b.strength);
}

// Of the finite values of a row: the largest magnitude, and the distance between them.
struct Extent {
  double magnitude = 0.0, range = 0.0;
};

template <class T>
Extent extent(const std::vector<T>& values, std::int64_t r, std::int64_t n) {
  if (values.empty()) return {static_cast<double>(n), static_cast<double>(n)};  // rho
  double least = kInf, largest = -kInf;
  for (std::int64_t i = r * n; i < (r + 1) * n; ++i) {
    const double x = values[static_cast<std::size_t>(i)];
    if (!std::isfinite(x)) continue;
    least = std::min(least, x);
    largest = std::max(largest, x);
  }
  if (!(least <= largest)) return {};
  return {std::max(-least, largest), largest - least};
}

// Within the rounding of sums of n terms in double, and of numbers that are kept as T: results, and
// on the CPU the weights of softmax.
inline bool near(double actual, double expected, double scale, std::int64_t n, double t_epsilon) {
  if (!std::isfinite(expected)) {
    return std::isnan(expected) ? std::isnan(actual) : actual == expected;
  }
  const double double_epsilon = std::numeric_limits<double>::epsilon();
  const double tolerance = (static_cast<double>(n) + 20.0) * double_epsilon + 4.0 * t_epsilon;
  return std::abs(actual - expected) <= tolerance * std::max(scale, std::abs(expected));
}

// An upper bound of the terms that are added up for a row.
struct Scales {
  double z, w, strength, tangent;
};

template <class T>
Scales scales(const DerivativeCase<T>& c, std::int64_t r) {
  const double n = static_cast<double>(c.n),
               strength = static_cast<double>(c.strength[std::size_t(r)]);
  const bool kl = c.regularization == Regularization::kl;
  const double g = extent(c.g, r, c.n).magnitude, dz = extent(c.dz, r, c.n).magnitude,
               dw = extent(c.dw, r, c.n).magnitude, range = extent(c.z, r, c.n).range,
               outer = kl ? extent(c.solved.result, r, c.n).magnitude : 1.0;
  // w's cotangent is the sum over a block for log_kl, else a mean.
  const bool sums = c.regularization == Regularization::log_kl;
  if (!(strength > 0.0)) return {0.0, sums ? n * g : g, 0.0, dw};
  const double z = 2.0 * outer * g / strength;
  const double ds = (dz + range / strength * c.dstrength) / strength;
  return {z, n * g, n * z * range / strength, 2.0 * outer * ds + n * dw};
}

template <class T>
std::string mismatch(const DerivativeCase<T>& c, const Answer<T>& actual,
                     const Answer<T>& expected) {
  const double epsilon = std::numeric_limits<T>::epsilon();
  for (std::int64_t r = 0; r < c.rows; ++r) {
    const Scales scale = scales(c, r);
    const auto differs = [&](const char* what, auto x, auto y, double s) {
      return near(double(x), double(y), s, c.n, epsilon)
                 ? std::string()
                 : std::string(what) + " of row " + std::to_string(r) + ": " + std::to_string(x) +
                       ", not " + std::to_string(y);
    };
    std::string found = differs("strength", actual.strength[std::size_t(r)],
                                expected.strength[std::size_t(r)], scale.strength);
    for (std::size_t i = std::size_t(r * c.n); found.empty() && i < std::size_t((r + 1) * c.n);
         ++i) {
      found = differs("z", actual.z[i], expected.z[i], scale.z);
      if (found.empty()) found = differs("w", actual.w[i], expected.w[i], scale.w);
      if (found.empty())
        found = differs("tangent", actual.tangent[i], expected.tangent[i], scale.tangent);
    }
    if (!found.empty()) return found;
  }
  return {};
}

}  // namespace diffsort::testing
