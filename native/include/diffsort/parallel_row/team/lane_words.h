// Words that threads sort (team.sort_words of team.h) and combine before they go to memory (lanes.gather).
#pragma once

#include <cstdint>

#include "diffsort/host_device.h"

namespace diffsort {

// A thread sorts so many words, and memory for n has room for those of all threads that have some.
constexpr int kSortedByThread = 8;
DIFFSORT_HD constexpr std::int64_t room_to_sort(std::int64_t n) {
  return (n + kSortedByThread - 1) / kSortedByThread * kSortedByThread;
}

// 0 is what every other word combines with to itself.
enum class Gather { sum, largest };

template <int kWords>
struct LaneWords {
  std::uint32_t word[kWords];
};

template <Gather kHow>
DIFFSORT_HD std::uint32_t gather_words(std::uint32_t a, std::uint32_t b) {
  if (kHow == Gather::sum) return a + b;
  return a < b ? b : a;
}

// What a thread that is one lane has of lanes.each.
template <class V>
struct OwnValue {
  V own;
  DIFFSORT_HD V& operator[](int) { return own; }
};

DIFFSORT_HD inline bool has_lane(std::uint32_t lanes, int lane) {
  return (lanes >> lane & 1) != 0;
}

// Where gathering pays: atomics to one address are served one after the other.
DIFFSORT_HD inline bool worth_gathering(std::uint32_t same) {
  same &= same - 1;
  same &= same - 1;
  return (same & (same - 1)) != 0;
}

}  // namespace diffsort
