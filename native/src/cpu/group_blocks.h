// The blocks of kGroup sorted short rows, found in float32 with a bound for its errors.
//
// With C_k = y_0 + ... + y_{k-1} of y = s - w, a block starts at i if every mean of elements that end
// before i exceeds every mean of elements that begin at i (min-max formula of isotonic regression):
//     min_{j<i} (C_i - C_j) / (i - j)  >  max_{k>i} (C_k - C_i) / (k - i).
// All pairs j < k are looked at: five instructions for a pair and the whole group, and no branch.
//
// C is added up in double. Rounded to float32, a mean is wrong by 2^-24 (2 max |C| + 3 max |y|) at most.
// Where the two sides are further apart than both errors, the answer is certain; a row in which they
// are not somewhere (six in a thousand normal ones at most, and many that hold integers) is not for
// here.
//
// Distances that decide by themselves are cut, lest an outlier takes all digits. Ranks (w = rho): a gap
// of more than n / 2 in s always separates, for means of w differ by n / 2 at most. Sorted values
// (z = rho): if w has a gap of more than n^2 / (2 strength), the row is one block, for the means of what
// is above and below any position then differ by more than n / (2 strength), and those of z by that.
// kl ranks: the same with sums of exp(s) over sums of rho for means. Sums run from each i in both
// directions, of exponentials relative to that of i, which are products of those of neighbours; a
// quotient is wrong by (3.1 n + 4) 2^-24 of itself at most, the error of exp in float32 included. A gap of
// more than log n always separates. What grows beyond float32 is no minimum.
// log_kl sorted values: sums of exp(w) over those of exp(z), which with z = rho / strength depend on the
// number of elements alone; the inverse of what is compared above, and so the other way round. Rows
// of w so wide that the sums might grow beyond float32 are not for here.
// Cost: 2.5 n (l2) or 5 n (kl), and about 40, instructions for each position of the group.
// Chosen: by short_rows.h, always; a row whose answer is not certain is solved alone.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

#include "exp.h"
#include "group.h"

namespace diffsort::DIFFSORT_LEVEL {

class GroupBlocks {
 public:
  GroupBlocks() {
    for (std::int64_t k = 0; k < kLongestInGroup; ++k) {
      over_[k] = Floats{} + 1.0f / static_cast<float>(k + 1);
    }
  }

  // l2; `certain` gets the lanes whose blocks are found. `values` are those of z for ranks, else of w.
  template <bool kRank>
  void find_l2(std::int64_t n, const Column* const* values, const Doubles* strength,
               const Doubles* range, Longs* certain) {
    for (int half = 0; half < kHalves; ++half) {
      add_up<kRank>(n, half, *values[half], strength[half], range[half]);
    }
    Floats most_sum{}, most_y{};
    for (std::int64_t k = 1; k <= n; ++k) {
      most_sum = larger(absolute(sums_[k]), most_sum);
      most_y = larger(absolute(sums_[k] - sums_[k - 1]), most_y);
    }
    const Floats error = (most_sum + 1.5f * most_y) * 0x1.2p-22f;
    for (std::int64_t k = 0; k <= n; ++k) lowest_[k] = Floats{} + kInfinity;
    Ints sure = Ints{} - 1;
    for (std::int64_t j = 0; j < n; j += 2) {
      // Means from j and from j + 1, to every end.
      const Floats first = sums_[j], second = sums_[j + 1];
      Floats high = sums_[j + 1] - first, second_high = Floats{} - kInfinity;
      lowest_[j + 1] = smaller(high, lowest_[j + 1]);
      for (std::int64_t k = j + 2; k <= n; ++k) {
        const Floats sum = sums_[k];
        const Floats mean = (sum - first) * over_[k - j - 1];
        const Floats second_mean = (sum - second) * over_[k - j - 2];
        lowest_[k] = smaller(smaller(mean, second_mean), lowest_[k]);
        high = larger(mean, high);
        second_high = larger(second_mean, second_high);
      }
      sure &= start_at(j, high, error);
      if (j + 1 < n) sure &= start_at(j + 1, second_high, error);
    }
    split(sure, certain);
  }

  // Of ranks in kl.
  void find_kl(std::int64_t n, const Column* const* values, const Doubles* strength,
               Longs* certain) {
    over_means_of_rho(n);
    for (int half = 0; half < kHalves; ++half) {
      find_ratios(n, half, *values[half], strength[half], kFarApart);
    }
    const float error = static_cast<float>(n + 4) * 0x1p-21f;
    const Floats lowest = Floats{} + kLowestPart;
    Ints sure = Ints{} - 1;
    starts_[0] = Ints{} - 1;
    for (std::int64_t i = 1; i < n; ++i) {
      const Floats* const over_rho = over_rho_ + i;
      Floats part = Floats{} + 1.0f, sum = part, high = over_rho[i];
      for (std::int64_t k = i + 1; k < n; ++k) {
        part = larger(part * down_[k], lowest);
        sum += part;
        high = larger(sum * over_[k - i] * over_rho[k], high);
      }
      const Floats* const over_rho_left = over_rho_ + (i - 1);
      Floats left = up_[i], left_sum = left, low = left * over_rho_left[i - 1];
      for (std::int64_t j = i - 2; j >= 0; --j) {
        left *= up_[j + 1];
        left_sum += left;
        low = smaller(left_sum * over_[i - 1 - j] * over_rho_left[j], low);
      }
      const Floats falls = low - high;
      starts_[i] = falls > 0.0f;
      sure &= absolute(falls) > error * high;
    }
    split(sure, certain);
  }

  // For find_log_kl: powers are exp(-k / strength), totals their sums up to k, of every row.
  void set_totals_of_rho(std::int64_t n, const Columns& powers, const Columns& totals) {
    for (int half = 0; half < kHalves; ++half) {
      for (std::int64_t k = 0; k < n; ++k) {
        store_half(over_right_[k], half, 1.0 / totals[half][k]);
        if (k == 0) continue;
        const Doubles over_left = over_total_before(powers[half][k], totals[half][k - 1]);
        store_half(over_left_[k], half, over_left);
      }
    }
  }

  // Of sorted values in log_kl.
  void find_log_kl(std::int64_t n, const Column* const* values, const Doubles* range,
                   Longs* certain) {
    for (int half = 0; half < kHalves; ++half) {
      find_ratios(n, half, *values[half], broadcast(1.0), kFarthest);
    }
    const float error = static_cast<float>(n + 4) * 0x1p-21f;
    Ints sure = Ints{} - 1;
    starts_[0] = Ints{} - 1;
    for (std::int64_t i = 1; i < n; ++i) {
      Floats part = Floats{} + 1.0f, sum = part, low = part;
      for (std::int64_t k = i + 1; k < n; ++k) {
        part *= down_[k];
        sum += part;
        low = smaller(sum * over_right_[k - i], low);
      }
      Floats left = up_[i], left_sum = left, high = left * over_left_[1];
      for (std::int64_t j = i - 2; j >= 0; --j) {
        left *= up_[j + 1];
        left_sum += left;
        high = larger(left_sum * over_left_[i - j], high);
      }
      const Floats falls = low - high;
      starts_[i] = falls > 0.0f;
      sure &= absolute(falls) > error * low;
    }
    split(sure, certain);
    for (int half = 0; half < kHalves; ++half) certain[half] &= range[half] <= kFarthest;
  }

  Longs starts(int half, std::int64_t i) const {
    HalfInts mask;
    std::memcpy(&mask, reinterpret_cast<const std::int32_t*>(&starts_[i]) + half * kLanes,
                sizeof mask);
    return widen(mask);
  }
  Ints starts(std::int64_t i) const { return starts_[i]; }

 private:
  static constexpr float kInfinity = std::numeric_limits<float>::infinity();

  static Floats absolute(Floats x) {
    return reinterpret_cast<Floats>(reinterpret_cast<Ints>(x) & 0x7fffffff);
  }

  static void split(Ints mask, Longs* halves) {
    HalfInts narrow[kHalves];
    std::memcpy(narrow, &mask, sizeof narrow);
    for (int half = 0; half < kHalves; ++half) {
      halves[half] = widen(narrow[half]);
    }
  }

  // All means that end before j are there; `high` is the largest that begins at j.
  Ints start_at(std::int64_t j, Floats high, Floats error) {
    const Floats falls = lowest_[j] - high;
    starts_[j] = falls > 0.0f;
    return absolute(falls) > error;
  }

  template <bool kRank>
  void add_up(std::int64_t n, int half, const Column& values, Doubles strength, Doubles range) {
    const Doubles scale = kRank ? 1.0 / strength : strength;
    const auto size = static_cast<double>(n);
    const Doubles most = broadcast(kRank ? size : size * size);
    // Begins so that the middle is about 0.
    const Doubles whole = smaller(range * scale, broadcast(64.0 * size)) - size;
    Doubles y = kRank ? 0.5 * whole : -0.5 * whole, sum = y;
    store_half(sums_[0], half, Doubles{});
    store_half(sums_[1], half, sum);
    for (std::int64_t i = 1; i < n; ++i) {
      const Doubles gap = smaller((values[i - 1] - values[i]) * scale, most) - 1.0;
      y = kRank ? y - gap : y + gap;
      sum += y;
      store_half(sums_[i + 1], half, sum);
    }
  }

  // exp(s_i - s_{i-1}) and its inverse, of gaps up to `most`.
  void find_ratios(std::int64_t n, int half, const Column& values, Doubles strength, double most) {
    const Doubles scale = 1.0 / strength;
    for (std::int64_t i = 1; i < n; ++i) {
      const Doubles gap = smaller((values[i - 1] - values[i]) * scale, broadcast(most));
      const Doubles ratio = exp_nonpositive<float>(-gap);
      store_half(down_[i], half, ratio);
      store_half(up_[i], half, 1.0 / ratio);
    }
  }

  // over_rho_[j + k] = 1 / mean of rho_j, ..., rho_k
  void over_means_of_rho(std::int64_t n) {
    if (n == n_) return;
    n_ = n;
    for (std::int64_t t = 0; t + 1 < 2 * n; ++t) {
      over_rho_[t] = Floats{} + 1.0f / (static_cast<float>(n) - 0.5f * static_cast<float>(t));
    }
  }

  // 1 / (exp(1 / strength) + ... + exp(k / strength)). Below 1e-30 sums of exp(w) cannot bring it near
  // those of the other side, which are about 1 then; in float32 it might be denormal, which is slow.
  static Doubles over_total_before(Doubles power, Doubles total) {
    return power < 1e-30 ? Doubles{} : power / total;
  }

  static void store_half(Floats& to, int half, Doubles x) {
    store(reinterpret_cast<float*>(&to) + half * kLanes, x);
  }

  // Parts of sums that are at least 1 count as this where they are less, which adds 2^-28 at most: they
  // would come to denormal numbers, which take some processors a hundred cycles each.
  static constexpr float kLowestPart = 1e-10f;
  static constexpr double kFarApart = 10.0;  // log n <= log 32 < 3.5
  static constexpr double kFarthest = 60.0;  // sums of 32 exp(60) are far from float32's limit

  Floats over_[kLongestInGroup];  // 1 / (k + 1)
  Floats sums_[kLongestInGroup + 1], lowest_[kLongestInGroup + 1];
  Ints starts_[kLongestInGroup];
  std::int64_t n_ = 0;  // of over_rho_
  Floats over_rho_[2 * kLongestInGroup];
  // Over exp(z_i), 1 / (exp(z_i) + ... + exp(z_{i+k})) and 1 / (exp(z_{i-1}) + ... + exp(z_{i-k}))
  Floats over_right_[kLongestInGroup], over_left_[kLongestInGroup];
  Floats down_[kLongestInGroup], up_[kLongestInGroup];
};

}  // namespace diffsort::DIFFSORT_LEVEL
