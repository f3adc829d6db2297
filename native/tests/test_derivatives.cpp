#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "support.h"

using namespace diffsort;
using namespace diffsort::testing;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

struct Point {
  Problem problem;
  Vector z, w;  // empty: rho
  Solved<double> solved;

  std::int64_t n() const { return problem.space.length; }
  Linearization<double> at() const {
    Linearization<double> at;
    if (!z.empty()) at.z = contiguous_rows(z.data(), n());
    if (!w.empty()) at.w = contiguous_rows(w.data(), n());
    at.result = contiguous_rows(solved.result.data(), n());
    at.block_z = contiguous_rows(solved.block_z.data(), n());
    at.block_w = contiguous_rows(solved.block_w.data(), n());
    return at;
  }
};

struct Cotangent {
  Vector z, w;
  double strength;
};

Point point(Regularization regularization, double strength, const Vector& z, const Vector& w,
            double z_sign = 1.0, double w_sign = 1.0) {
  const auto n = static_cast<std::int64_t>(std::max(z.size(), w.size()));
  Problem problem = problem_of(1, n, regularization, strength);
  problem.z_sign = z_sign;
  problem.w_sign = w_sign;
  return {problem, z, w, solve<double>(problem, z, w)};
}

Cotangent vjp(const Point& point, const Vector& g) {
  Cotangent out{Vector(g.size()), Vector(g.size()), 0.0};
  Cotangents<double> cotangents;
  cotangents.g = contiguous_rows(g.data(), point.n());
  cotangents.z = contiguous_rows(out.z.data(), point.n());
  cotangents.w = contiguous_rows(out.w.data(), point.n());
  cotangents.strength = contiguous_rows(&out.strength, 1);
  project_vjp(point.problem, point.at(), cotangents, 1);
  return out;
}

Vector jvp(const Point& point, const Vector& dz, const Vector& dw, double dstrength) {
  Vector out(static_cast<std::size_t>(point.n()));
  Tangents<double> tangents;
  if (!dz.empty()) tangents.z = contiguous_rows(dz.data(), point.n());
  if (!dw.empty()) tangents.w = contiguous_rows(dw.data(), point.n());
  tangents.has_strength = true;
  tangents.strength.value = dstrength;
  tangents.out = contiguous_rows(out.data(), point.n());
  project_jvp(point.problem, point.at(), tangents, 1);
  return out;
}

double dot(const Vector& a, const Vector& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

Vector normal_vector(std::size_t n, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  Vector values(n);
  for (double& value : values) value = normal(random);
  return values;
}

Vector moved(const Vector& x, const Vector& direction, double step) {
  Vector result = x;
  for (std::size_t i = 0; i < x.size(); ++i) result[i] += step * direction[i];
  return result;
}

}  // namespace

TEST_CASE("jvp is the derivative: central differences within one partition") {
  std::mt19937_64 random(7);
  const double step = 1e-6;
  int checked = 0;
  for (const Regularization regularization : kRegularizations) {
    for (const double sign : {1.0, -1.0}) {
      for (int trial = 0; trial < 40; ++trial) {
        const Vector z = normal_vector(12, random), dz = normal_vector(12, random);
        Vector w = normal_vector(12, random);
        const Vector dw = normal_vector(12, random);
        const double w_sign = regularization == Regularization::kl ? 1.0 : sign;
        if (regularization == Regularization::kl) {
          for (double& value : w) value = std::exp(value);
        }
        const double strength = 0.4, dstrength = 0.3;
        const Point here = point(regularization, strength, z, w, sign, w_sign);
        const auto at = [&](double t) {
          return point(regularization, strength + t * dstrength, moved(z, dz, t), moved(w, dw, t),
                       sign, w_sign);
        };
        const Point up = at(step), down = at(-step);
        if (up.solved.block_z != down.solved.block_z) continue;  // a kink lies in between
        ++checked;
        const Vector tangent = jvp(here, dz, dw, dstrength);
        for (std::size_t i = 0; i < z.size(); ++i) {
          const double difference = (up.solved.result[i] - down.solved.result[i]) / (2 * step);
          // Truncation step^2 f''' and rounding 1e-16 / step, both below 1e-9 of the scale.
          CHECK(tangent[i] == doctest::Approx(difference).epsilon(1e-6).scale(1.0));
        }
      }
    }
  }
  CHECK(checked > 200);
}

TEST_CASE("vjp is the transpose of jvp") {
  std::mt19937_64 random(8);
  for (const std::int64_t n : {1, 2, 7, 40}) {
    for (const auto& family : families(n, random)) {
      for (const Regularization regularization : kRegularizations) {
        for (const double strength : {0.0, 0.1, 1.0, 30.0}) {
          Vector w = normal_vector(family.size(), random);
          for (double& value : w) value = std::exp(value);
          const Point here = point(regularization, strength, family, w);
          const Vector g = normal_vector(w.size(), random), dz = normal_vector(w.size(), random),
                       dw = normal_vector(w.size(), random);
          const Cotangent back = vjp(here, g);
          const double forward = dot(g, jvp(here, dz, dw, 0.5));
          const double backward = dot(back.z, dz) + dot(back.w, dw) + back.strength * 0.5;
          // Sums of n products of size at most (1 + |z| / strength) / strength.
          CHECK(forward == doctest::Approx(backward).epsilon(1e-9).scale(1.0));
        }
      }
    }
  }
}

TEST_CASE("kl: a block without weight in w still passes on what w would bring") {
  const Vector g{1, 2, 3, 4};
  // Strength 0: every w goes to one z. Above: the whole row is one block, r = softmax(z) sum(w).
  const Cotangent hard = vjp(point(Regularization::kl, 0.0, {.3, 1.1, -.7, 2.2}, {0, 3, 1, 0}), g);
  CHECK(hard.w == Vector{1, 4, 2, 3});
  CHECK(hard.z == Vector(4, 0.0));
  const Cotangent zero = vjp(point(Regularization::kl, 1.0, {0, std::log(3.0)}, {0, 0}), {1, 2});
  CHECK(zero.z == Vector(2, 0.0));
  CHECK(zero.w[0] == doctest::Approx(1.75));
  CHECK(zero.w[1] == doctest::Approx(1.75));
}

TEST_CASE("golden derivatives") {
  const Vector x{2.9, 0.1, 1.2, 1.3}, g{1, 2, 3, 4};
  const auto check = [](const Vector& actual, const Vector& expected) {
    for (std::size_t i = 0; i < expected.size(); ++i) {
      CHECK(actual[i] == doctest::Approx(expected[i]).epsilon(1e-6));
    }
  };
  check(vjp(point(Regularization::l2, 2.0, x, {}), g).z, {-.75, -.25, .25, .75});
  check(vjp(point(Regularization::kl, 2.0, x, {}), g).z, {0, -.777416, -.206001, .983417});
  check(vjp(point(Regularization::l2, 1.0, {}, x, 1.0, -1.0), g).w, {3.5, 1.5, 1.5, 3.5});
  check(vjp(point(Regularization::log_kl, 1.0, {}, x, 1.0, -1.0), g).w,
        {1.175871, 2.25078, .74922, 5.824129});
}

TEST_CASE(
    "float32: the kl sort's derivative by the strength does not see an offset of the values") {
  const std::int64_t n = 20;
  std::mt19937_64 random(10);
  std::normal_distribution<double> normal;
  std::vector<float> x(static_cast<std::size_t>(n)), result, g;
  for (float& value : x) value = static_cast<float>(normal(random) + 1e7);
  const auto problem = problem_of(1, n, Regularization::log_kl, 1.0);
  const auto solved = solve<float>(problem, {}, x);
  g.assign(x.size(), 0.0f);
  g[3] = 1.0f;
  double found = 0.0;
  Linearization<float> at;
  at.w = contiguous_rows<const float>(x.data(), n);
  at.block_z = contiguous_rows<const std::int32_t>(solved.block_z.data(), n);
  at.block_w = contiguous_rows<const std::int32_t>(solved.block_w.data(), n);
  Cotangents<float> cotangents;
  cotangents.g = contiguous_rows<const float>(g.data(), n);
  cotangents.strength = contiguous_rows(&found, 1);
  project_vjp(problem, at, cotangents, 1);
  const Vector wide(x.begin(), x.end());
  const Point reference = point(Regularization::log_kl, 1.0, {}, wide);
  CHECK(found ==
        doctest::Approx(vjp(reference, Vector(g.begin(), g.end())).strength).epsilon(1e-6));
}

TEST_CASE("the hard limit: ranks do not move, sorting permutes") {
  const Vector x{1, 1, 2, 0, 2}, g{1, 2, 3, 4, 5};
  const Cotangent ranks = vjp(point(Regularization::l2, 0.0, x, {}), g);
  CHECK(ranks.z == Vector(5, 0.0));
  CHECK(ranks.strength == 0.0);
  const Cotangent sorted = vjp(point(Regularization::log_kl, 0.0, {}, {1, kInf, 3, -kInf, 2}), g);
  CHECK(sorted.w == Vector{4, 1, 2, 5, 3});
  CHECK(sorted.strength == 0.0);
  // An infinite w is shared like any other: here by two equal z.
  const Point tied = point(Regularization::kl, 0.0, {1, 2, 1, 0.5}, {kInf, 1, 0.25, kInf});
  const Cotangent shared = vjp(tied, {0.25, -1, 2, 1});
  CHECK(shared.z == Vector(4, 0.0));
  CHECK(shared.w == Vector{-1, 1.125, 1, 1.125});
  CHECK(shared.strength == 0.0);
  CHECK(jvp(tied, {1, 2, 3, 4}, {1, 2, 3, 4}, 1.0) == Vector{3, 1, 3, 3});
}

TEST_CASE("infinite z have derivative zero and leave the others theirs") {
  const Vector g{1, 2, 3, 4, 5, 6};
  const Point with = point(Regularization::l2, 1.0, {kInf, 0.5, -kInf, 1.0, kInf, 0.0}, {});
  const Cotangent back = vjp(with, g);
  CHECK(back.z[0] == 0.0);
  CHECK(back.z[2] == 0.0);
  CHECK(back.z[4] == 0.0);
  const Cotangent finite = vjp(point(Regularization::l2, 1.0, {0.5, 1.0, 0.0}, {}), {2, 4, 6});
  CHECK(back.z[1] == finite.z[0]);
  CHECK(back.z[3] == finite.z[1]);
  CHECK(back.strength == doctest::Approx(finite.strength));
}

TEST_CASE("a row without a value has NaN derivatives; forged block ids are refused") {
  Point here = point(Regularization::l2, 1.0, {1, std::nan(""), 2}, {});
  CHECK(std::isnan(vjp(here, {1, 1, 1}).z[0]));
  CHECK(std::isnan(jvp(here, {1, 1, 1}, {}, 0.0)[2]));
  for (const std::int32_t forged : {3, 1000000, -5, -1000000, INT32_MIN, INT32_MAX}) {
    here.solved.block_z = {0, forged, 0};
    CHECK(std::isnan(vjp(here, {1, 1, 1}).z[0]));
    CHECK(std::isnan(jvp(here, {1, 1, 1}, {}, 1.0)[0]));
  }
}

TEST_CASE_TEMPLATE("rows without elements are left alone", T, float, double) {
  // Memory of no elements, where AddressSanitizer sees any read; what is written has one behind its end.
  const std::unique_ptr<T[]> values(new T[0]);
  const std::unique_ptr<std::int32_t[]> ids(new std::int32_t[0]);
  T written = 7;
  for (const Regularization regularization : kRegularizations) {
    for (const bool ranks : {true, false}) {
      const auto problem = problem_of(3, 0, regularization, 1.0);
      Linearization<T> at;
      at.z = at.w = at.result = contiguous_rows<const T>(values.get(), 0);
      at.block_z = at.block_w = contiguous_rows<const std::int32_t>(ids.get(), 0);
      Cotangents<T> cotangents;
      cotangents.g = contiguous_rows<const T>(values.get(), 0);
      (ranks ? cotangents.z : cotangents.w) = contiguous_rows(&written, 0);
      project_vjp(problem, at, cotangents, 1);
      CHECK(written == 7);
    }
  }
}
