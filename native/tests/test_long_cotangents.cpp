// Cotangents of long rows, of ranks and of sorted values in kl: blocks of one element, one block that has
// most, and the rest.
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
#include "cpu/long_sort_vjp.h"
#include "level.h"
#include "support.h"

using namespace diffsort;
using namespace diffsort::DIFFSORT_LEVEL;
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
            same &= lone.is_lone(static_cast<std::int32_t>(id)) == (count == 1 && !is_passed_over);
          }
          CHECK(same);
          Ids shared;
          for (std::size_t i = 0; i < ids.size(); ++i) {
            if (lone.is_shared(ids[i])) shared.push_back(static_cast<std::int32_t>(i));
          }
          const SomeElements listed = lone.list_shared(ids.data(), n, threads);
          CHECK(Ids(listed.at, listed.at + listed.size) == shared);
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

// --- sorted values

namespace {

// Blocks of z in order, and those of w, which have as many elements each, in any.
template <class T>
struct SortedCotangentRow {
  std::vector<T> g, w;
  Ids z_ids, w_ids;

  DenseVjpRow<T> dense(std::vector<T>& out) const {
    return {static_cast<std::int64_t>(g.size()),
            1.0,
            1.0,
            -1.0,
            g.data(),
            nullptr,
            w.data(),
            z_ids.data(),
            w_ids.data(),
            nullptr,
            out.data()};
  }
};

// Of 100 elements about `in_most` are in one block, which has the place `where` of the row, from 0 to 1.
template <class T>
SortedCotangentRow<T> sorted_row_of(std::int64_t n, Mix mix, double where, double spread,
                                    std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  std::uniform_int_distribution<int> percent(0, 99);
  SortedCotangentRow<T> row{std::vector<T>(static_cast<std::size_t>(n)), {}, {}, {}};
  const auto add = [&](std::int64_t size) {
    const auto id = static_cast<std::int32_t>(row.z_ids.size());
    for (std::int64_t k = 0; k < size && static_cast<std::int64_t>(row.z_ids.size()) < n; ++k) {
      row.z_ids.push_back(id);
    }
  };
  bool has_most = false;
  while (static_cast<std::int64_t>(row.z_ids.size()) < n) {
    const double place = static_cast<double>(row.z_ids.size()) / static_cast<double>(n);
    if (!has_most && place >= where * (1.0 - mix.in_most / 100.0)) {
      has_most = true;
      add(n * mix.in_most / 100);
    } else {
      add(percent(random) * (100 - mix.in_most) < 100 * mix.lone ? 1 : 3);
    }
  }
  row.w_ids = row.z_ids;
  std::shuffle(row.w_ids.begin(), row.w_ids.end(), random);
  row.w = row.g;
  for (T& x : row.g) x = static_cast<T>(normal(random));
  for (T& x : row.w) x = static_cast<T>(spread * normal(random));
  return row;
}

// softmax_B(w)_j sum_B(g) in long double; and what the rounding of both is in proportion to.
template <class T>
void check_sorted_cotangents(const SortedCotangentRow<T>& row, const std::vector<T>& found) {
  const std::size_t n = row.g.size();
  constexpr long double kLowest = -std::numeric_limits<long double>::infinity();
  std::vector<long double> sums(n), sizes(n), tops(n, kLowest), totals(n);
  const auto w = [&](std::size_t j) { return -static_cast<long double>(row.w[j]); };
  for (std::size_t i = 0; i < n; ++i) {
    const auto z_id = static_cast<std::size_t>(row.z_ids[i]);
    const auto w_id = static_cast<std::size_t>(row.w_ids[i]);
    sums[z_id] += row.g[i];
    sizes[z_id] += std::abs(row.g[i]);
    tops[w_id] = std::max(tops[w_id], w(i));
  }
  const auto share = [&](std::size_t j) {
    return std::exp(w(j) - tops[static_cast<std::size_t>(row.w_ids[j])]);
  };
  for (std::size_t j = 0; j < n; ++j) totals[static_cast<std::size_t>(row.w_ids[j])] += share(j);
  bool close = true;
  for (std::size_t j = 0; j < n; ++j) {
    const auto id = static_cast<std::size_t>(row.w_ids[j]);
    const long double softmax = share(j) / totals[id], exponent = tops[id] - w(j);
    // Of the type, of sums, and of the exponent; what would nearly be denormal is 0 (exp.h).
    const long double rounding = 4.0L * std::numeric_limits<T>::epsilon() +
                                 (static_cast<long double>(n) + exponent) * 0x1p-52L;
    close &=
        std::abs(found[j] - softmax * sums[id]) <=
        rounding * softmax * sizes[id] + 2.0L * (1.0L + sizes[id]) * std::numeric_limits<T>::min();
  }
  CHECK(close);
}

}  // namespace

TEST_CASE_TEMPLATE("cotangents of sorted values in kl: lone blocks, one that has most, and others",
                   T, float, double) {
  std::mt19937_64 random(116);
  for (const std::int64_t n : {1, 2, 3, 17, 1000, 32'768, 70'003}) {
    CAPTURE(n);
    for (const Mix mix : {Mix{0, 100}, Mix{0, 50}, Mix{100, 0}, Mix{97, 3}, Mix{90, 5}, Mix{80, 0},
                          Mix{60, 20}, Mix{45, 30}}) {
      for (const double where : {0.0, 0.5, 1.0}) {
        for (const double spread : {1.0, 200.0}) {
          const auto row = sorted_row_of<T>(n, mix, where, spread, random);
          std::vector<T> found(row.g.size()), shared(found);
          LongSortVjp<T> way;
          CHECK(way.log_kl(row.dense(found), 1));
          CHECK(way.log_kl(row.dense(shared), 3));
          CHECK(std::memcmp(found.data(), shared.data(), found.size() * sizeof(T)) == 0);
          check_sorted_cotangents(row, found);
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("ids of w that meet where those of z do not have a softmax in common", T, float,
                   double) {
  std::mt19937_64 random(118);
  for (const std::int64_t n : {2000, 70'003}) {
    auto row = sorted_row_of<T>(n, {0, 100}, 0.0, 1.0, random);
    row.w_ids[0] = row.w_ids[1];
    std::vector<T> found(row.g.size());
    LongSortVjp<T> way;
    CHECK(way.log_kl(row.dense(found), 1));
    check_sorted_cotangents(row, found);
  }
}

TEST_CASE_TEMPLATE("blocks of w that have not as many elements as those of z are refused", T, float,
                   double) {
  std::mt19937_64 random(117);
  const std::int64_t n = 5000;
  const auto honest = sorted_row_of<T>(n, {80, 10}, 0.5, 1.0, random);
  const auto size_of = [&](std::int32_t id) {
    return std::count(honest.z_ids.begin(), honest.z_ids.end(), id);
  };
  const auto place_of = [&](auto is_wanted) {
    std::size_t j = 0;
    while (!is_wanted(size_of(honest.w_ids[j]))) ++j;
    return j;
  };
  const std::size_t lone = place_of([](auto size) { return size == 1; });
  std::size_t other_lone = lone + 1;
  while (size_of(honest.w_ids[other_lone]) != 1) ++other_lone;
  const std::size_t few = place_of([](auto size) { return size == 3; });
  const std::size_t most = place_of([](auto size) { return size > 3; });
  std::vector<T> found(honest.g.size());
  LongSortVjp<T> way;
  REQUIRE(way.log_kl(honest.dense(found), 1));
  const auto refuses = [&](std::size_t j, std::int32_t id) {
    auto forged = honest;
    forged.w_ids[j] = id;
    return !way.log_kl(forged.dense(found), 1);
  };
  CHECK(refuses(lone, honest.w_ids[other_lone]));  // two for one
  CHECK(refuses(lone, honest.w_ids[most]));        // one too many, and none for one
  CHECK(refuses(most, honest.w_ids[few]));         // one too few
  CHECK(refuses(few, honest.w_ids[lone]));         // two for one
  CHECK(refuses(lone, static_cast<std::int32_t>(honest.w_ids[few] + 1)));  // where no block starts
  CHECK(
      refuses(few, static_cast<std::int32_t>(honest.w_ids[few] + 1)));  // one of three, alone there
}
