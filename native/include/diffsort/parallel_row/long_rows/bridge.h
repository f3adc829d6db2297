// Joins two neighbouring solved parts of a row, halves L and R.
//
// Block values decrease within each half. If they decrease across the centre too, nothing changes.
// Otherwise one block forms, the bridge: it takes the last blocks of L and the first of R. With
//     F(t) = sum of S - t W over the blocks of L worth t at most and those of R worth t at least,
// which decreases in t, its value is the root of F. So
//     a block of L worth t joins if F(t) >= 0 without it: if the rest of what it would join, the
//     blocks of L behind it and those of R worth t at least, is worth t at least;
//     a block of R then joins if it is worth at least all of the bridge before it.
// Ties join. Both hold for the blocks nearest to the centre up to some block, which is searched for
// by 32 lanes at once. Comparing with the rest instead of the total matters: where the block
// outweighs the rest, the total would tie with it by rounding. Rounding may also let distant blocks
// join where nearer ones do not: what counts is the run from the centre, in whole blocks.
//
// Cost for halves of m elements: at most log32(m) + 2 rounds on each side, in each of which a lane
// searches R in O(log m) steps and sums a run of O(log m) nodes.
#pragma once

#include <cstdint>

#include "diffsort/arithmetic.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/partition/partition.h"

namespace diffsort {

// [first, centre) and [centre, last).
struct Halves {
  std::int32_t first, centre, last;
};

// Distances count elements from the centre: a block reaches from `near` on to before `far`.
template <class Partition>
struct LeftHalf {
  const Partition& partition;
  Halves halves;

  DIFFSORT_HD Block block(std::int32_t distance) const {
    return partition.block_of(halves.centre - 1 - distance, halves.centre);
  }
  DIFFSORT_HD std::int32_t near(Block block) const { return halves.centre - block.end; }
  DIFFSORT_HD std::int32_t far(Block block) const { return halves.centre - block.start; }

  DIFFSORT_HD bool joins(Block block) const {
    const auto sums = partition.sums_of(block);
    const Block rest{block.end, end_of_worthy(block, sums)};
    return rest.end > halves.centre &&
           partition.pools(block, sums, rest, partition.sums_of_run(rest));
  }

 private:
  // The end of the last block of R that is worth at least as much: a search in steps that double
  // as long as they stay within, then by halves.
  template <class Sums>
  DIFFSORT_HD std::int32_t end_of_worthy(Block block, const Sums& sums) const {
    std::int32_t worthy = halves.centre, end = halves.last, step = 1;
    while (worthy < end) {
      const std::int32_t left = end - worthy;
      const std::int32_t middle = worthy + (step < left ? step : left / 2);
      const Block other = partition.block_of(middle, halves.last);
      if (partition.pools(block, sums, other, partition.sums_of(other))) {
        worthy = other.end;
        step *= 2;
      } else {
        end = other.start;
        step = left;
      }
    }
    return worthy;
  }
};

template <class Partition>
struct RightHalf {
  const Partition& partition;
  Halves halves;
  std::int32_t bridge_start;

  DIFFSORT_HD Block block(std::int32_t distance) const {
    return partition.block_of(halves.centre + distance, halves.last);
  }
  DIFFSORT_HD std::int32_t near(Block block) const { return block.start - halves.centre; }
  DIFFSORT_HD std::int32_t far(Block block) const { return block.end - halves.centre; }

  DIFFSORT_HD bool joins(Block block) const {
    const Block bridge{bridge_start, block.start};
    return partition.pools(bridge, partition.sums_of_run(bridge), block, partition.sums_of(block));
  }
};

// How far from the centre blocks join: those nearer than `joined` do, none from `limit` on does.
// The first round probes at distances that double, since bridges are short as a rule.
template <class Lanes, class Half>
DIFFSORT_HD std::int32_t reach(const Lanes& lanes, const Half& half, std::int32_t joined,
                               std::int32_t limit) {
  for (bool doubling = true; joined < limit; doubling = false) {
    const std::int64_t left = limit - joined;
    const auto probe = [=](int lane) {
      const std::int64_t power = std::int64_t{1} << lane;
      const std::int64_t ahead =
          doubling ? (power < left ? power : left) - 1 : ((lane + 1) * left - 1) / 32;
      return half.block(joined + static_cast<std::int32_t>(ahead));
    };
    const std::uint32_t stays = lanes.ballot([&](int lane) { return !half.joins(probe(lane)); });
    const int count = stays == 0 ? 32 : lowest_bit(stays);
    if (count < 32) limit = half.near(probe(count));
    if (count > 0) joined = half.far(probe(count - 1));
  }
  return joined;
}

// The two blocks at the centre.
template <class Partition>
DIFFSORT_HD Block block_before(const Partition& partition, Halves halves) {
  return {partition.starts.prev(halves.centre - 1), halves.centre};
}
template <class Partition>
DIFFSORT_HD Block block_behind(const Partition& partition, Halves halves) {
  return {halves.centre, partition.starts.next(halves.centre + 1, halves.last)};
}

template <class Partition>
DIFFSORT_HD bool need_bridge(const Partition& partition, Halves halves) {
  const Block left = block_before(partition, halves), right = block_behind(partition, halves);
  return partition.pools(left, partition.sums_of(left), right, partition.sums_of(right));
}

// Builds the bridge that is needed, by searches that lanes share.
template <class Lanes, class Partition>
DIFFSORT_HD void build_bridge(const Lanes& lanes, const Partition& partition, Halves halves) {
  Block bridge{block_before(partition, halves).start, block_behind(partition, halves).end};
  const LeftHalf<Partition> left{partition, halves};
  bridge.start = halves.centre -
                 reach(lanes, left, halves.centre - bridge.start, halves.centre - halves.first);
  const RightHalf<Partition> right{partition, halves, bridge.start};
  bridge.end =
      halves.centre + reach(lanes, right, bridge.end - halves.centre, halves.last - halves.centre);
  const auto sums = partition.sums_of_run(bridge);
  lanes.ballot([](int) { return true; });  // all have read what is written now
  lanes.ballot([&](int lane) {
    partition.starts.clear_between(lane, bridge.start, bridge.end);
    if (lane == 0) partition.keep(bridge, sums);
    return true;
  });
}

}  // namespace diffsort
