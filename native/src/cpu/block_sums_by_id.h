// Sums over the blocks of a row, whose elements are in any order: of terms and of weights, side by side.
//
// Adding to a number in memory waits for the previous addition to the same number, which matters where
// elements of a block meet often. A look at a few ids decides:
//
//     most are in one block       its elements go to a few spare entries in turn
//     many are, of a long row     the same: a second table would not stay in the caches
//     neighbours share a block    two tables take turns, or, if blocks lie in order, parts of the row
//     else, and in short rows     one table, in order
//
// (short_vjp.h adds up in order, and a short row is to have the same bits in any layout.) What is
// spare is then added to the first table, which is all that is read.
// Cost: O(n), one read. Scratch: 32 bytes per element.
// Chosen: derivatives of rows of up to 131072 elements that are more than one block, and that neither short_vjp.h
// takes nor, because their w is wide, long_sort_vjp.h.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "buffer.h"
#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

class SumsById {
 public:
  static constexpr std::int64_t kInOrder = 64;  // rows up to this length

  // The sums over each block of pair(i), at the block's id, which is below n.
  template <class F>
  void add_up(const std::int32_t* ids, std::int64_t n, const F& pair) {
    size_ = n;
    sums_.get(static_cast<std::size_t>(2 * (2 * n + kTurns)));
    clear(0, n);
    add_more(ids, n, pair);
  }

  // The same on top of what is there.
  template <class F>
  void add_more(const std::int32_t* ids, std::int64_t n, const F& pair) {
    const Look look = n > kInOrder ? look_at(ids, n) : Look{};
    if (look.most_are_one) {
      add_to_one<true>(ids, n, look.one, pair);
    } else if (look.many_are_one && !look.monotone && n > kCached) {
      add_to_one<false>(ids, n, look.one, pair);
    } else if (look.neighbours_meet) {
      look.monotone ? add_parts_by_turns(ids, n, pair) : add_by_turns(ids, n, pair);
    } else {
      double* const sums = sums_.data();
      for (std::int64_t i = 0; i < n; ++i) add(sums, ids[i], pair(i));
    }
  }

  // The id that many elements have, by a look at a few; -1: perhaps none.
  static std::int32_t most_frequent(const std::int32_t* ids, std::int64_t n) {
    if (n < 2) return -1;
    const Look look = look_at(ids, n);
    return look.many_are_one ? static_cast<std::int32_t>(look.one) : -1;
  }

  Pair operator[](std::int64_t id) const { return load_pair(sums_.data(), id); }

  // Those of kLanes elements.
  void gather(const std::int32_t* ids, Doubles* terms, Doubles* weights) const {
    for (int k = 0; k < kLanes; ++k) {
      const Pair sum = (*this)[ids[k]];
      (*terms)[k] = sum[0];
      (*weights)[k] = sum[1];
    }
  }

 private:
  static constexpr std::int64_t kTurns = 4;
  static constexpr std::int64_t kCached = std::int64_t{1} << 13;  // two tables are, 256 KB

  struct Look {
    bool most_are_one = false, many_are_one = false;
    bool neighbours_meet = false, monotone = false;
    std::int64_t one = 0;
  };

  static Look look_at(const std::int32_t* ids, std::int64_t n) {
    constexpr int kLooks = 16, kMost = 12, kMany = 6;
    std::int32_t seen[kLooks];
    Look look;
    bool rise = false, fall = false;
    int lead = 0;  // who leads a vote leads the others if anyone does (Boyer, Moore 1981)
    for (int k = 0; k < kLooks; ++k) {
      const std::int64_t i = k * (n - 1) / kLooks;
      seen[k] = ids[i];
      look.neighbours_meet |= ids[i] == ids[i + 1];
      rise |= k > 0 && seen[k] > seen[k - 1];
      fall |= k > 0 && seen[k] < seen[k - 1];
      if (lead == 0) look.one = ids[i];
      lead += ids[i] == look.one ? 1 : -1;
    }
    look.monotone = !(rise && fall);
    const auto count = std::count(seen, seen + kLooks, look.one);
    look.most_are_one = count >= kMost;
    // (The vote may miss who has less than half: then another way adds up.)
    look.many_are_one = count >= kMany;
    return look;
  }

  // kPredictable: a branch tells the elements of the one block from others; else it would be mispredicted.
  template <bool kPredictable, class F>
  void add_to_one(const std::int32_t* ids, std::int64_t n, std::int64_t one, const F& pair) {
    clear(size_, kTurns);
    double* const sums = sums_.data();
    const std::int64_t size = size_;
    for (std::int64_t i = 0; i < n; ++i) {
      if constexpr (kPredictable) {
        add(sums, ids[i] == one ? size + i % kTurns : ids[i], pair(i));
      } else {
        const std::int64_t id = ids[i], is_one = -std::int64_t{id == one};
        add(sums, id + (is_one & (size + i % kTurns - one)), pair(i));
      }
    }
    for (std::int64_t k = 0; k < kTurns; ++k) add(sums, one, load_pair(sums, size + k));
  }

  template <class F>
  void add_by_turns(const std::int32_t* ids, std::int64_t n, const F& pair) {
    clear(size_, size_);
    double *const sums = sums_.data(), *const others = sums + 2 * size_;
    const std::int64_t size = size_;
    std::int64_t i = 0;
    for (; i + 2 <= n; i += 2) {
      add(sums, ids[i], pair(i));
      add(others, ids[i + 1], pair(i + 1));
    }
    if (i < n) add(sums, ids[i], pair(i));
    for (std::int64_t id = 0; id < size; ++id) add(sums, id, load_pair(others, id));
  }

  template <class F>
  void add_parts_by_turns(const std::int32_t* ids, std::int64_t n, const F& pair) {
    constexpr std::int64_t kParts = 4;
    double* const sums = sums_.data();
    const std::int64_t size = n / kParts;
    for (std::int64_t i = 0; i < size; ++i) {
#pragma GCC unroll 4
      for (std::int64_t k = 0; k < kParts; ++k) add(sums, ids[k * size + i], pair(k * size + i));
    }
    for (std::int64_t i = kParts * size; i < n; ++i) add(sums, ids[i], pair(i));
  }

  static void add(double* sums, std::int64_t id, Pair pair) {
    store_pair(sums, id, load_pair(sums, id) + pair);
  }
  void clear(std::int64_t first, std::int64_t count) {
    std::memset(sums_.data() + 2 * first, 0, static_cast<std::size_t>(count) * sizeof(Pair));
  }

  Buffer<double> sums_;
  std::int64_t size_ = 0;
};

}  // namespace diffsort::DIFFSORT_LEVEL
