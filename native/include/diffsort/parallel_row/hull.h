// The partition of a part of an l2 row into blocks, by prefix sums in fixed point.
//
// With Y_i the sum of y = z - strength w over the first i elements, blocks end where the least
// concave majorant of the points (i, Y_i) has its corners. A corner b between corners a and c goes if
// it does not lie above the line from a to c, that is if the block from a to b is worth no more than
// that from b to c. Integers compare exactly, so corners may go in any order, many at once: the same
// ones are left in the end. Numbers are kept of elements only, and nothing is added up twice.
//
//     sums      Y in multiples of a power of two, so small that 61 bits suffice
//     pairs     corners that go when each element is a block by itself
//     rounds    corners next to one that went are looked at again
//     growth    what is left after a few rounds is as a rule one block that grows by an element a
//               round: 32 lanes look at its next 32 corners at a time
//
// Means are off by half a unit at most, beside the rounding of y. HullPoints admits rows where a unit is
// next to nothing beside the range of w. That is for ranks and sorted values, where z or w is rho;
// where neither is, elements far from all others would hide how near these are, and pool.h
// serves, as it does float64.
//
// Cost: O(n) work as a rule. Scratch: 8.3 bytes per element.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "diffsort/host_device.h"
#include "diffsort/parallel_row/arena.h"
#include "diffsort/parallel_row/bit_words.h"
#include "diffsort/parallel_row/partition.h"
#include "diffsort/parallel_row/start_bits.h"

namespace diffsort {

// Which arrays have rows for this.
template <class T, Regularization R>
constexpr bool kHasHull = R == Regularization::l2 && std::is_same_v<T, float>;

// A team's memory for a part of n elements; positions are offsets from its first.
struct HullMemory {
  std::int64_t* sums;       // Y_0 to Y_n, in units
  std::uint32_t* bits;      // the corners, of which each is the start of a block
  std::uint32_t* suspects;  // those that are to be looked at

  DIFFSORT_HD static HullMemory of(Arena& arena, std::int64_t n, std::uint32_t* bits) {
    HullMemory memory{};
    memory.sums = arena.take<std::int64_t>(n + 1);
    memory.bits = bits;
    memory.suspects = arena.take<std::uint32_t>((n + 31) / 32);
    return memory;
  }
};

// The y of a part as multiples of `unit`, and results from their means. Isotonic regression enlarges no
// error: values that are off by half a unit at most give means that are off by no more.
struct HullPoints {
  std::int64_t first;
  double z_first, w_first, unit, per_unit, per_strength;

  HullPoints() = default;

  // Of the n elements of a row from `first` on.
  template <class Row>
  DIFFSORT_HD HullPoints(const Row& row, std::int64_t first, std::int64_t n)
      : first(first),
        z_first(row.z(first)),
        w_first(row.w(first)),
        unit(0.0),
        per_unit(0.0),
        per_strength(0.0) {
    const double z_range = z_first - row.z(first + n - 1);
    const double w_range = row.strength * (w_first - row.w(first + n - 1));
    const double size = count_to_double(n < kShortest ? kShortest : n), range = z_range + w_range;
    // Neither if a range is not finite, or at strength 0.
    if (!row.units.of_z || !(w_range > 0.0) || !(size * size * range <= kFinest * w_range)) return;
    int exponent;
    std::frexp(size * range, &exponent);
    unit = std::ldexp(1.0, exponent - kBits);
    per_unit = std::ldexp(1.0, kBits - exponent);
    per_strength = 1.0 / row.strength;
  }

  DIFFSORT_HD bool fits() const { return unit > 0.0; }

  // Of element `first` + i.
  template <class Row>
  DIFFSORT_HD std::int64_t y(const Row& row, std::int32_t i) const {
    const double y = (row.z(first + i) - z_first) - row.strength * (row.w(first + i) - w_first);
    return round_to_integer(y * per_unit);
  }

  // The value of element `first` + i in a block of `size` elements whose y have this sum.
  template <class Row>
  DIFFSORT_HD double result(const Row& row, std::int32_t i, std::int64_t sum,
                            std::int32_t size) const {
    const double mean = plain_quotient(static_cast<double>(sum) * unit, count_to_double(size));
    return w_first + ((row.z(first + i) - z_first) - mean) * per_strength;
  }

  // What the sum of a block's y is relative to its first element (BlockSums).
  template <class Row>
  DIFFSORT_HD double sum_from_first(const Row& row, Block block, std::int64_t sum) const {
    return static_cast<double>(sum - block.size() * y(row, block.start)) * unit;
  }

 private:
  static constexpr int kBits = 61;
  // In shorter tiles doubles round coarser than units.
  static constexpr std::int64_t kShortest = 32;
  // n times a unit, at most n (z's range + w's) / 2^60, is at most 2^-26 of w's range.
  static constexpr double kFinest = 17179869184.0;  // 2^34
};

class Hull {
 public:
  DIFFSORT_HD Hull(const HullMemory& memory, std::int64_t size)
      : m_(memory), size_(static_cast<std::int32_t>(size)) {}

  template <class Team, class Value>
  DIFFSORT_HD void run(Team& team, const Value& value) const {
    const int words = (size_ + 31) / 32;
    team.prefix_sums(size_, value, m_.sums);
    team.for_each_lanes(words, [&](const auto& lanes, int k) { find_pairs(lanes, k); });
    team.for_each(words, [&](int k) { suspect_pairs(k); });
    DIFFSORT_ROLLED
    for (int round = 0; round < kRounds; ++round) {
      team.for_each_lanes(words, [&](const auto& lanes, int k) { look_again(lanes, k); });
    }
    team.for_each_lanes(1, [&](const auto& lanes, int) { grow_blocks(lanes); });
  }

  DIFFSORT_HD bool is_corner(std::int32_t i) const {
    return i == size_ || (load_bits(m_.bits + i / 32) >> (i % 32) & 1) != 0;
  }
  // The block that starts at i, or nothing where none does.
  DIFFSORT_HD Block block_from(std::int32_t i) const { return {i, is_corner(i) ? behind(i) : i}; }
  DIFFSORT_HD std::int64_t sum(Block block) const {
    return m_.sums[block.end] - m_.sums[block.start];
  }

 protected:  // for a test that goes through steps of threads one by one
  static constexpr int kRounds = 4;

  // Whether the corner b between a and c goes.
  DIFFSORT_HD bool goes(std::int32_t a, std::int32_t b, std::int32_t c) const {
    const std::int64_t left = m_.sums[b] - m_.sums[a], right = m_.sums[c] - m_.sums[b];
    // left (c - b) <= right (b - a), in 96 bits.
    const std::int64_t before = b - a, behind = c - b;
    const std::int64_t low_left = (left & kLow) * behind, low_right = (right & kLow) * before;
    const std::int64_t high_left = (left >> 32) * behind + (low_left >> 32);
    const std::int64_t high_right = (right >> 32) * before + (low_right >> 32);
    return high_left != high_right ? high_left < high_right
                                   : (low_left & kLow) <= (low_right & kLow);
  }

  // The corner before b, which is not the first, and the one behind.
  DIFFSORT_HD std::int32_t before(std::int32_t b) const {
    std::int32_t k = (b - 1) / 32;
    std::uint32_t found = load_bits(m_.bits + k) & (~std::uint32_t{0} >> (31 - (b - 1) % 32));
    DIFFSORT_ROLLED
    while (found == 0) found = load_bits(m_.bits + --k);  // the first element is a corner
    return 32 * k + highest_bit(found);
  }
  DIFFSORT_HD std::int32_t behind(std::int32_t b) const {
    const std::int32_t words = (size_ + 31) / 32;
    std::int32_t k = b / 32;
    std::uint32_t found = load_bits(m_.bits + k) & (~std::uint32_t{1} << (b % 32));
    DIFFSORT_ROLLED
    while (found == 0 && ++k < words) found = load_bits(m_.bits + k);
    return found == 0 ? size_ : 32 * k + lowest_bit(found);
  }

  DIFFSORT_HD void remove(std::int32_t b) const {
    clear_bits(m_.bits + b / 32, std::uint32_t{1} << (b % 32));
  }
  DIFFSORT_HD void suspect(std::int32_t b) const {
    if (b > 0 && b < size_) set_bits(m_.suspects + b / 32, std::uint32_t{1} << (b % 32));
  }

  template <class Lanes>
  DIFFSORT_HD void find_pairs(const Lanes& lanes, std::int32_t k) const {
    const std::uint32_t corners = lanes.ballot([&](int lane) {
      const std::int32_t i = 32 * k + lane;
      if (i == 0 || i >= size_) return i == 0;
      return m_.sums[i] - m_.sums[i - 1] > m_.sums[i + 1] - m_.sums[i];
    });
    lanes.for_each([&](int lane) {
      if (lane == 0) m_.bits[k] = corners;
    });
  }

  // Corners of the k-th word next to an element that is none.
  DIFFSORT_HD void suspect_pairs(std::int32_t k) const {
    const std::int32_t last = size_ - 32 * k;  // the corner at the end, if it is in the word
    std::uint32_t corners = m_.bits[k], before = 1, behind = 1;
    if (k > 0) before = m_.bits[k - 1] >> 31;
    if (last > 32) behind = m_.bits[k + 1] & 1;
    std::uint32_t ends = corners;
    if (last < 32) ends |= std::uint32_t{1} << last;
    const std::uint32_t kept = (corners << 1 | before) & (ends >> 1 | behind << 31);
    if (k == 0) corners &= ~std::uint32_t{1};
    m_.suspects[k] = corners & ~kept;
  }

  // What a thread sees of its neighbours' corners may be older than what they know, but no block that
  // has ever been is wrong.
  DIFFSORT_HD void look_at(std::int32_t b) const {
    if (is_corner(b) && goes(before(b), b, behind(b))) take_away(b);
  }

  // Has the corners beside a corner looked at once more. They are looked up when it is gone: of
  // neighbours that go at the same time, the last one then sees those that stay.
  DIFFSORT_HD void take_away(std::int32_t b) const {
    remove(b);
    fence_team();  // whoever looks at them again sees that b is gone
    suspect(before(b));
    suspect(behind(b));
  }

  // Looks at the suspects of the k-th word, while others look at theirs.
  template <class Lanes>
  DIFFSORT_HD void look_again(const Lanes& lanes, std::int32_t k) const {
    const std::uint32_t all = load_bits(m_.suspects + k);
    const std::uint32_t taken = lanes.ballot([&](int lane) { return (all >> lane & 1) != 0; });
    if (taken == 0) return;
    lanes.for_each([&](int lane) {
      if (lane == 0) clear_bits(m_.suspects + k, taken);
    });
    lanes.for_each([&](int lane) {
      if ((taken >> lane & 1) == 0) return;
      fence_team();
      look_at(32 * k + lane);
    });
  }

  template <class Lanes>
  DIFFSORT_HD void grow_blocks(const Lanes& lanes) const {
    for_each_bit(lanes, m_.suspects, (size_ + 31) / 32, [&](std::int32_t b) {
      if (!is_corner(b)) return;
      const Block block{far_before(lanes, b), far_behind(lanes, b)};
      if (goes(block.start, b, block.end)) grow(lanes, block);
    });
  }

  // As before() and behind(), by lanes, for large blocks.
  template <class Lanes>
  DIFFSORT_HD std::int32_t far_before(const Lanes& lanes, std::int32_t b) const {
    const std::int32_t top = (b - 1) / 32;
    const auto word = [&](std::int32_t k) {
      const std::uint32_t corners = k < 0 ? 0 : load_bits(m_.bits + k);
      return k == top ? corners & (~std::uint32_t{0} >> (31 - (b - 1) % 32)) : corners;
    };
    std::int32_t k = top;
    std::uint32_t found = 0;
    DIFFSORT_ROLLED
    for (;; k -= 32) {  // the first element is a corner
      found = lanes.ballot([&](int lane) { return word(k - lane) != 0; });
      if (found != 0) break;
    }
    k -= lowest_bit(found);
    return 32 * k + highest_bit(word(k));
  }
  template <class Lanes>
  DIFFSORT_HD std::int32_t far_behind(const Lanes& lanes, std::int32_t b) const {
    const std::int32_t first = b / 32, words = (size_ + 31) / 32;
    const auto word = [&](std::int32_t k) {
      const std::uint32_t corners = k < words ? load_bits(m_.bits + k) : 0;
      return k == first ? corners & (~std::uint32_t{1} << (b % 32)) : corners;
    };
    DIFFSORT_ROLLED
    for (std::int32_t k = first; k < words; k += 32) {
      const std::uint32_t found = lanes.ballot([&](int lane) { return word(k + lane) != 0; });
      if (found == 0) continue;
      k += lowest_bit(found);
      return 32 * k + lowest_bit(word(k));
    }
    return size_;
  }

  // A block takes neighbours, right, left, right and so on, until one side after the other has none
  // that joins; then its inner corners go.
  template <class Lanes>
  DIFFSORT_HD void grow(const Lanes& lanes, Block block) const {
    bool on_left = true;
    DIFFSORT_ROLLED
    for (int idle = 0; idle < 2;) {
      on_left = !on_left;
      idle = take(lanes, block, on_left) ? 1 : idle + 1;
    }
    lanes.for_each([&](int lane) { clear_bits_between(lane, m_.bits, block.start, block.end); });
  }

  // Moves one end of a block over the corners that go; whether any did. The lanes look at as many
  // elements from the end on, each at one that may be a corner: the values of blocks fall, so it is
  // those up to some corner that go.
  template <class Lanes>
  DIFFSORT_HD bool take(const Lanes& lanes, Block& block, bool on_left) const {
    const Block before_all = block;
    DIFFSORT_ROLLED
    for (;;) {
      const std::int32_t edge = on_left ? block.start : block.end;
      if (edge == 0 || edge == size_) break;
      const auto corner = [&](int lane) { return on_left ? edge - lane : edge + lane; };
      const std::uint32_t stays = lanes.ballot([&](int lane) {
        const std::int32_t b = corner(lane);
        if (b <= 0 || b >= size_) return true;
        if (!is_corner(b)) return false;
        return on_left ? !goes(before(b), b, block.end) : !goes(block.start, b, behind(b));
      });
      // It ends at the first corner that stays, or else where the last block that it takes does.
      std::int32_t end = corner(stays != 0 ? lowest_bit(stays) : 31);
      if (stays == 0) end = on_left ? before(end) : behind(end);
      end = end < 0 ? 0 : end > size_ ? size_ : end;
      (on_left ? block.start : block.end) = end;
      if (stays != 0) break;
    }
    return block.size() > before_all.size();
  }

 private:
  static constexpr std::int64_t kLow = 0xffffffff;

  HullMemory m_;
  std::int32_t size_;
};

}  // namespace diffsort
