// Sorts of the rows of a chunk, run on the CPU.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include "diffsort/parallel_row/long_rows/sort.h"
#include "host_executor.h"
#include "spmd_team.h"

using namespace diffsort;
using namespace diffsort::testing;

namespace {

struct Unsorted {
  std::int64_t rows, n;
  int bits;
  std::vector<std::uint32_t> keys;
  std::vector<std::uint32_t> settled;
};

// Keys where they are, placed by their columns.
struct KeysOfRows {
  const std::uint32_t* keys;
  std::int64_t n;

  std::uint32_t key(std::int64_t r, std::int64_t i) const { return keys[r * n + i]; }
  KeyedPlace operator()(std::int64_t r, std::int64_t i) const {
    return {key(r, i), static_cast<std::uint32_t>(i)};
  }
};

// Memory of exactly the sizes that a sort asks for. Places of the spare lie apart, as in an output of
// wider elements.
struct SortMemory {
  static constexpr std::uint32_t kUntouched = 0xabababab;

  std::vector<std::uint32_t> keys, spare_keys, places, spare_places, counts;

  SortMemory(std::int64_t rows, std::int64_t n, std::int64_t counts)
      : keys(static_cast<std::size_t>(rows * n), kUntouched),
        spare_keys(keys),
        places(keys.size(), kUntouched),
        spare_places(2 * keys.size(), kUntouched),
        counts(static_cast<std::size_t>(counts), kUntouched) {}
};

template <class V>
bool all_of_row(const std::vector<V>& values, std::int64_t r, std::int64_t n, V value) {
  const auto first = values.begin() + r * n;
  return std::all_of(first, first + n, [=](V x) { return x == value; });
}

template <int kDigitBits, class Executor>
void check_sort(Executor& executor, const Unsorted& x) {
  CAPTURE(x.rows);
  CAPTURE(x.n);
  const RowParts parts(x.rows, x.n);
  SortMemory memory(x.rows, x.n, digit_counts(x.rows, parts, kDigitBits));
  sort_rows<kDigitBits>(executor, x.rows, parts, x.settled.data(), KeysOfRows{x.keys.data(), x.n},
                        x.bits, {memory.keys.data(), memory.places.data(), x.n},
                        {memory.spare_keys.data(), memory.spare_places.data(), 2 * x.n},
                        memory.counts.data());
  for (std::int64_t r = 0; r < x.rows; ++r) {
    REQUIRE(all_of_row(memory.spare_places, 2 * r + 1, x.n, SortMemory::kUntouched));
    if (x.settled[static_cast<std::size_t>(r)] != 0) {
      REQUIRE(all_of_row(memory.keys, r, x.n, SortMemory::kUntouched));
      REQUIRE(all_of_row(memory.spare_keys, r, x.n, SortMemory::kUntouched));
      REQUIRE(all_of_row(memory.places, r, x.n, SortMemory::kUntouched));
      REQUIRE(all_of_row(memory.spare_places, 2 * r, x.n, SortMemory::kUntouched));
      const std::int64_t of_row = parts.count << kDigitBits;
      REQUIRE(all_of_row(memory.counts, r, of_row, SortMemory::kUntouched));
      continue;
    }
    const std::uint32_t* const keys = x.keys.data() + r * x.n;
    std::vector<std::uint32_t> order(static_cast<std::size_t>(x.n));
    std::iota(order.begin(), order.end(), 0u);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return keys[a] < keys[b]; });
    bool same = true;
    for (std::int64_t i = 0; i < x.n; ++i) {
      const auto k = static_cast<std::size_t>(r * x.n + i);
      same &= memory.places[k] == order[static_cast<std::size_t>(i)];
      same &= memory.keys[k] == keys[memory.places[k]];
    }
    REQUIRE(same);
  }
}

// Random rows, and rows of few keys, of one key, of the largest one, and in order and against it.
Unsorted random_rows(std::int64_t rows, std::int64_t n, int bits, std::mt19937_64& random) {
  Unsorted x{rows, n, bits, {}, {}};
  const auto largest = static_cast<std::uint32_t>((std::uint64_t{1} << bits) - 1);
  for (std::int64_t r = 0; r < rows; ++r) {
    const int kind = static_cast<int>(random() % 6);
    for (std::int64_t i = 0; i < n; ++i) {
      const std::uint32_t any = static_cast<std::uint32_t>(random()) & largest;
      const std::uint32_t at = static_cast<std::uint32_t>(i) & largest;
      x.keys.push_back(kind == 0   ? any
                       : kind == 1 ? any % 3
                       : kind == 2 ? largest / 3
                       : kind == 3 ? largest
                       : kind == 4 ? at
                                   : largest - at);
    }
    x.settled.push_back(random() % 4 == 0 ? 1 : 0);
  }
  return x;
}

constexpr HostTeam::Order kOrders[] = {HostTeam::Order::forward, HostTeam::Order::backward,
                                       HostTeam::Order::shuffled};

}  // namespace

TEST_CASE("rows are cut into parts of whole tiles") {
  for (const std::int64_t rows : {1, 2, 5, 128, 1023, 1024, 5000}) {
    for (const std::int64_t n : {1, 4095, 4096, 4097, 8193, 100'000, 10'000'000, 2'147'483'645}) {
      const RowParts parts(rows, n);
      CHECK(parts.length % kTile == 0);
      CHECK(parts.count <= std::max<std::int64_t>(1, std::min(kMostParts, kTeamsOfDevice / rows)));
      CHECK((parts.count - 1) * parts.length < n);
      CHECK(parts.count * parts.length >= n);
      const Part last(parts, rows * parts.count - 1);
      CHECK(last.row == rows - 1);
      CHECK(last.last == n);
      CHECK(last.size() > 0);
    }
  }
}

TEST_CASE("sorted rows are in order, stable, and settled ones are left alone") {
  std::mt19937_64 random(51);
  int turn = 0;
  for (const std::int64_t n : {1, 2, 31, 300, 4095, 4096, 4097, 8191, 8192, 8193, 12289, 50'000}) {
    for (const std::int64_t rows : {1, 3, 7}) {
      HostExecutor executor;
      executor.order = kOrders[turn++ % 3];
      check_sort<8>(executor, random_rows(rows, n, 32, random));
      check_sort<9>(executor, random_rows(rows, n, 17, random));
    }
  }
}

TEST_CASE("sorts of as many digits as keys have") {
  std::mt19937_64 random(52);
  HostExecutor executor;
  for (const int bits : {0, 1, 8, 9, 10, 18, 19, 27, 31}) {
    check_sort<9>(executor, random_rows(5, 5000, bits, random));
  }
}

TEST_CASE("more rows than teams have a part each") {
  std::mt19937_64 random(53);
  HostExecutor executor;
  check_sort<8>(executor, random_rows(kTeamsOfDevice + 1, 20, 32, random));
}

TEST_CASE("threads sort rows") {
  std::mt19937_64 random(54);
  for (const int threads : {3, 8}) {
    SpmdExecutor executor{threads};
    for (const std::int64_t n : {20, 4097, 9000}) {
      check_sort<8>(executor, random_rows(4, n, 32, random));
    }
  }
}
