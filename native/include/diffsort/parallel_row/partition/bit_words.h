// Bits in the words of a team's memory, on which 32 lanes work together.
#pragma once

#include <cstdint>

#include "diffsort/arithmetic.h"
#include "diffsort/atomics.h"
#include "diffsort/host_device.h"

namespace diffsort {

// f(i) for every bit i that is set among `count` words, in order and by all lanes together; the words
// stay as they are meanwhile.
template <class Lanes, class F>
DIFFSORT_HD void for_each_bit(const Lanes& lanes, const std::uint32_t* words, std::int32_t count,
                              const F& f) {
  DIFFSORT_ROLLED
  for (std::int32_t k = 0; k < count; k += 32) {
    std::uint32_t some = lanes.ballot(
        [&](int lane) { return k + lane < count && load_bits(words + k + lane) != 0; });
    DIFFSORT_ROLLED
    for (; some != 0; some &= some - 1) {
      const std::int32_t word = k + lowest_bit(some);
      DIFFSORT_ROLLED
      for (std::uint32_t bits = load_bits(words + word); bits != 0; bits &= bits - 1) {
        f(32 * word + lowest_bit(bits));
      }
    }
  }
}

// A lane's share of clearing the bits behind `first` and before `last`.
DIFFSORT_HD inline void clear_bits_between(int lane, std::uint32_t* words, std::int32_t first,
                                           std::int32_t last) {
  ++first;
  for (std::int32_t k = first / 32 + lane; 32 * k < last; k += 32) {
    std::uint32_t gone = ~std::uint32_t{0};
    if (32 * k < first) gone <<= first % 32;
    if (32 * k + 32 > last) gone &= ~(~std::uint32_t{0} << (last % 32));
    clear_bits(words + k, gone);
  }
}

}  // namespace diffsort
