// What can be said of block ids before they are followed.
// Cost: one read.
#pragma once

#include <cstdint>

namespace diffsort::DIFFSORT_LEVEL {

// Every id is that of a block, none a sentinel or beyond the row; `one` if it is always 0.
inline bool are_plain(const std::int32_t* ids, std::int64_t n, bool* one = nullptr) {
  std::uint32_t high = 0;  // sentinels are negative, and so the highest
  for (std::int64_t i = 0; i < n; ++i) {
    const auto id = static_cast<std::uint32_t>(ids[i]);
    high = id > high ? id : high;
  }
  if (one != nullptr) *one = high == 0;
  return high < n;
}

}  // namespace diffsort::DIFFSORT_LEVEL
