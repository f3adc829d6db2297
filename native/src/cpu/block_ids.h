// What the block ids of a row say about its blocks, without a sort.
//
// An id is the sorted position at which its block starts, so the ids that occur are the starts, and
// a block ends where the next one starts. Marking an id is a store that waits for nothing, unlike
// counting.
#pragma once

#include <cstdint>
#include <cstring>

#include "buffer.h"
#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

class BlockIds {
 public:
  // Every id is that of a block, none a sentinel or beyond the row; `one` if it is always 0.
  static bool are_plain(const std::int32_t* ids, std::int64_t n, bool* one = nullptr) {
    std::int32_t low = 0, high = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      low = ids[i] < low ? ids[i] : low;
      high = ids[i] > high ? ids[i] : high;
    }
    if (one != nullptr) *one = high == 0;
    return low >= 0 && high < n;
  }

  // Reads plain ids.
  void read(const std::int32_t* ids, std::int64_t n) {
    const auto size = static_cast<std::size_t>(n);
    std::uint8_t* const marks = marks_.get(size);
    std::memset(marks, 0, size);
    for (std::int64_t i = 0; i < n; ++i) marks[ids[i]] = 1;
    std::int32_t* const starts = starts_.get(size + 1);
    std::int64_t count = 0;
    for (std::int64_t b = 0; b < n; ++b) {
      starts[count] = static_cast<std::int32_t>(b);
      count += marks[b];
    }
    starts[count] = static_cast<std::int32_t>(n);
    count_ = count;
  }

  std::int64_t count() const { return count_; }
  std::int64_t start(std::int64_t block) const { return starts_.data()[block]; }
  std::int64_t size(std::int64_t block) const { return start(block + 1) - start(block); }

 private:
  Buffer<std::uint8_t> marks_;
  Buffer<std::int32_t> starts_;
  std::int64_t count_ = 0;
};

}  // namespace diffsort::DIFFSORT_LEVEL
