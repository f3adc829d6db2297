// The partition of a part of a row into blocks, by prefix sums in fixed point.
//
// A block is worth the quotient of two sums over its elements (hull_points.h), Y and X > 0: in l2 of
// y = z - strength w and 1, in kl of exp(s) and w, in log_kl of exp(s) and exp(w). With (X_i, Y_i) the
// sums over the first i elements, blocks end where the least concave majorant of these points has its
// corners. A corner b between corners a and c goes if it does not lie above the line from a to c, that
// is if the block from a to b is worth no more than that from b to c. Integers compare exactly, so
// corners may go in any order, many at once: the same ones are left in the end. Numbers are kept of
// elements only, and nothing is added up twice.
//
//     sums      X and Y in units so small that 61 bits suffice
//     pairs     corners that go when each element is a block by itself
//     rounds    corners next to one that went are looked at again
//     growth    what is left after a few rounds is as a rule one block that grows by an element a
//               round: 32 lanes look at its next 32 corners at a time
//
// Cost: O(n) work as a rule. Scratch: 8.3 bytes per element, in log_kl 16.3.
#pragma once

#include <cstdint>

#include "diffsort/arithmetic.h"
#include "diffsort/atomics.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/partition/bit_words.h"
#include "diffsort/parallel_row/partition/hull_points.h"
#include "diffsort/parallel_row/partition/partition.h"
#include "diffsort/parallel_row/partition/start_bits.h"
#include "diffsort/parallel_row/team/arena.h"
#include "diffsort/parallel_row/team/team_pointer.h"

namespace diffsort {

// A team's memory for a part of n elements; positions are offsets from its first.
struct HullMemory {
  TeamPointer<std::int64_t> y, x;       // Y_0 to Y_n, and X, in units; x of log_kl alone
  TeamPointer<std::uint32_t> bits;      // the corners, of which each is the start of a block
  TeamPointer<std::uint32_t> upper;     // the words of `bits` that may have some
  TeamPointer<std::uint32_t> suspects;  // those that are to be looked at

  template <Regularization R, class Source>
  DIFFSORT_HD static HullMemory of(Source& arena, std::int64_t n, TeamPointer<std::uint32_t> bits) {
    HullMemory memory{};
    memory.y = arena.template take<std::int64_t>(n + 1);
    if (R == Regularization::log_kl) memory.x = arena.template take<std::int64_t>(n + 1);
    memory.bits = bits;
    memory.upper = arena.template take<std::uint32_t>((n + 1023) / 1024);
    memory.suspects = arena.template take<std::uint32_t>(words_of_bits(n));
    return memory;
  }
};

class Hull {
 public:
  // behind_first: how many elements the row has from the part's first one on.
  DIFFSORT_HD Hull(Regularization regularization, const HullMemory& memory, std::int64_t size,
                   std::int64_t behind_first)
      : regularization_(regularization),
        m_(memory),
        size_(static_cast<std::int32_t>(size)),
        behind_first_(behind_first) {}

  // y(i) and x(i): what element i adds to the sums.
  template <class Team, class Y, class X>
  DIFFSORT_HD void run(Team& team, const Y& y, const X& x) const {
    team.prefix_sums(size_, y, m_.y);
    if (m_.x != nullptr) team.prefix_sums(size_, x, m_.x);
    find_corners(team, *this);
  }

  DIFFSORT_HD bool is_corner(std::int32_t i) const {
    return i == size_ || (load_bits(m_.bits + i / 32) >> (i % 32) & 1) != 0;
  }
  // The block that starts at i, or nothing where none does.
  DIFFSORT_HD Block block_from(std::int32_t i) const { return {i, is_corner(i) ? behind(i) : i}; }
  DIFFSORT_HD HullSums sums(Block block) const {
    return {y(block.start, block.end), x(block.start, block.end)};
  }
  DIFFSORT_HD HullSums sums_of(std::int32_t i) const { return sums({i, i + 1}); }

  // The corner before b, which is not the first, and the one behind. Empty words are passed over 32 at
  // a time.
  DIFFSORT_HD std::int32_t before(std::int32_t b) const {
    std::int32_t k = (b - 1) / 32;
    std::uint32_t found = load_bits(m_.bits + k) & ~bits_behind((b - 1) % 32);
    DIFFSORT_ROLLED
    while (found == 0) {  // the first element is a corner
      k = word_before(k);
      found = load_bits(m_.bits + k);
    }
    return 32 * k + highest_bit(found);
  }
  DIFFSORT_HD std::int32_t behind(std::int32_t b) const {
    std::int32_t k = b / 32;
    std::uint32_t found = load_bits(m_.bits + k) & bits_behind(b % 32);
    DIFFSORT_ROLLED
    while (found == 0) {
      k = word_behind(k);
      if (32 * k >= size_) return size_;
      found = load_bits(m_.bits + k);
    }
    return 32 * k + lowest_bit(found);
  }

  // The corner next to b on one side; less code than the two above, for what is seldom done.
  DIFFSORT_HD std::int32_t neighbour(std::int32_t b, bool on_left) const {
    return neighbour(m_.bits, m_.upper, size_, b, on_left);
  }

 protected:  // for a test that goes through steps of threads one by one
  static constexpr int kRounds = 4;
  static constexpr int kTogether = 8;  // words of which 32 lanes take the suspects together

  // Once the sums are there. A copy of its own: what threads write may be part of none but that, so
  // its numbers stay in registers.
  template <class Team>
  DIFFSORT_HD DIFFSORT_NOINLINE static void find_corners(Team& team, Hull hull) {
    const int words = words_of_bits(hull.size_);
    team.for_each_lanes(words, [&](const auto& lanes, int k) { hull.find_pairs(lanes, k); });
    team.for_each(words, [&](int k) { hull.suspect_pairs(k); });
    DIFFSORT_ROLLED
    for (int round = 0; round < kRounds; ++round) {
      team.for_each_lanes((words + kTogether - 1) / kTogether,
                          [&](const auto& lanes, int k) { hull.look_again(lanes, k); });
    }
    team.for_each_lanes(1, [&](const auto& lanes, int) { hull.grow_blocks(lanes); });
  }

  // Whether the corner b between a and c goes.
  DIFFSORT_HD bool goes(std::int32_t a, std::int32_t b, std::int32_t c) const {
    const std::int64_t left = y(a, b), right = y(b, c);
    if (regularization_ == Regularization::l2) {
      return product_at_most(left, static_cast<std::uint32_t>(c - b), right,
                             static_cast<std::uint32_t>(b - a));
    }
    const auto number = [](std::int64_t sum) { return static_cast<std::uint64_t>(sum); };
    return product_at_most(number(left), number(x(b, c)), number(right), number(x(a, b)));
  }

  // The nearest word that may have corners, before k, which is not the first, and behind it: as many
  // words as there are, or more, where there is none.
  DIFFSORT_HD std::int32_t word_before(std::int32_t k) const {
    --k;
    std::int32_t u = k / 32;
    std::uint32_t words = load_bits(m_.upper + u) & ~bits_behind(k % 32);
    DIFFSORT_ROLLED
    while (words == 0) words = load_bits(m_.upper + --u);
    return 32 * u + highest_bit(words);
  }
  DIFFSORT_HD std::int32_t word_behind(std::int32_t k) const {
    const std::int32_t uppers = (size_ + 1023) / 1024;
    std::int32_t u = k / 32;
    std::uint32_t words = load_bits(m_.upper + u) & bits_behind(k % 32);
    DIFFSORT_ROLLED
    while (words == 0) {
      if (++u == uppers) return 32 * u;
      words = load_bits(m_.upper + u);
    }
    return 32 * u + lowest_bit(words);
  }

  DIFFSORT_HD void remove(std::int32_t b) const {
    const std::uint32_t bit = std::uint32_t{1} << (b % 32);
    const std::uint32_t corners = clear_bits(m_.bits + b / 32, bit);
    if (corners == bit) clear_bits(m_.upper + b / 1024, std::uint32_t{1} << (b / 32 % 32));
  }
  DIFFSORT_HD void suspect(std::int32_t b) const {
    if (b > 0 && b < size_) set_bits(m_.suspects + b / 32, std::uint32_t{1} << (b % 32));
  }

  template <class Lanes>
  DIFFSORT_HD void find_pairs(const Lanes& lanes, std::int32_t k) const {
    const std::uint32_t corners = lanes.ballot([&](int lane) {
      const std::int32_t i = 32 * k + lane;
      if (i == 0 || i >= size_) return i == 0;
      if (regularization_ == Regularization::l2) return y(i - 1, i) > y(i, i + 1);
      return !goes(i - 1, i, i + 1);
    });
    lanes.for_each([&](int lane) {
      if (lane == 0) m_.bits[k] = corners;
      if (lane == 0 && k % 32 == 0) m_.upper[k / 32] = 0;
    });
  }

  // Corners of the k-th word next to an element that is none.
  DIFFSORT_HD void suspect_pairs(std::int32_t k) const {
    const std::int32_t last = size_ - 32 * k;  // the corner at the end, if it is in the word
    std::uint32_t corners = m_.bits[k], before = 1, behind = 1;
    if (corners != 0) set_bits(m_.upper + k / 32, std::uint32_t{1} << (k % 32));
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
    DIFFSORT_ROLLED
    for (int side = 0; side < 2; ++side) suspect(neighbour(b, side == 0));
  }

  // Looks at the suspects of the k-th group of words, while others look at theirs. They are few, so
  // lanes have as many neighbouring bits each, and look at their suspects one by one.
  template <class Lanes>
  DIFFSORT_HD void look_again(const Lanes& lanes, std::int32_t k) const {
    const std::int32_t words = words_of_bits(size_), first = kTogether * k, count = words - first;
    const int width = count > 4 ? 8 : count > 2 ? 4 : count;  // bits of a lane
    auto own = lanes.template each<std::uint32_t>();
    std::uint32_t some = lanes.ballot([&](int lane) {
      const int bit = width * lane;
      own[lane] = bit < 32 * count ? take_suspects(32 * first + bit, width) : 0;
      return own[lane] != 0;
    });
    DIFFSORT_ROLLED
    while (some != 0) {
      some = lanes.ballot([&](int lane) {
        if (own[lane] == 0) return false;
        look_at(32 * first + width * lane + lowest_bit(own[lane]));
        own[lane] &= own[lane] - 1;
        return own[lane] != 0;
      });
    }
  }

  // Which of the `width` positions from i on, in one word, are suspects; they are none then.
  DIFFSORT_HD std::uint32_t take_suspects(std::int32_t i, int width) const {
    std::uint32_t* const word = m_.suspects + i / 32;
    const std::uint32_t mask = (std::uint32_t{1} << width) - 1;
    const std::uint32_t taken = load_bits(word) >> (i % 32) & mask;
    if (taken == 0) return 0;
    // What is read as they are cleared counts: it may be by a later removal that they are suspects.
    const std::uint32_t cleared = clear_bits(word, taken << (i % 32)) >> (i % 32) & taken;
    fence_team();  // who is suspected from here on is so by what is seen from here on
    return cleared;
  }

  template <class Lanes>
  DIFFSORT_HD void grow_blocks(const Lanes& lanes) const {
    for_each_bit(lanes, m_.suspects, words_of_bits(size_), [&](std::int32_t b) {
      if (!is_corner(b)) return;
      const Block block{before(b), behind(b)};
      if (goes(block.start, b, block.end)) grow(lanes, block);
    });
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
    lanes.for_each([](int) {});  // all have read what goes now
    lanes.for_each([&](int lane) {
      clear_bits_between(lane, m_.bits, block.start, block.end);
      clear_bits_between(lane, m_.upper, block.start / 32, block.end / 32);
    });
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
        const std::int32_t next = neighbour(b, on_left);
        return on_left ? !goes(next, b, block.end) : !goes(block.start, b, next);
      });
      // It ends at the first corner that stays, or else where the last block that it takes does.
      std::int32_t end = corner(stays != 0 ? lowest_bit(stays) : 31);
      if (stays == 0) end = neighbour(end, on_left);
      end = end < 0 ? 0 : end > size_ ? size_ : end;
      (on_left ? block.start : block.end) = end;
      if (stays != 0) break;
    }
    return block.size() > before_all.size();
  }

 private:
  DIFFSORT_HD DIFFSORT_NOINLINE static std::int32_t neighbour(TeamPointer<std::uint32_t> bits,
                                                              TeamPointer<std::uint32_t> upper,
                                                              std::int32_t size, std::int32_t b,
                                                              bool on_left) {
    const Hull hull(Regularization::l2, {nullptr, nullptr, bits, upper, nullptr}, size, 0);
    return on_left ? hull.before(b) : hull.behind(b);
  }

  DIFFSORT_HD std::int64_t y(std::int32_t a, std::int32_t b) const { return m_.y[b] - m_.y[a]; }

  // Of elements that are 1, rho, or what their sums are kept of.
  DIFFSORT_HD std::int64_t x(std::int32_t a, std::int32_t b) const {
    if (regularization_ == Regularization::l2) return b - a;
    if (regularization_ == Regularization::kl) return (b - a) * (2 * behind_first_ - a - b + 1) / 2;
    return m_.x[b] - m_.x[a];
  }

  Regularization regularization_;
  HullMemory m_;
  std::int32_t size_;
  std::int64_t behind_first_;
};

}  // namespace diffsort
