// Short rows, a thread each: their sort, their pooling, and how a tile lies in memory. Whole projections
// and linear maps of them are in test_parallel_project.cpp and test_parallel_derivatives.cpp.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "diffsort/parallel_row/short_rows/project.h"
#include "host_executor.h"
#include "pool_support.h"

using namespace diffsort;
using namespace diffsort::testing;

namespace {

// Column memory of one row of a tile; what belongs to other rows must not change.
template <class V>
class OneColumn {
 public:
  explicit OneColumn(std::int64_t n) : memory_(static_cast<std::size_t>(kTileRows * n), V{99}) {}

  Column<V> get() { return Column<V>(memory_.data()).of_row(kRow); }
  std::vector<V> values() {
    std::vector<V> row;
    for (std::size_t i = kRow; i < memory_.size(); i += kTileRows) row.push_back(memory_[i]);
    return row;
  }
  bool others_untouched() const {
    for (std::size_t i = 0; i < memory_.size(); ++i) {
      if (i % kTileRows != kRow && memory_[i] != V{99}) return false;
    }
    return true;
  }

 private:
  static constexpr int kRow = 13;
  std::vector<V> memory_;
};

// Values that agree in the leading bits of their keys, equal ones, and those at the ends.
template <class T>
std::vector<T> sortable(std::int64_t n, int kind, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  const T inf = std::numeric_limits<T>::infinity();
  std::vector<T> values;
  for (std::int64_t i = 0; i < n; ++i) {
    const auto x = static_cast<T>(normal(random));
    const T near = T(1) + static_cast<T>(random() % 6) * std::numeric_limits<T>::epsilon();
    const T special[] = {T(0),
                         -T(0),
                         inf,
                         -inf,
                         std::numeric_limits<T>::max(),
                         std::numeric_limits<T>::denorm_min()};
    values.push_back(kind == 0   ? x
                     : kind == 1 ? near
                     : kind == 2 ? static_cast<T>(random() % 4)
                     : kind == 3 ? special[random() % 6]
                     : kind == 4 ? -near
                                 : T(random() % 2 ? 1 : -1) * near);
  }
  return values;
}

template <class T>
void check_sort(const std::vector<T>& row, T sign) {
  const auto n = static_cast<std::int64_t>(row.size());
  std::vector<std::uint8_t> order(row.size());
  std::iota(order.begin(), order.end(), std::uint8_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](auto a, auto b) { return sign * row[a] > sign * row[b]; });
  OneColumn<T> values(n);
  OneColumn<std::uint8_t> index(n);
  CHECK(ShortSort<T>{row.data(), static_cast<int>(n), sign, values.get(), index.get()}.run());
  CHECK(index.values() == order);
  const std::vector<T> sorted = values.values();
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    CHECK(sorted[i] == sign * row[order[i]]);
    CHECK(!(sorted[i] == T(0) && std::signbit(sorted[i])));
  }
  CHECK(values.others_untouched());
  CHECK(index.others_untouched());
}

template <class T>
void check_sorts(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  for (std::int64_t n = 1; n <= kShortRow; ++n) {
    for (int kind = 0; kind < 6; ++kind) {
      for (const T sign : {T(1), T(-1)}) check_sort(sortable<T>(n, kind, random), sign);
    }
    std::vector<T> with_nan = sortable<T>(n, 0, random);
    with_nan[random() % with_nan.size()] = std::numeric_limits<T>::quiet_NaN();
    OneColumn<T> values(n);
    OneColumn<std::uint8_t> index(n);
    CHECK(!ShortSort<T>{with_nan.data(), int(n), T(1), values.get(), index.get()}.run());
  }
}

// The starts that a tile finds, from the ids that it writes.
template <Regularization R>
Starts tile_starts(const SortedCase& c, double shuffle_seed) {
  const std::int64_t n = c.n();
  std::vector<double> z = c.z, w = c.w;
  std::mt19937_64 random(static_cast<std::uint64_t>(shuffle_seed));
  std::shuffle(z.begin(), z.end(), random);
  std::shuffle(w.begin(), w.end(), random);
  std::vector<std::int32_t> ids(z.size());
  ProjectionRows<double> arrays{};
  arrays.rows = 1;
  arrays.n = n;
  arrays.z_sign = arrays.w_sign = 1.0;
  arrays.strength.value = c.strength;
  arrays.z = {z.data(), n};
  arrays.w = {w.data(), n};
  arrays.block_w = {ids.data(), n};
  HostExecutor().for_each_tile("project", ProjectTiles<double, R>(arrays));
  const std::set<std::int32_t> starts(ids.begin(), ids.end());
  return {starts.begin(), starts.end()};
}

}  // namespace

TEST_CASE("short rows: sorting") {
  check_sorts<float>(41);
  check_sorts<double>(42);
}

TEST_CASE("short rows: the partition is the sequential one") {
  CaseMaker maker(43);
  for_each_regularization([&](auto r) {
    constexpr Regularization R = decltype(r)::value;
    for (int family = 0; family < static_cast<int>(Family::count); ++family) {
      for (int k = 0; k < 400; ++k) {
        const SortedCase c = maker.make(static_cast<Family>(family), 1 + k % kShortRow);
        if (!has_projection<R>(c.strength, c.w.front(), c.w.back())) continue;
        CAPTURE(family);
        CAPTURE(c.n());
        const Starts starts = tile_starts<R>(c, k), expected = sequential_starts<R>(c);
        if (R == Regularization::l2 && is_exact(c)) {
          CHECK(starts == expected);
        } else if (starts != expected) {
          CHECK(differ_in_near_ties_only<R>(c, starts, expected));
        }
      }
    }
  });
}

TEST_CASE_TEMPLATE("short rows: a tile's elements are where its rows look for them", V, float,
                   std::int64_t) {
  HostTeam team;
  for (std::int64_t n = 1; n <= kShortRow; ++n) {
    for (const std::int64_t rows : {1, 7, 31, 32}) {
      for (const std::size_t displaced : {0, 1}) {  // displaced by one, nothing is aligned
        CAPTURE(n);
        CAPTURE(rows);
        const TileShape shape(rows, n);
        const auto size = static_cast<std::size_t>(rows * n);
        std::vector<V> array(displaced + size), back(displaced + size + 1, V(-1));
        std::iota(array.begin() + static_cast<std::ptrdiff_t>(displaced), array.end(), V(0));
        std::vector<V> memory(static_cast<std::size_t>(kTileRows * (n | 1)), V(-1));
        const V* const first = array.data() + displaced;
        V* const out = back.data() + displaced;
        const RowTile<V> tile(shape, memory.data());
        tile.load(team, {first, n});
        for (int r = 0; r < rows; ++r) {
          for (int i = 0; i < n; ++i) CHECK(tile.row(r)[i] == V(r * n + i));
        }
        tile.store(team, out);
        CHECK(std::equal(first, first + size, out));
        CHECK(back.back() == V(-1));
        tile.store_constant(team, out, V(7));
        CHECK(std::count(out, out + size, V(7)) == rows * n);
        CHECK(back.back() == V(-1));
        tile.load(team, {first, 0});  // one row for all
        for (int r = 0; r < rows; ++r) {
          for (int i = 0; i < n; ++i) CHECK(tile.row(r)[i] == V(i));
        }
      }
    }
  }
}
