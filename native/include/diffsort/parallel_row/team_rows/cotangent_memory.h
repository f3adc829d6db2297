// What a team remembers of a row whose cotangent it takes (team_rows/cotangent.h).
//
// A block is known by its start, the sorted position that its elements name. For every position that
// is named there is a head: the exponent of the block's largest term, and of one element with it
// which it is. So a position starts a block if its head is not 0, and an element is alone if the
// next position is a start. Sums have only blocks of at least two, in the slot start / 2, which no
// other such block shares.
//
// Bytes per element: 16 for l2, by w 18, 30 for kl, and 32 for log_kl.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "diffsort/atomics.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/team/fixed_point.h"
#include "diffsort/projection.h"

namespace diffsort {

// The start of an element's block, and whether the element is infinite: 16 bits.
using ShortPlace = std::uint16_t;
static_assert(kLongestSum <= 0x8000);

DIFFSORT_HD inline int start_of(ShortPlace place) {
  return place & 0x7fff;
}
DIFFSORT_HD inline bool is_infinite(ShortPlace place) {
  return place >= 0x8000;
}

// Of an id that cannot be one the start is 0.
struct ReadPlace {
  ShortPlace place;
  bool valid;

  DIFFSORT_HD ReadPlace(std::int32_t id, int n) {
    const bool infinite = is_infinite_block(id);
    const std::int32_t start = block_start(id);
    valid = static_cast<std::uint32_t>(start) < static_cast<std::uint32_t>(n);
    place = static_cast<ShortPlace>(valid ? start | (infinite ? 0x8000 : 0) : 0);
  }
};

// The head of a block whose largest term is element e's.
struct Head {
  DIFFSORT_HD static std::uint32_t of(int exponent, int e) {
    return static_cast<std::uint32_t>(exponent) << 16 | static_cast<std::uint32_t>(0xffff - e);
  }
  DIFFSORT_HD static int exponent(std::uint32_t head) { return static_cast<int>(head >> 16); }
  DIFFSORT_HD static int element(std::uint32_t head) {
    return 0xffff - static_cast<int>(head & 0xffff);
  }
};

// The words of a slot: each is among those of its kind, so that neighbouring slots use other banks.
template <int kWords>
struct SlotWords {
  std::uint32_t* first;
  int slots;

  DIFFSORT_HD std::uint32_t& operator[](int k) const { return first[k * slots]; }
  DIFFSORT_HD void add(const std::uint32_t* words) const {
    DIFFSORT_UNROLLED
    for (int k = 0; k < kWords; ++k) add_to_word(&(*this)[k], words[k]);
  }

  // A double in the place of a sum, and beside it a count.
  DIFFSORT_HD void store(double x, int count) const {
    const auto bits = copy_bits<std::uint64_t>(x);
    (*this)[0] = static_cast<std::uint32_t>(bits);
    (*this)[1] = static_cast<std::uint32_t>(bits >> 32);
    (*this)[2] = static_cast<std::uint32_t>(count);
  }
  DIFFSORT_HD double number() const {
    return copy_bits<double>(std::uint64_t{(*this)[1]} << 32 | (*this)[0]);
  }
  DIFFSORT_HD int count() const { return static_cast<int>((*this)[2]); }
};

template <Regularization R>
struct CotangentMemory {
  static constexpr bool kl = R == Regularization::kl, log_kl = R == Regularization::log_kl;
  // kl: sums are those of results, and shares of their products with cotangents. log_kl: shares are
  // those of the parts of w's softmax.
  using Sums = FixedPoint<float, true>;
  using Shares = std::conditional_t<kl, FixedPoint<double, false>, FixedPoint<float, true>>;
  static constexpr int kFlags = 4;  // of which one is used
  struct alignas(16) Clear {
    std::uint32_t word[4];
  };

  int n, slots;
  // Cleared at the beginning.
  std::uint32_t *flags, *heads, *peaks, *sums, *shares, *tops;
  // Written as rows are read. kl: results; log_kl: w, and then the parts of its softmax
  float *g, *factors;
  ShortPlace *places, *w_places, *last_named;

  // Places are a multiple of the length, rounded up, so that they are soon found.
  DIFFSORT_HD CotangentMemory(void* memory, int n) : n(n), slots(rounded(n) / 2) {
    const int m = rounded(n);
    flags = static_cast<std::uint32_t*>(memory);
    heads = flags + kFlags;
    peaks = heads + m + kFlags;
    sums = peaks + (kl ? m : 0);
    shares = sums + Sums::kWords * (m / 2);
    tops = shares + (l2() ? 0 : Shares::kWords * (m / 2));
    g = reinterpret_cast<float*>(tops + (log_kl ? m / 2 : 0));
    factors = g + m;
    places = reinterpret_cast<ShortPlace*>(factors + (l2() ? 0 : m));
    w_places = places + m;
    last_named = w_places + m;
  }

  DIFFSORT_HD static int clears(int n) {
    constexpr int kSlotWords = Sums::kWords + (l2() ? 0 : Shares::kWords) + (log_kl ? 1 : 0);
    const int m = rounded(n);
    return (2 * kFlags + m + (kl ? m : 0) + kSlotWords * (m / 2)) / 4;
  }
  static std::size_t bytes(int n, bool by_w) {
    const int read = 4 * (l2() ? 1 : 2) + 2 * (log_kl ? 3 : by_w ? 2 : 1);
    return static_cast<std::size_t>(16 * clears(n) + read * rounded(n));
  }

  DIFFSORT_HD static constexpr bool l2() { return R == Regularization::l2; }

  // Known to all after a barrier.
  DIFFSORT_HD bool is_invalid() const { return load_bits(flags) != 0; }
  DIFFSORT_HD void make_invalid() const { store_bits(flags, 1); }

  DIFFSORT_HD int start(int e) const { return start_of(places[e]); }
  DIFFSORT_HD bool is_start(int position) const { return heads[position] != 0; }
  DIFFSORT_HD bool alone(int start) const { return is_start(start + 1); }
  // Element alone in its block.
  DIFFSORT_HD int element(int start) const { return Head::element(heads[start]); }
  DIFFSORT_HD SlotWords<Sums::kWords> sum(int start) const { return {sums + start / 2, slots}; }
  DIFFSORT_HD SlotWords<Shares::kWords> share(int start) const {
    return {shares + start / 2, slots};
  }

 private:
  DIFFSORT_HD static constexpr int rounded(int n) { return (n + 7) / 8 * 8; }
};

}  // namespace diffsort
