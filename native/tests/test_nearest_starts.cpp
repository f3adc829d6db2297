// Blocks by the starts next to each word, against a search element by element.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "diffsort/parallel_row/partition/nearest_starts.h"
#include "diffsort/parallel_row/rows/row_parts.h"
#include "diffsort/parallel_row/team/team.h"

using namespace diffsort;

namespace {

// Bit i is set where a block starts; the first element starts one.
struct Starts {
  std::int32_t n;
  std::vector<std::uint32_t> bits;

  Starts(std::int32_t n, double share, std::mt19937_64& random)
      : n(n), bits(static_cast<std::size_t>((n + 31) / 32)) {
    std::bernoulli_distribution starts(share);
    for (std::int32_t i = 0; i < n; ++i) {
      if (i == 0 || starts(random)) bits[std::size_t(i / 32)] |= std::uint32_t{1} << (i % 32);
    }
  }

  bool is_start(std::int32_t i) const { return bits[std::size_t(i / 32)] >> (i % 32) & 1; }
  std::int32_t last_before(std::int32_t b) const {
    while (!is_start(--b)) {
    }
    return b;
  }
  std::int32_t first_from(std::int32_t b) const {
    while (b < n && !is_start(b)) ++b;
    return b;
  }
};

}  // namespace

TEST_CASE("nearest starts: blocks of rows and of their tiles") {
  std::mt19937_64 random(71);
  for (const std::int32_t n : {1, 31, 32, 33, 64, 100, 1000, 5000}) {
    for (const double share : {0.0, 0.001, 0.05, 0.5, 1.0}) {
      const Starts starts(n, share, random);
      for (const std::int32_t length : {64, 4096}) {
        for (std::int32_t first = 0; first < n; first += length) {
          std::vector<std::int32_t> before(128, -1), behind(128, -1);
          const std::int32_t end = std::min(n, first + length);
          const NearestStarts nearest{before.data(), behind.data(), starts.bits.data(), first, end};
          HostTeam team;
          nearest.find(
              team, n, [&](std::int32_t b) { return starts.last_before(b); },
              [&](std::int32_t b) { return starts.first_from(b); });
          for (std::int32_t i = first; i < end; ++i) {
            const Block block = nearest.block_of(i);
            CHECK(block.start == starts.last_before(i + 1));
            CHECK(block.end == starts.first_from(i + 1));
            CHECK(nearest.start_of(i) == block.start);
          }
        }
      }
    }
  }
}

TEST_CASE("nearest starts: the last tile of the longest rows") {
  for (const std::int32_t n : {INT32_MAX - 2, INT32_MAX - 31, INT32_MAX - 63}) {
    const auto first = static_cast<std::int32_t>((n - 1) / kTile * kTile);
    std::vector<std::int32_t> before(128, -1), behind(128, -1);
    const NearestStarts nearest{before.data(), behind.data(), nullptr, first, n};
    HostTeam team;
    nearest.find(team, n, [](std::int32_t b) { return b - 1; }, [](std::int32_t b) { return b; });
    const auto last = static_cast<std::size_t>((n - 1 - first) / 32);
    CHECK(before[0] == first - 1);
    CHECK(before[last] == (n - 1) / 32 * 32 - 1);
    CHECK(behind[last] == n);
    CHECK(behind[last - 1] == (n - 1) / 32 * 32);
  }
}
