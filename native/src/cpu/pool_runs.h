// Pooling of kl ranks whose values lie near their top: blocks from runs.
//
// Where s = z / strength has a range of at most kReach, exp(s_i - s_0) is a normal number for every
// element. It is computed once, and serves for pooling and for values (block_values.h). A block's sums
// are plain ones,
//     S = sum of exp(s_i - s_0),   W = sum of rho_i,
// and neighbours violate the order where S_left W_right <= W_left S_right (block_sums.h).
//
// Such rows have many short blocks, and every step of growing them from single elements (pooling.h) is a
// branch that no processor can predict. So runs come first, stretches in which every element violates
// the order with the next: all of a run is in one block. One loop without a branch lists them, those
// of one element, too. Blocks then grow from violations between runs, of which few are left.
// Runs are listed kChunk elements at a time, behind the blocks found so far.
// Cost: O(n); an exponential per element. Scratch: 20 bytes per block, single elements included (10 per
// element at the most; rows with more blocks are refused), or 28 per element where exponentials are kept.
// Chosen: kl ranks of float32 whose range is at most kReach strengths, unless the row is so short that
// short_rows.h has to give the same bits.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "buffer.h"
#include "exp.h"
#include "operand.h"
#include "pooling.h"
#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

class RunPooling {
 public:
  static constexpr double kReach = 64.0;

  // `keep`: parts() are wanted, and sums relative to the row's first element, not to the block's. Returns
  // false where the row has more blocks than this way has memory for; `blocks` then means nothing.
  template <class T>
  bool run(std::int64_t n, double strength, const SortedValues<T>& z, bool keep,
           PooledBlocks<Regularization::kl>& blocks) {
    const std::int64_t most = keep ? n : n / 2 + kChunk;
    s_.get(static_cast<std::size_t>(most));
    w_.get(static_cast<std::size_t>(most));
    starts_.get(static_cast<std::size_t>(most) + 1);
    double* const parts = parts_.get(static_cast<std::size_t>((keep ? n : kChunk) + 2 * kLanes));
    count_ = 0;
    for (std::int64_t begin = 0; begin < n; begin += kChunk) {
      const std::int64_t size = std::min(kChunk, n - begin);
      if (count_ + size > most) return false;
      double* const of_chunk = keep ? parts + begin : parts;
      exponentials(begin, size, 1.0 / strength, z, of_chunk);
      grow(list_runs(n, begin, size, of_chunk));
    }
    list_blocks(n, blocks);
    if (!keep) {
      for (std::int64_t k = 0; k < blocks.count(); ++k) {
        blocks.sums(k).s /= exp_of((z(blocks.at(k).start) - z(0)) / strength);
      }
    }
    return true;
  }

  // exp(s_i - s_0), and some numbers behind them.
  const double* parts() const { return parts_.data(); }

 private:
  typedef std::int64_t PairMask __attribute__((vector_size(16)));

  static constexpr std::int64_t kChunk = 1024;

  template <class T>
  static void exponentials(std::int64_t begin, std::int64_t size, double scale,
                           const SortedValues<T>& z, double* parts) {
    const double top = z(0);
    for (std::int64_t k = 0; k < size; k += kLanes) {
      store(parts + k, exp_nonpositive((z.vector(begin + k) - top) * scale));
    }
  }

  // Those of [begin, begin + size), behind the blocks; returns how many.
  std::int64_t list_runs(std::int64_t n, std::int64_t begin, std::int64_t size,
                         const double* parts) {
    double *const s = s_.data() + count_, *const w = w_.data() + count_;
    std::int32_t* const starts = starts_.data() + count_;
    Pair sums{};
    auto rho = static_cast<double>(n - begin);
    std::int64_t runs = 0;
    std::int32_t start = static_cast<std::int32_t>(begin), next = start + 1;
    for (std::int64_t i = 0; i + 1 < size; ++i, ++next) {
      const double part = parts[i], next_part = parts[i + 1], next_rho = rho - 1.0;
      const PairMask joins = Pair{part, part} * next_rho <= Pair{next_part, next_part} * rho;
      sums += Pair{part, rho};
      s[runs] = sums[0];
      w[runs] = sums[1];
      starts[runs] = start;
      runs += 1 + joins[0];
      start = joins[0] != 0 ? start : next;
      sums = reinterpret_cast<Pair>(reinterpret_cast<PairMask>(sums) & joins);
      rho = next_rho;
    }
    s[runs] = sums[0] + parts[size - 1];
    w[runs] = sums[1] + rho;
    starts[runs] = start;
    return runs + 1;
  }

  // Takes the runs behind the blocks for blocks, and pools what violates the order.
  void grow(std::int64_t runs) {
    double *const s = s_.data(), *const w = w_.data();
    std::int32_t* const starts = starts_.data();
    std::int64_t count = count_, next = count;
    const std::int64_t end = count + runs;
    const auto keep = [&](Pair sums, std::int32_t start) {
      s[count] = sums[0];
      w[count] = sums[1];
      starts[count++] = start;
    };
    if (count > 0) next = --count;  // the first run may violate the order with the last block
    while (next < end) {
      next = pass_over(next, end, count);
      Pair block{s[next], w[next]};
      std::int32_t start = starts[next++];
      for (bool grown = next < end; grown;) {
        for (; next < end && violates(block, Pair{s[next], w[next]}); ++next) {
          block += Pair{s[next], w[next]};
        }
        grown = false;
        for (; count > 0 && violates(Pair{s[count - 1], w[count - 1]}, block); grown = true) {
          --count;
          block += Pair{s[count], w[count]};
          start = starts[count];
        }
      }
      keep(block, start);
    }
    count_ = count;
  }

  static bool violates(Pair left, Pair right) { return left[0] * right[1] <= left[1] * right[0]; }

  // Keeps runs from `next` on as blocks up to the first that violates the order with the one behind it,
  // or the last one, which is returned.
  std::int64_t pass_over(std::int64_t next, std::int64_t end, std::int64_t& count) {
    double *const s = s_.data(), *const w = w_.data();
    std::int32_t* const starts = starts_.data();
    for (; next + kLanes < end; next += kLanes, count += kLanes) {
      const Doubles sums = load(s + next), weights = load(w + next);
      if (mask_bits(sums * load(w + next + 1) <= weights * load(s + next + 1)) != 0) break;
      std::int32_t of_lanes[kLanes];
      std::memcpy(of_lanes, starts + next, sizeof of_lanes);
      store(s + count, sums);
      store(w + count, weights);
      std::memcpy(starts + count, of_lanes, sizeof of_lanes);
    }
    for (; next + 1 < end; ++next, ++count) {
      if (violates(Pair{s[next], w[next]}, Pair{s[next + 1], w[next + 1]})) break;
      s[count] = s[next];
      w[count] = w[next];
      starts[count] = starts[next];
    }
    return next;
  }

  // Those of more than one element.
  void list_blocks(std::int64_t n, PooledBlocks<Regularization::kl>& blocks) {
    const double *const s = s_.data(), *const w = w_.data();
    std::int32_t* const starts = starts_.data();
    starts[count_] = static_cast<std::int32_t>(n);
    blocks.clear(n);
    for (std::int64_t k = 0; k < count_; ++k) {  // without a branch, which would be mispredicted
      blocks.add({starts[k], starts[k + 1]}, {s[k], w[k]}, starts[k + 1] - starts[k] > 1);
    }
  }

  std::int64_t count_ = 0;  // blocks so far; runs stand behind them
  Buffer<double> s_, w_, parts_;
  Buffer<std::int32_t> starts_;
};

}  // namespace diffsort::DIFFSORT_LEVEL
