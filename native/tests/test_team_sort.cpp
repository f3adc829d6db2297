// Keys that a team sorts by bits, by cells or by lanes, against the order that a stable sort finds.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "diffsort/parallel_row/team/team.h"
#include "diffsort/parallel_row/team_rows/sort.h"
#include "spmd_team.h"
#include "spmd_warps.h"
#include "support.h"

using namespace diffsort;
using namespace diffsort::testing;

namespace {

template <class T>
struct SortCase {
  using Bits = typename SortKey<T>::Bits;

  std::vector<Bits> keys;
  std::vector<std::uint16_t> index;
  std::vector<std::uint32_t> words;
  std::uint32_t problem = 0;
  std::vector<Bits> sorted;

  explicit SortCase(const std::vector<T>& values)
      : index(values.size()),
        words(static_cast<std::size_t>(room_to_sort(static_cast<std::int64_t>(values.size())))),
        sorted(values.size()) {
    for (const T value : values) keys.push_back(to_descending_key(value));
  }

  int n() const { return static_cast<int>(keys.size()); }
  SortMemory<Bits> memory() { return {words.data(), &problem, sorted.data()}; }
  T value(int i) const { return from_descending_key<T>(keys[static_cast<std::size_t>(i)]); }

  // That the index is the stable order of `before`, and the keys are in it.
  bool is_sorted(const SortCase& before) const {
    std::vector<std::uint16_t> order(keys.size());
    std::iota(order.begin(), order.end(), std::uint16_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::uint16_t a, std::uint16_t b) {
      return before.keys[a] < before.keys[b];
    });
    std::vector<Bits> expected;
    for (const std::uint16_t i : order) expected.push_back(before.keys[i]);
    return index == order && keys == expected;
  }
};

template <class T>
std::vector<T> as(const Vector& row) {
  return std::vector<T>(row.begin(), row.end());
}

// By the way that sort_keys chooses.
template <class T>
bool sorts(const std::vector<T>& values, HostTeam::Order order) {
  SortCase<T> c(values);
  const SortCase<T> before = c;
  HostTeam team(order);
  const auto spread = spread_of(read_values(team, c.n(), [&](int i) { return c.value(i); }));
  sort_keys(team, c.n(), spread, c.keys.data(), c.index.data(), c.memory());
  return c.is_sorted(before);
}

// Whether sort(team, c, cells) sorts the values by cells_of(spread, n); if not, nothing is changed.
template <class CellsOf, class Sort>
bool sorts_with(const std::vector<float>& values, const CellsOf& cells_of, const Sort& sort) {
  SortCase<float> c(values);
  const SortCase<float> before = c;
  HostTeam team;
  const auto spread = spread_of(read_values(team, c.n(), [&](int i) { return c.value(i); }));
  const SortCells cells = cells_of(spread, c.n());
  if (!cells.serve()) return false;
  if (!sort(team, c, cells)) {
    CHECK(c.keys == before.keys);
    return false;
  }
  CHECK(c.is_sorted(before));
  return true;
}

bool sorts_by_cells(const std::vector<float>& values) {
  return sorts_with(
      values, SortCells::of_team, [](HostTeam& team, auto& c, const SortCells& cells) {
        return sort_by_cells(team, c.n(), cells, c.keys.data(), c.index.data(), c.memory());
      });
}

bool sorts_by_lanes(const std::vector<float>& values) {
  return sorts_with(
      values, [](const auto& spread, int) { return SortCells::of_lanes(spread); },
      [](HostTeam& team, auto& c, const SortCells& cells) {
        return sort_by_lanes(team, c.n(), cells, c.keys.data(), c.index.data(), c.memory());
      });
}

std::vector<float> drawn(int n, std::mt19937_64& random) {
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(n));
  for (float& value : values) value = normal(random);
  return values;
}

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kMax = std::numeric_limits<float>::max();

}  // namespace

TEST_CASE("sort of a team: every family, of every length around the limits") {
  std::mt19937_64 random(61);
  for (const std::int64_t n : {1, 2, 3, 9, 33, 127, 128, 129, 500, 2048, 2049, 8192}) {
    for (const Vector& row : families(n, random)) {
      for (const auto order : {HostTeam::Order::forward, HostTeam::Order::backward}) {
        CHECK(sorts(as<float>(row), order));
        CHECK(sorts(as<double>(row), order));
      }
    }
  }
}

TEST_CASE("sort of a team: cells serve for values that are drawn, and for their multiples") {
  std::mt19937_64 random(62);
  for (const int n : {2, 33, 128, 129, 1000, 2048, 2049, 8192}) {
    for (const float scale : {1.0f, 1e-30f, 1e30f}) {
      auto values = drawn(n, random);
      for (float& value : values) value *= scale;
      CHECK(sorts_by_cells(values));
    }
  }
}

TEST_CASE("sort of a team: values that share a cell are put in order, equal ones as they were") {
  std::mt19937_64 random(63);
  auto values = drawn(1000, random);
  for (std::size_t i = 0; i < 40; ++i) {
    // Up to eight that are next to equal, and some that are.
    const float value = values[i];
    for (std::size_t k = 1; k < 8; ++k) {
      values[i + 40 * k] = k % 3 == 0 ? value : value * (1.0f + 1e-7f * static_cast<float>(7 - k));
    }
  }
  std::shuffle(values.begin(), values.end(), random);
  CHECK(sorts_by_cells(values));
}

TEST_CASE("sort of a team: values that cells do not serve for are sorted by bits") {
  std::mt19937_64 random(64);
  const auto with = [&](std::vector<float> some) {
    auto values = drawn(700, random);
    std::copy(some.begin(), some.end(), values.begin() + 300);
    return values;
  };
  auto tied = drawn(700, random);
  for (float& value : tied) value = std::floor(4.0f * value);
  const std::vector<float> rows[] = {with({1e30f}),
                                     with({kInf}),
                                     with({-kInf, kInf}),
                                     with({kNan, kInf, 1.0f, kNan}),
                                     with({kMax, -kMax}),
                                     std::vector<float>(700, 2.5f),
                                     tied,
                                     std::vector<float>(700, 1e-45f)};
  for (const auto& values : rows) {
    CHECK_FALSE(sorts_by_cells(values));
    CHECK(sorts(values, HostTeam::Order::shuffled));
  }
  // As many as may share a cell, and one more.
  CHECK(sorts_by_cells(with(std::vector<float>(8, 9.0f))));
  CHECK_FALSE(sorts_by_cells(with(std::vector<float>(9, 9.0f))));
  CHECK(sorts(with(std::vector<float>(9, 9.0f)), HostTeam::Order::shuffled));
  // Denormal numbers have a range that nothing can be divided by.
  std::vector<float> tiny(50);
  for (std::size_t i = 0; i < tiny.size(); ++i) tiny[i] = 1e-45f * static_cast<float>(i * 7 % 50);
  CHECK_FALSE(sorts_by_cells(tiny));
  CHECK(sorts(tiny, HostTeam::Order::shuffled));
}

TEST_CASE(
    "sort of a team: by lanes, with ties, unless values next to equal are in the wrong order") {
  std::mt19937_64 random(66);
  for (const int n : {1, 2, 3, 4, 5, 31, 32, 33, 64, 100, 127, 128}) {
    for (const float scale : {1.0f, 1e-30f, 1e30f}) {
      auto values = drawn(n, random);
      for (float& value : values) value *= scale;
      CHECK(sorts_by_lanes(values) == (n > 1));  // a single value has no range
      for (float& value : values) value = std::floor(3.0f * value / scale);
      values.back() = 1000.0f;
      CHECK(sorts_by_lanes(values) == (n > 1));
    }
  }
  // In one cell of 2^24: as they have to be, and the other way round.
  const float above = std::nextafter(1.0f, 2.0f);
  CHECK(sorts_by_lanes({5.0f, above, 1.0f, -5.0f}));
  CHECK_FALSE(sorts_by_lanes({5.0f, 1.0f, above, -5.0f}));
  CHECK(sorts<float>({5.0f, 1.0f, above, -5.0f}, HostTeam::Order::shuffled));
  // Where the number of the last cell is rounded up.
  auto values = drawn(128, random);
  for (float& value : values) value = std::abs(value) / 8.0f;
  values[3] = 0x1.bccf18p+0f;
  values[70] = 0.0f;
  HostTeam team;
  const auto spread =
      spread_of(read_values(team, 128, [&](int i) { return values[std::size_t(i)]; }));
  const SortCells cells = SortCells::of_lanes(spread);
  CHECK(cells.cell_of(cells.word(0.0f, 70)) == std::uint32_t{1} << 24);
  CHECK(sorts_by_lanes(values));
}

TEST_CASE("sort of a team: by lanes that are threads") {
  std::mt19937_64 random(67);
  for (const bool in_order : {true, false}) {
    auto values = drawn(100, random);
    if (!in_order) values[8] = std::nextafter(values[7], kInf);
    SortCase<float> c(values);
    const SortCase<float> before = c;
    std::vector<int> sorted(32);
    run_warps(1, [&](WarpsTeam& team) {
      const auto spread = spread_of(read_values(team, c.n(), [&](int i) { return c.value(i); }));
      const bool done = sort_by_lanes(team, c.n(), SortCells::of_lanes(spread), c.keys.data(),
                                      c.index.data(), c.memory());
      team.for_each(32, [&](std::int64_t lane) { sorted[static_cast<std::size_t>(lane)] = done; });
    });
    CHECK(sorted == std::vector<int>(32, in_order));
    if (in_order) CHECK(c.is_sorted(before));
    if (!in_order) CHECK(c.keys == before.keys);
  }
}

TEST_CASE("sort of a team: by threads") {
  std::mt19937_64 random(65);
  for (const int n : {100, 3000}) {
    const auto values = drawn(n, random);
    SortCase<float> c(values);
    const SortCase<float> before = c;
    run_spmd(4, [&](SpmdTeam& team) {
      const auto spread = spread_of(read_values(team, c.n(), [&](int i) { return c.value(i); }));
      sort_keys(team, c.n(), spread, c.keys.data(), c.index.data(), c.memory());
    });
    CHECK(c.is_sorted(before));
  }
}
