// The partition of a part of a row into blocks, by a team that has the part's state in its memory.
//
//     runs     neighbours that pool when they are compared one by one share a block, whatever else
//              happens: one look at all pairs finds most of what pools
//     rounds   every block of at least two elements that is new is compared with both neighbours,
//              and all that pool joins at once
//     growth   once few blocks are left that still grow, 32 lanes take the neighbours of one after
//              another, as many as lanes at a time
//
// In rows of random numbers four to eight rounds leave one block or none that grows; where pooling
// is moderate, that one then takes some sqrt(n) elements on either side, one by one. So a part costs
// O(n) work and a few tens of steps. At worst, blocks that grow by one element a round everywhere,
// 32 lanes do all the work.
//
// What is compared and added up decides the partition and the sums, never the order in which threads
// come by: rounds join from left to right, and growth takes blocks in their order.
//
// Scratch: 4.5 bytes per element beside the partition's own (PoolMemory).
#pragma once

#include <cstdint>

#include "diffsort/arithmetic.h"
#include "diffsort/atomics.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/partition/bit_words.h"
#include "diffsort/parallel_row/partition/partition.h"
#include "diffsort/parallel_row/team/arena.h"
#include "diffsort/parallel_row/team/team_pointer.h"

namespace diffsort {

// A team's memory for pooling a part, in which positions are offsets from its first element.
struct PoolMemory {
  using Offset = std::uint16_t;  // of parts of at most 8192 elements

  TeamPointer<std::uint32_t> bits;     // the starts of blocks; they may be the row's own
  TeamPointer<std::uint32_t> marks;    // those that are to go
  TeamPointer<std::uint32_t> changed;  // those of the blocks that are compared in this round
  TeamPointer<Offset> ends, begins;    // the end of the block that starts at i, at i / 2, and the
                                       // start of the one that ends at e, at (e - 1) / 2
  TeamPointer<Offset> seeds;           // starts of blocks that have changed, in this round
  TeamPointer<Offset> next_seeds;      // and in the next
  TeamPointer<Offset> long_blocks;     // starts of those that 32 lanes are to add up
  TeamPointer<std::uint32_t> count, next_count, long_count;

  template <class Source>
  DIFFSORT_HD static PoolMemory of(Source& arena, std::int64_t n, TeamPointer<std::uint32_t> bits) {
    PoolMemory memory;
    memory.bits = bits;
    memory.marks = arena.template take<std::uint32_t>(words_of_bits(n));
    memory.changed = arena.template take<std::uint32_t>(words_of_bits(n));
    memory.ends = arena.template take<Offset>(n / 2);
    memory.begins = arena.template take<Offset>((n + 1) / 2);
    memory.seeds = arena.template take<Offset>(n / 2);
    memory.next_seeds = arena.template take<Offset>(n / 2);
    memory.long_blocks = arena.template take<Offset>(n / 16);
    memory.count = arena.template take<std::uint32_t>(1);
    memory.next_count = arena.template take<std::uint32_t>(1);
    memory.long_count = arena.template take<std::uint32_t>(1);
    return memory;
  }

  DIFFSORT_HD void next_round() {
    const auto seen = seeds;
    seeds = next_seeds;
    next_seeds = seen;
    const auto counted = count;
    count = next_count;
    next_count = counted;
  }
};

// Some neighbouring blocks as one, or nothing.
template <Regularization R>
struct PooledRun {
  Block block{0, 0};
  BlockSums<R> sums{};

  DIFFSORT_HD bool empty() const { return block.size() == 0; }
};

template <Regularization R, class Row, std::int32_t kShortestKept>
class PartPooling {
 public:
  // Of `size` elements from the `first` on, a multiple of 32.
  DIFFSORT_HD PartPooling(const Row& row, const PartitionMemory<R, kShortestKept>& memory,
                          const PoolMemory& scratch, std::int64_t first, std::int64_t size)
      : partition_(row, memory),
        m_(scratch),
        first_(static_cast<std::int32_t>(first)),
        size_(static_cast<std::int32_t>(size)) {}

  template <class Team>
  DIFFSORT_HD void run(Team& team) {
    const int words = static_cast<int>(words_of_bits(size_));
    team.for_each_lanes(words, [&](const auto& lanes, int k) { find_runs(lanes, k); });
    team.for_each(words, [&](int k) { list_runs(k); });
    team.for_each(static_cast<int>(*m_.count), [&](int s) { describe_run(m_.seeds[s]); });
    add_up_long_blocks(team);
    DIFFSORT_ROLLED
    for (int round = 0; round < kRounds && *m_.count > kFew; ++round) {
      const int seeds = static_cast<int>(*m_.count);
      team.for_each(seeds, [&](int s) {
        if (s == 0) *m_.next_count = *m_.long_count = 0;
        set_bit(m_.changed, m_.seeds[s]);
        compare(block_from(m_.seeds[s]));
      });
      team.for_each(seeds, [&](int s) { join(block_from(m_.seeds[s])); });
      team.for_each(words, [&](int k) {
        m_.bits[k] &= ~m_.marks[k];
        m_.marks[k] = m_.changed[k] = 0;
      });
      m_.next_round();
      add_up_long_blocks(team);
    }
    const int seeds = static_cast<int>(*m_.count);
    if (seeds == 0) return;
    team.for_each(seeds, [&](int s) { set_bit(m_.changed, m_.seeds[s]); });
    team.for_each_lanes(1, [&](const auto& lanes, int) { grow_blocks(lanes); });
  }

 private:
  using Run = PooledRun<R>;
  using Offset = PoolMemory::Offset;

  static constexpr int kRounds = 16;
  static constexpr std::uint32_t kFew = 2;
  static constexpr std::int32_t kAddedUpAlone = 32;  // elements that one thread adds up
  static constexpr int kJoinedAlone = 16;            // blocks that one thread joins

  // --- Blocks

  DIFFSORT_HD static bool has_bit(const std::uint32_t* words, std::int32_t i) {
    return (load_bits(words + i / 32) >> (i % 32) & 1) != 0;
  }
  DIFFSORT_HD bool is_start(std::int32_t i) const { return i == size_ || has_bit(m_.bits, i); }
  DIFFSORT_HD bool is_marked(std::int32_t i) const { return i < size_ && has_bit(m_.marks, i); }
  DIFFSORT_HD static void set_bit(std::uint32_t* words, std::int32_t i) {
    set_bits(words + i / 32, std::uint32_t{1} << (i % 32));
  }

  // The block that starts at i, and the one that ends before e.
  DIFFSORT_HD Block block_from(std::int32_t i) const {
    return {i, is_start(i + 1) ? i + 1 : std::int32_t{m_.ends[i / 2]}};
  }
  DIFFSORT_HD Block block_until(std::int32_t e) const {
    return {is_start(e - 1) ? e - 1 : std::int32_t{m_.begins[(e - 1) / 2]}, e};
  }
  DIFFSORT_HD void describe(Block block) const {
    m_.ends[block.start / 2] = static_cast<Offset>(block.end);
    m_.begins[(block.end - 1) / 2] = static_cast<Offset>(block.start);
  }

  // The first start behind i that is not marked.
  DIFFSORT_HD std::int32_t next_start(std::int32_t i) const {
    const auto words = static_cast<std::int32_t>(words_of_bits(size_));
    std::int32_t k = i / 32;
    std::uint32_t found = m_.bits[k] & ~m_.marks[k] & (~std::uint32_t{1} << (i % 32));
    DIFFSORT_ROLLED
    while (found == 0 && ++k < words) found = m_.bits[k] & ~m_.marks[k];
    return found == 0 ? size_ : 32 * k + lowest_bit(found);
  }

  // --- Sums

  DIFFSORT_HD Block in_row(Block block) const { return {first_ + block.start, first_ + block.end}; }

  DIFFSORT_HD DIFFSORT_NOINLINE Run run_of(Block block) const {
    if (partition_.keeps(block)) return {block, partition_.kept(in_row(block))};
    return add_up(block);
  }

  DIFFSORT_HD DIFFSORT_NOINLINE Run add_up(Block block) const {
    const auto& row = partition_.row;
    Run run{block, row.singleton(first_ + block.start)};
    DIFFSORT_ROLLED
    for (std::int32_t i = block.start + 1; i < block.end; ++i) {
      run.sums.absorb(row.singleton(first_ + i), 1, row.shift(first_ + block.start, first_ + i));
    }
    return run;
  }

  // Two neighbours, whichever comes first.
  DIFFSORT_HD DIFFSORT_NOINLINE Run both(const Run& a, const Run& b) const {
    if (a.empty() || b.empty()) return a.empty() ? b : a;
    const bool in_order = a.block.start < b.block.start;
    const Run &left = in_order ? a : b, &right = in_order ? b : a;
    Run run{{left.block.start, right.block.end}, left.sums};
    run.sums.absorb(right.sums, right.block.size(),
                    partition_.row.shift(first_ + left.block.start, first_ + right.block.start));
    return run;
  }
  DIFFSORT_HD DIFFSORT_NOINLINE bool pool(const Run& a, const Run& b) const {
    const bool in_order = a.block.start < b.block.start;
    const Run &left = in_order ? a : b, &right = in_order ? b : a;
    return partition_.pools(in_row(left.block), left.sums, in_row(right.block), right.sums);
  }

  template <class Team>
  DIFFSORT_HD void add_up_long_blocks(Team& team) const {
    team.for_each_lanes(static_cast<int>(*m_.long_count), [&](const auto& lanes, int k) {
      const Block block = block_from(m_.long_blocks[k]);
      const std::int32_t share = (block.size() + 31) / 32 | 1;  // odd: lanes read different banks
      Run all;
      lanes.absorb_while(
          all,
          [&](int lane) {
            const std::int32_t start = block.start + lane * share;
            const std::int32_t end = start + share < block.end ? start + share : block.end;
            return start < end ? add_up({start, end}) : Run{};
          },
          [&](const Run& a, const Run& b) { return both(a, b); },
          [](const Run&, const Run&) { return true; });
      lanes.for_each([&](int lane) {
        if (lane == 0) partition_.keep(in_row(block), all.sums);
      });
    });
  }
  DIFFSORT_HD void leave_to_lanes(std::int32_t start) const {
    m_.long_blocks[count_one(m_.long_count)] = static_cast<Offset>(start);
  }

  // --- Runs

  // Of the k-th 32 elements.
  template <class Lanes>
  DIFFSORT_HD void find_runs(const Lanes& lanes, std::int32_t k) const {
    const auto& row = partition_.row;
    const std::uint32_t starts = lanes.ballot([&](int lane) {
      const std::int32_t i = 32 * k + lane, j = first_ + i;
      if (i == 0 || i >= size_) return i == 0;
      const BlockSums<R> left = row.singleton(j - 1), right = row.singleton(j);
      if constexpr (R == Regularization::l2) return !row.pools(j - 1, left, 1, j, right, 1);
      const double w = row.w(j);
      return row.surely_apart(row.z(j - 1) - row.z(j), row.w(j - 1) - w, w) ||
             !partition_.pools({j - 1, j}, left, {j, j + 1}, right);
    });
    lanes.for_each([&](int lane) {
      if (lane != 0) return;
      m_.bits[k] = starts;
      m_.marks[k] = m_.changed[k] = 0;
      if (k == 0) *m_.count = *m_.long_count = 0;
    });
  }

  // Lists those that start in the k-th word.
  DIFFSORT_HD void list_runs(std::int32_t k) const {
    const std::int32_t left = size_ - 32 * k;
    std::uint32_t behind = left > 32 ? m_.bits[k + 1] & 1 : 1;  // does one start behind the word?
    std::uint32_t starts = m_.bits[k], ends = starts >> 1 | behind << 31;
    if (left < 32) ends |= std::uint32_t{1} << (left - 1);
    std::uint32_t runs = starts & ~ends;
    if (runs == 0) return;
    std::uint32_t place = add_to_word(m_.count, count_bits(runs));
    DIFFSORT_ROLLED
    for (; runs != 0; runs &= runs - 1) {
      m_.seeds[place++] = static_cast<Offset>(32 * k + lowest_bit(runs));
    }
  }

  DIFFSORT_HD void describe_run(std::int32_t start) const {
    const Block block{start, next_start(start)};
    describe(block);
    if (block.size() > kAddedUpAlone) return leave_to_lanes(start);
    partition_.keep(in_row(block), add_up(block).sums);
  }

  // --- Rounds

  // Marks the starts at both ends of a block that has changed, where it pools with a neighbour.
  DIFFSORT_HD void compare(Block block) const {
    const Run run = run_of(block);
    DIFFSORT_ROLLED
    for (int side = 0; side < 2; ++side) {
      const std::int32_t centre = side == 0 ? block.start : block.end;
      if (centre == 0 || centre == size_) continue;
      const Run other = run_of(side == 0 ? block_until(centre) : block_from(centre));
      if (pool(run, other)) set_bit(m_.marks, centre);
    }
  }

  // Of the blocks that are about to become one, the first that has changed does it, be it the first
  // of all or the second: two that have not changed do not pool. Nobody else reads the sums of any of
  // them meanwhile.
  DIFFSORT_HD void join(Block block) const {
    Block all = block;
    if (is_marked(block.start)) {
      const Block left = block_until(block.start);
      if (has_bit(m_.changed, left.start) || is_marked(left.start)) return;
      all.start = left.start;
    } else if (!is_marked(block.end)) {
      return;  // it has come to rest
    }
    Run run =
        both(all.start < block.start ? run_of({all.start, block.start}) : Run{}, run_of(block));
    DIFFSORT_ROLLED
    for (int k = 1; k < kJoinedAlone && is_marked(run.block.end); ++k) {
      run = both(run, run_of(block_from(run.block.end)));
    }
    if (is_marked(run.block.end)) {
      run.block.end = next_start(run.block.end);
      leave_to_lanes(run.block.start);
    }
    describe(run.block);
    partition_.keep(in_row(run.block), run.sums);
    m_.next_seeds[count_one(m_.next_count)] = static_cast<Offset>(run.block.start);
  }

  // --- Growth

  // Blocks that have changed take neighbours until none pools.
  template <class Lanes>
  DIFFSORT_HD void grow_blocks(const Lanes& lanes) const {
    const auto words = static_cast<std::int32_t>(words_of_bits(size_));
    for_each_bit(lanes, m_.changed, words, [&](std::int32_t start) {
      if (is_start(start)) grow(lanes, block_from(start));  // else another has taken it
    });
  }

  template <class Lanes>
  DIFFSORT_HD void grow(const Lanes& lanes, Block block) const {
    Run run = run_of(block);
    bool on_left = true;
    // Right, left, right and so on, until one side after the other gives nothing.
    DIFFSORT_ROLLED
    for (int idle = 0; idle < 2;) {
      on_left = !on_left;
      idle = take(lanes, run, on_left) ? 1 : idle + 1;
    }
    if (run.block.size() == block.size()) return;
    lanes.for_each([&](int lane) {
      clear_bits_between(lane, m_.bits, run.block.start, run.block.end);
      if (lane != 0) return;
      describe(run.block);
      partition_.keep(in_row(run.block), run.sums);
    });
  }

  // Takes neighbours on one side as long as they pool; whether there was any. A lane has the block,
  // if there is one, that begins (on the left: ends) as many elements from the edge as its number.
  template <class Lanes>
  DIFFSORT_HD bool take(const Lanes& lanes, Run& run, bool on_left) const {
    const std::int32_t size = run.block.size();
    int taken = 32;
    DIFFSORT_ROLLED
    while (taken == 32 && (on_left ? run.block.start > 0 : run.block.end < size_)) {
      const std::int32_t edge = on_left ? run.block.start : run.block.end;
      taken = lanes.absorb_while(
          run,
          [&](int lane) {
            const std::int32_t centre = on_left ? edge - lane : edge + lane;
            if (centre <= 0 || centre >= size_ || !is_start(centre)) return Run{};
            return run_of(on_left ? block_until(centre) : block_from(centre));
          },
          [&](const Run& a, const Run& b) { return both(a, b); },
          [&](const Run& before, const Run& next) {
            return before.empty() || next.empty() || pool(before, next);
          });
    }
    return run.block.size() > size;
  }

  Partition<R, Row, kShortestKept> partition_;
  PoolMemory m_;
  std::int32_t first_, size_;
};

template <class Team>
DIFFSORT_HD void fill_upper_levels(Team& team, const StartBits& starts, std::int64_t n) {
  team.for_each(StartBits::upper_words(n), [&](std::int64_t k) { starts.fill(k); });
}

// Makes the starts of a part the row's, whose upper levels have been filled. `bits` may be the row's.
template <class Team>
DIFFSORT_HD void publish_part(Team& team, const StartBits& starts, const std::uint32_t* bits,
                              std::int64_t first, std::int64_t n) {
  const std::int64_t words = words_of_bits(n);
  team.for_each(words, [&](std::int64_t k) {
    starts.set_word(static_cast<std::int32_t>(first / 32 + k), bits[k]);
  });
  // A part begins with a start, so above these levels nothing is empty.
  if (words <= 32) return;
  team.for_each(words_of_bits(words), [&](std::int64_t k) {
    starts.clear_empty_word(1, static_cast<std::int32_t>(first / 1024 + k));
  });
}

// Pools the `n` elements from `first` on, both multiples of 32 but for the end of the row.
template <Regularization R, std::int32_t kShortestKept, class Team, class Row>
DIFFSORT_HD void pool_part(Team& team, const Row& row,
                           const PartitionMemory<R, kShortestKept>& memory,
                           const PoolMemory& scratch, std::int64_t first, std::int64_t n) {
  PartPooling<R, Row, kShortestKept>(row, memory, scratch, first, n).run(team);
  publish_part(team, StartBits(memory.bits, row.n), scratch.bits, first, n);
}

// Pools a row of at most 8192 elements.
template <Regularization R, std::int32_t kShortestKept, class Team, class Row>
DIFFSORT_HD void pool(Team& team, const Row& row, const PartitionMemory<R, kShortestKept>& memory,
                      const PoolMemory& scratch) {
  if (row.n == 0) return;
  fill_upper_levels(team, StartBits(memory.bits, row.n), row.n);
  pool_part(team, row, memory, scratch, 0, row.n);
}

}  // namespace diffsort
