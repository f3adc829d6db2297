// Cotangents of the ranks of long rows: blocks of one element, one block that has most, and the rest.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "cpu/lone_blocks.h"
#include "cpu/long_rank_vjp.h"
#include "support.h"

using namespace diffsort;
using namespace diffsort::portable;
using namespace diffsort::testing;

namespace {

using Ids = std::vector<std::int32_t>;

// Of 100 elements, on average, this many have the id `most`, and this many one of their own; the rest are
// in blocks of a few.
struct Mix {
  int in_most, lone;
};

Ids mixed_ids(std::int64_t n, std::int32_t most, Mix mix, std::mt19937_64& random) {
  std::uniform_int_distribution<int> percent(0, 99);
  Ids own(static_cast<std::size_t>(n)), ids(own.size());
  std::iota(own.begin(), own.end(), 0);
  std::shuffle(own.begin(), own.end(), random);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const int kind = percent(random);
    ids[i] = kind < mix.in_most ? most : kind < mix.in_most + mix.lone ? own[i] : own[i] / 3 * 3;
  }
  return ids;
}

}  // namespace

TEST_CASE("which block ids one element has, and which several") {
  std::mt19937_64 random(111);
  for (const std::int64_t n : {1, 2, 31, 32, 33, 64, 65, 1000, 20'001}) {
    CAPTURE(n);
    for (const Mix mix : {Mix{0, 100}, Mix{0, 50}, Mix{60, 30}, Mix{100, 0}}) {
      const auto most = static_cast<std::int32_t>(n / 2);
      const Ids ids = mixed_ids(n, most, mix, random);
      std::vector<std::int64_t> times(ids.size());
      for (const std::int32_t id : ids) ++times[static_cast<std::size_t>(id)];
      for (const std::int32_t passed_over : {-1, most}) {
        for (const int threads : {1, 2, 7, 20}) {
          LoneBlocks lone;
          lone.find(ids.data(), n, passed_over, threads);
          std::int64_t expected = 0;
          bool same = true;
          for (std::int64_t id = 0; id < n; ++id) {
            const std::int64_t count = times[static_cast<std::size_t>(id)];
            const bool is_passed_over = id == passed_over;
            expected += count == 1 && !is_passed_over;
            const bool is_shared = count > 1 && !is_passed_over;
            same &= lone.is_shared(static_cast<std::int32_t>(id)) == is_shared;
          }
          CHECK(same);
          CHECK(lone.count() == expected);
        }
      }
    }
  }
}

namespace {

template <class T>
struct CotangentRow {
  std::vector<T> g, result;
  Ids ids;

  std::int64_t n() const { return static_cast<std::int64_t>(ids.size()); }
  DenseVjpRow<T> dense(std::vector<T>& out) const {
    return {n(),     1.0,        1.0,     1.0,        g.data(), result.data(),
            nullptr, ids.data(), nullptr, out.data(), nullptr};
  }
};

template <class T>
CotangentRow<T> row_of(const Ids& ids, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  CotangentRow<T> row{std::vector<T>(ids.size()), std::vector<T>(ids.size()), ids};
  for (std::size_t i = 0; i < ids.size(); ++i) {
    row.g[i] = static_cast<T>(normal(random));
    row.result[i] = static_cast<T>(1.0 + std::abs(normal(random)));
  }
  return row;
}

// From sums in long double. `scale` is what the results are multiplied by.
template <class T, Regularization R>
std::vector<long double> cotangents(const CotangentRow<T>& row, double scale) {
  std::vector<long double> sums(row.ids.size()), weights(row.ids.size()), expected;
  const auto weight = [&](std::size_t i) {
    return R == Regularization::kl ? static_cast<long double>(row.result[i]) : 1.0L;
  };
  for (std::size_t i = 0; i < row.ids.size(); ++i) {
    const auto id = static_cast<std::size_t>(row.ids[i]);
    sums[id] += weight(i) * static_cast<long double>(row.g[i]);
    weights[id] += weight(i);
  }
  for (std::size_t i = 0; i < row.ids.size(); ++i) {
    const auto id = static_cast<std::size_t>(row.ids[i]);
    expected.push_back(weight(i) * (static_cast<long double>(row.g[i]) - sums[id] / weights[id]) *
                       scale);
  }
  return expected;
}

template <class T, Regularization R>
void check_ranks(const CotangentRow<T>& row) {
  constexpr double kScale = -3.0;
  const auto expected = cotangents<T, R>(row, kScale);
  std::vector<T> found(row.ids.size()), shared(found);
  LongRankVjp<T> way;
  CHECK(way.template solve<R>(row.dense(found), kScale, 1));
  CHECK(way.template solve<R>(row.dense(shared), kScale, 3));
  CHECK(std::memcmp(found.data(), shared.data(), found.size() * sizeof(T)) == 0);
  // Terms are of the size of 1, and so are their means.
  const double rounding =
      std::numeric_limits<T>::epsilon() + static_cast<double>(row.n()) * 0x1p-52;
  long double worst = 0.0L;
  for (std::size_t i = 0; i < found.size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<long double>(found[i]) - expected[i]));
  }
  CHECK(worst <= 60.0L * rounding);
}

}  // namespace

TEST_CASE_TEMPLATE("cotangents of lone blocks, of one that has most, and of others", T, float,
                   double) {
  std::mt19937_64 random(112);
  // 32768 elements are a piece of the row.
  for (const std::int64_t n : {1, 2, 3, 17, 1000, 32'768, 70'003}) {
    CAPTURE(n);
    for (const Mix mix : {Mix{0, 100}, Mix{0, 80}, Mix{0, 20}, Mix{0, 0}, Mix{100, 0}, Mix{97, 3},
                          Mix{90, 5}, Mix{80, 0}, Mix{60, 20}}) {
      for (const auto most : {std::int64_t{0}, n / 2, n - 1}) {
        const auto ids = mixed_ids(n, static_cast<std::int32_t>(most), mix, random);
        const auto row = row_of<T>(ids, random);
        check_ranks<T, Regularization::l2>(row);
        check_ranks<T, Regularization::kl>(row);
      }
    }
  }
}

TEST_CASE_TEMPLATE("an element alone in its block gets exactly 0", T, float, double) {
  std::mt19937_64 random(113);
  const std::int64_t n = 5000;
  for (const Mix mix : {Mix{0, 100}, Mix{0, 30}, Mix{90, 10}}) {
    const auto row = row_of<T>(mixed_ids(n, 7, mix, random), random);
    std::vector<T> found(row.ids.size());
    LongRankVjp<T> way;
    for (const bool kl : {false, true}) {
      CHECK((kl ? way.template solve<Regularization::kl>(row.dense(found), 0.3, 1)
                : way.template solve<Regularization::l2>(row.dense(found), 0.3, 1)));
      bool zero = true;
      for (std::size_t i = 0; i < found.size(); ++i) {
        const bool is_lone =
            row.ids[i] != 7 && std::count(row.ids.begin(), row.ids.end(), row.ids[i]) == 1;
        zero &= !is_lone || found[i] == T(0);
      }
      CHECK(zero);
    }
  }
}

TEST_CASE_TEMPLATE("what is not finite stays within its block", T, float, double) {
  std::mt19937_64 random(114);
  const std::int64_t n = 5000;
  const std::int32_t most = 4999;
  for (const Mix mix : {Mix{90, 8}, Mix{0, 90}, Mix{0, 10}}) {
    const auto plain = row_of<T>(mixed_ids(n, most, mix, random), random);
    for (const std::size_t at : {0u, 1u, 2500u, 4999u}) {
      for (const T value :
           {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity()}) {
        auto row = plain;
        row.g[at] = value;
        std::vector<T> found(row.ids.size()), expected(found);
        LongRankVjp<T> way;
        for (const bool kl : {false, true}) {
          const auto solve = [&](const CotangentRow<T>& of, std::vector<T>& out) {
            return kl ? way.template solve<Regularization::kl>(of.dense(out), 1.0, 1)
                      : way.template solve<Regularization::l2>(of.dense(out), 1.0, 1);
          };
          CHECK(solve(row, found));
          CHECK(solve(plain, expected));
          bool confined = true;
          for (std::size_t i = 0; i < found.size(); ++i) {
            const bool is_inside = row.ids[i] == row.ids[at];
            confined &= is_inside ? !std::isfinite(found[i]) : found[i] == expected[i];
          }
          CHECK(confined);
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("blocks without a weight are refused", T, float, double) {
  std::mt19937_64 random(115);
  const std::int64_t n = 5000;
  for (const bool in_most : {true, false}) {
    auto row = row_of<T>(mixed_ids(n, 6, {80, 5}, random), random);
    const auto other = std::find_if(row.ids.begin(), row.ids.end(), [&](std::int32_t id) {
      return id != 6 && std::count(row.ids.begin(), row.ids.end(), id) > 1;
    });
    REQUIRE(other != row.ids.end());
    const std::int32_t weightless = in_most ? 6 : *other;
    for (std::size_t i = 0; i < row.ids.size(); ++i) {
      if (row.ids[i] == weightless) row.result[i] = T(0);
    }
    std::vector<T> found(row.ids.size());
    LongRankVjp<T> way;
    CHECK(!way.template solve<Regularization::kl>(row.dense(found), 1.0, 1));
  }
}
