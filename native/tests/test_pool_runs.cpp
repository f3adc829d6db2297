// Ranks of kl near their top: that runs lead to the blocks that growing from single elements finds, and
// to the values of the general way.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <random>
#include <vector>

#include "cpu/pool_runs.h"
#include "cpu/pooling.h"
#include "general_solution.h"
#include "level.h"
#include "support.h"

using namespace diffsort;
using namespace diffsort::DIFFSORT_LEVEL;
using namespace diffsort::testing;

namespace {

constexpr Regularization kKl = Regularization::kl;

// Rows of many kinds whose range is 1.
std::vector<Vector> kinds_of_rows(std::int64_t n, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  std::exponential_distribution<double> exponential;
  std::vector<Vector> rows(8, Vector(static_cast<std::size_t>(n)));
  double walk = 0.0;
  for (std::size_t i = 0; i < rows[0].size(); ++i) {
    const auto place = static_cast<double>(i), size = static_cast<double>(n);
    rows[0][i] = normal(random);
    rows[1][i] = uniform(random);
    rows[2][i] = std::floor(5.0 * uniform(random));
    rows[3][i] = exponential(random);
    rows[4][i] = std::log(size - place);  // as rho falls: neither pools nor far from it
    rows[5][i] = i % 100 == 0 ? uniform(random) : 0.5 + 1e-4 * normal(random);
    rows[6][i] = (walk += normal(random));
    rows[7][i] = -place * place;
  }
  for (Vector& row : rows) {
    const auto [low, high] = std::minmax_element(row.begin(), row.end());
    const double bottom = *low, range = *high - *low;
    for (double& x : row) x = range > 0.0 ? (x - bottom) / range : 0.0;
  }
  return rows;
}

// As sorted_row.h leaves it, with room for vectors behind.
std::vector<float> sorted_row(const Vector& row) {
  std::vector<float> values(row.begin(), row.end());
  std::sort(values.begin(), values.end(), std::greater<float>());
  values.resize(values.size() + kLanes, 0.0f);
  return values;
}

// The blocks of both ways; false where the one by runs has no memory for them.
bool check_blocks(std::int64_t n, double strength, const std::vector<float>& values, bool keep) {
  const SortedValues<float> z{values.data(), nullptr};
  BlockGrowth<kKl> expected;
  expected.run(n, strength, z, Rho{n});
  RunPooling runs;
  PooledBlocks<kKl> found;
  if (!runs.run(n, strength, z, keep, found)) return false;
  REQUIRE(found.count() == expected.count());
  bool same = true, close = true;
  for (std::int64_t k = 0; k < found.count(); ++k) {
    const PooledBlock a = found.at(k), b = expected.at(k);
    same &= a.start == b.start && a.end == b.end;
    const double first = keep ? runs.parts()[a.start] : 1.0;
    // A rounding for every sum, and those of exponents of up to 64, of both ways.
    const double rounding = static_cast<double>(n) * 0x1p-51 + 0x1p-45;
    close &= std::abs(found.sums(k).s / first / expected.sums(k).s - 1.0) <= rounding;
    close &= std::abs(found.sums(k).w / expected.sums(k).w - 1.0) <= rounding;
  }
  CHECK(same);
  CHECK(close);
  for (std::int64_t i = 0; keep && i < n; ++i) {
    const double exact = std::exp((z(i) - z(0)) / strength);
    close &= std::abs(runs.parts()[i] / exact - 1.0) <= 0x1p-46;
  }
  CHECK(close);
  return true;
}

}  // namespace

TEST_CASE("runs have the blocks that single elements grow to") {
  std::mt19937_64 random(121);
  for (const std::int64_t n : {2, 3, 5, 33, 100, 1000, 1023, 1024, 1025, 2048, 5000, 20'000}) {
    CAPTURE(n);
    for (const Vector& row : kinds_of_rows(n, random)) {
      const auto values = sorted_row(row);
      for (const double range : {0.1, 0.9, 2.0, 8.0, 30.0, 64.0}) {
        CAPTURE(range);
        CHECK(check_blocks(n, 1.0 / range, values, true));
        check_blocks(n, 1.0 / range, values, false);
      }
    }
  }
}

TEST_CASE("rows that keep no exponentials give up beyond half as many blocks as elements") {
  std::mt19937_64 random(122);
  const auto rows = kinds_of_rows(70'000, random);
  for (const std::size_t kind : {0u, 2u, 3u}) {
    CHECK(check_blocks(70'000, 1.0 / 8.0, sorted_row(rows[kind]), false));
  }
  const double range = 1.1 * std::log(70'000.0);  // no two elements pool
  CHECK(!check_blocks(70'000, 1.0 / range, sorted_row(rows[4]), false));
  CHECK(check_blocks(70'000, 1.0 / range, sorted_row(rows[4]), true));
}

TEST_CASE("ranks by runs are those of the general way") {
  std::mt19937_64 random(123);
  for (const std::int64_t n : {33, 100, 1025, 5000, 70'000, 140'000}) {
    CAPTURE(n);
    for (Vector row : kinds_of_rows(n, random)) {
      std::shuffle(row.begin(), row.end(), random);
      for (const double range : {0.9, 8.0, 64.0}) {
        auto problem = problem_of(1, n, kKl, 1.0 / range);
        problem.z_sign = n % 2 == 0 ? 1.0 : -1.0;
        const auto found = solve<float>(problem, as<float>(row), {}, 1);
        const auto expected = solve_generally<float>(problem, as<float>(row), {});
        CHECK(found.block_z == expected.block_z);
        CHECK(found.block_w == expected.block_w);
        double worst = 0.0;
        for (std::size_t i = 0; i < row.size(); ++i) {
          const double exact = expected.result[i];
          worst = std::max(worst, std::abs(found.result[i] / exact - 1.0));
        }
        CHECK(worst <= 0x1p-22);
        const auto shared = solve<float>(problem, as<float>(row), {}, 3);
        CHECK(shared.block_z == found.block_z);
        CHECK(shared.result == found.result);
      }
    }
  }
}
