// The block ids of a short row, checked by one thread in registers.
//
// A block that starts at s has to have as many elements as there are positions from s up to the next
// start. Instead of counting them, every element takes the first free position at or behind its start.
// All find one if and only if, of every position p, at most n - p elements start at or behind p. Of
// those p where a block starts it has to be exactly n - p. If any has fewer, then so has the sum of
// these counts over all p > 0, which is the sum of all starts. Of ids that are right a block of m
// elements adds m s to it: the sum of its positions less m (m - 1) / 2.
#pragma once

#include <cstdint>

#include "diffsort/arithmetic.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/short_rows/tile.h"

namespace diffsort {

class ShortIds {
 public:
  DIFFSORT_HD explicit ShortIds(int n) : n_(n), free_(~std::uint32_t{0} >> (kShortRow - n)) {}

  // As block_start of projection.h, in two instructions.
  DIFFSORT_HD static int start_of(std::int32_t id) {
    const auto of_infinite =
        static_cast<std::int32_t>(~std::uint32_t{1} - static_cast<std::uint32_t>(id));
    return id < of_infinite ? of_infinite : id;
  }

  // The next element's start. Of an id that cannot be one, it is within the row all the same.
  DIFFSORT_HD int add(std::int32_t id) {
    const auto named = static_cast<std::uint32_t>(start_of(id)),
               last = static_cast<std::uint32_t>(n_ - 1);
    largest_ = named < largest_ ? largest_ : named;
    const std::uint32_t start = named < last ? named : last, bit = std::uint32_t{1} << start;
    const std::uint32_t fitting = free_ & (0u - bit);
    free_ ^= fitting & (0u - fitting);
    is_new_ = (starts_ & bit) == 0;
    starts_ |= bit;
    sum_ += static_cast<int>(start);
    return static_cast<int>(start);
  }
  // Whether the element added last is the first one of its block.
  DIFFSORT_HD bool is_new() const { return is_new_; }

  // Whether these are the ids of blocks. pairs: as for_each_shared counts them
  DIFFSORT_HD bool are_blocks(int pairs) const {
    return largest_ < static_cast<std::uint32_t>(n_) && free_ == 0 &&
           2 * sum_ + pairs == n_ * (n_ - 1);
  }
  DIFFSORT_HD std::uint32_t starts() const { return starts_; }

  // Of those starts of a row of n whose blocks have one element.
  DIFFSORT_HD static std::uint32_t alone(std::uint32_t starts, int n) {
    return starts & (starts >> 1 | std::uint32_t{1} << (n - 1));
  }

  // visit(start, size) for every block of at least two elements; how many ordered pairs of elements
  // share a block.
  template <class Visit>
  DIFFSORT_HD static int for_each_shared(std::uint32_t starts, int n, const Visit& visit) {
    int pairs = 0;
    DIFFSORT_ROLLED
    for (std::uint32_t left = starts & ~alone(starts, n); left != 0; left &= left - 1) {
      const int start = lowest_bit(left);
      const std::uint32_t behind = starts >> start >> 1;
      const int size = behind == 0 ? n - start : 1 + lowest_bit(behind);
      pairs += size * (size - 1);
      visit(start, size);
    }
    return pairs;
  }

 private:
  int n_;
  std::uint32_t free_, starts_ = 0, largest_ = 0;
  int sum_ = 0;
  bool is_new_ = false;
};

}  // namespace diffsort
