#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "diffsort/parallel_row/long_rows/bridge.h"
#include "diffsort/parallel_row/team/team.h"

using namespace diffsort;

namespace {

// A half of which it is known which blocks join, in the order of their distance from the centre.
struct KnownHalf {
  std::vector<std::int32_t> ends;  // of blocks, as distances
  std::vector<bool> does_join;

  std::size_t index(Block block) const {
    return static_cast<std::size_t>(std::find(ends.begin(), ends.end(), block.end) - ends.begin());
  }
  Block block(std::int32_t distance) const {
    const auto end = std::upper_bound(ends.begin(), ends.end(), distance);
    return {end == ends.begin() ? 0 : *std::prev(end), *end};
  }
  std::int32_t near(Block block) const { return block.start; }
  std::int32_t far(Block block) const { return block.end; }
  bool joins(Block block) const { return does_join[index(block)]; }
};

KnownHalf random_half(std::int32_t longest, std::mt19937_64& random) {
  std::uniform_int_distribution<std::int32_t> length(1, longest), blocks(1, 300);
  KnownHalf half;
  std::int32_t end = 0;
  for (std::int32_t left = blocks(random); left > 0; --left) {
    half.ends.push_back(end += length(random));
    half.does_join.push_back(true);
  }
  return half;
}

std::int32_t reach_of(const KnownHalf& half) {
  return reach(SerialLanes{}, half, half.ends.front(), half.ends.back());
}

}  // namespace

TEST_CASE("the reach of a bridge is where blocks cease to join") {
  std::mt19937_64 random(1);
  for (int repeat = 0; repeat < 2000; ++repeat) {
    KnownHalf half = random_half(repeat % 2 == 0 ? 1 : 50, random);
    std::uniform_int_distribution<std::size_t> any(1, half.ends.size());
    const std::size_t joining = any(random);
    for (std::size_t k = joining; k < half.ends.size(); ++k) half.does_join[k] = false;
    REQUIRE(reach_of(half) == half.ends[joining - 1]);
  }
}

// Rounding may let blocks join that lie beyond others that do not. No search that looks at a few
// blocks can tell which of the blocks between are affected, but one that joins must have been seen
// next to one that does not, and none beyond one that was seen not to join.
TEST_CASE("the reach of a bridge ends between a block that joins and one that does not") {
  std::mt19937_64 random(2);
  std::bernoulli_distribution joins(0.7);
  for (int repeat = 0; repeat < 2000; ++repeat) {
    KnownHalf half = random_half(repeat % 2 == 0 ? 1 : 50, random);
    for (std::size_t k = 1; k < half.ends.size(); ++k) half.does_join[k] = joins(random);
    const std::int32_t found = reach_of(half);
    const auto end = std::find(half.ends.begin(), half.ends.end(), found);
    REQUIRE(end != half.ends.end());
    const auto k = static_cast<std::size_t>(end - half.ends.begin());
    REQUIRE(half.does_join[k]);
    REQUIRE((k + 1 == half.ends.size() || !half.does_join[k + 1]));
  }
}

TEST_CASE("the block next to the bridge that does not join stops it") {
  KnownHalf half{{1, 2, 3, 4, 5, 6, 7, 8, 9},
                 {true, true, false, true, true, true, true, true, true}};
  REQUIRE(reach_of(half) == 2);
}
