// The partition of kGroup sorted short rows: guessed in float32, then checked in double.
//
// With C_k = y_0 + ... + y_{k-1} of y = s - w, a block starts at i if every mean of elements that ends
// before i exceeds every mean of elements that begins at i (min-max formula of isotonic regression):
//     min_{j<i} (C_i - C_j) / (i - j)  >  max_{k>i} (C_k - C_i) / (k - i).
// All pairs j < k are looked at: five instructions for a pair and the whole group, and no branch.
//
// The guess is a partition; it is the one of block_sums.h if at every i the (part of a) block that
// ends there has a larger value than the (part of a) block that begins there where a block starts,
// and no larger one where none starts. That is checked without a quotient, in double and relative
// to elements of the block; a row in which a comparison is as close as rounding is not solved here.
// Cost: 2.5 n instructions per position (guess), 60 (check), for the group.
#pragma once

#include <cstdint>
#include <limits>

#include "group.h"

namespace diffsort::DIFFSORT_LEVEL {

// A block, or the part of it before (after) some position; sums relative to its first (last) element.
struct BlockPart {
  Doubles edge, sum, size;
};

class GroupBlocks {
 public:
  GroupBlocks() {
    for (std::int64_t k = 0; k < kLongestInGroup; ++k) {
      over_[k] = Floats{} + 1.0f / static_cast<float>(k + 1);
    }
  }

  // l2: where blocks start, if values are z and w is rho, or values are w and z is rho.
  template <bool kRank>
  void guess_l2(std::int64_t n, const Column* const* values, const Doubles* strength,
                const Doubles* range) {
    for (int half = 0; half < kHalves; ++half) {
      add_up<kRank>(n, half, *values[half], strength[half], range[half]);
    }
    Floats most{};
    for (std::int64_t k = 1; k <= n; ++k) {
      most = larger(sums_[k], larger(-sums_[k], most));
    }
    const Floats near = most * 0x1p-21f;
    for (std::int64_t k = 0; k <= n; ++k) below_[k] = Floats{} + kInfinity;
    for (std::int64_t j = 0; j < n; ++j) {
      const Floats start = sums_[j];
      Floats most_from_here = Floats{} - kInfinity;
      for (std::int64_t k = j; k < n; ++k) {
        const Floats mean = (sums_[k + 1] - start) * over_[k - j];
        below_[k + 1] = smaller(mean, below_[k + 1]);
        most_from_here = larger(mean, most_from_here);
      }
      const auto starts = below_[j] - most_from_here > near;
      typedef decltype(starts) Mask;
      HalfInts halves[kHalves];
      static_assert(sizeof(Mask) == sizeof halves);
      std::memcpy(halves, &starts, sizeof halves);
      for (int half = 0; half < kHalves; ++half) {
        starts_[half][j] = __builtin_convertvector(halves[half], Longs);
      }
    }
  }

  // Lanes in which the guess is proved; leaves the blocks for `before` and `starts`.
  template <bool kRank>
  Longs check_l2(std::int64_t n, int half, const Column& values, Doubles strength) {
    BlockPart left{};
    BlockPart* const before = before_[half];
    const Longs* const starts = starts_[half];
    for (std::int64_t i = 0; i < n; ++i) {
      const Doubles x = values[i];
      left.edge = starts[i] ? x : left.edge;
      left.sum = starts[i] ? Doubles{} : left.sum + (x - left.edge);
      left.size = (starts[i] ? Doubles{} : left.size) + 1.0;
      before[i] = left;
    }
    Longs proved = Longs{} - 1;
    BlockPart right{};
    Longs ends = Longs{} - 1;
    for (std::int64_t i = n - 1; i > 0; --i) {
      const Doubles x = values[i];
      right.edge = ends ? x : right.edge;
      right.sum = ends ? Doubles{} : right.sum + (x - right.edge);
      right.size = (ends ? Doubles{} : right.size) + 1.0;
      ends = starts[i];
      left = before[i - 1];
      // Mean of the left less that of the right, times both sizes: of the values, and of rho.
      const Doubles sizes = left.size * right.size;
      const Doubles apart = (left.edge - right.edge) * sizes;
      const Doubles of_values = apart + (left.sum * right.size - right.sum * left.size);
      const Doubles of_rho = 0.5 * sizes * (left.size + right.size);
      const Doubles falls =
          kRank ? of_values - strength * of_rho : of_rho - strength * of_values;
      const Doubles doubt = (kRank ? apart + strength * of_rho : of_rho + strength * apart) * 0x1p-44;
      proved &= (ends ? falls : -falls) > doubt;
    }
    return proved;
  }

  const BlockPart& before(int half, std::int64_t i) const { return before_[half][i]; }
  const Longs& starts(int half, std::int64_t i) const { return starts_[half][i]; }

 private:
  static constexpr float kInfinity = std::numeric_limits<float>::infinity();

  template <bool kRank>
  void add_up(std::int64_t n, int half, const Column& values, Doubles strength, Doubles range) {
    const Doubles scale = 1.0 / strength;
    const auto size = static_cast<double>(n);
    const Doubles most = broadcast(kRank ? size : 2.0 * size * size);
    const Doubles whole = smaller(range * (kRank ? scale : strength), broadcast(64.0 * size));
    Doubles y = kRank ? 0.5 * (whole - size) : 0.5 * (size - whole), sum{};
    store_sum(0, half, sum);
    for (std::int64_t i = 0; i < n; ++i) {
      if (i > 0) {
        const Doubles gap =
            smaller((values[i - 1] - values[i]) * (kRank ? scale : strength), most);
        y -= kRank ? gap - 1.0 : 1.0 - gap;
      }
      sum += y;
      store_sum(i + 1, half, sum);
    }
  }
  void store_sum(std::int64_t k, int half, Doubles sum) {
    store(reinterpret_cast<float*>(&sums_[k]) + half * kLanes, sum);
  }

  Floats over_[kLongestInGroup];  // 1 / (k + 1)
  Floats sums_[kLongestInGroup + 1], below_[kLongestInGroup + 1];
  Longs starts_[kHalves][kLongestInGroup];
  BlockPart before_[kHalves][kLongestInGroup];
};

}  // namespace diffsort::DIFFSORT_LEVEL
