// Isotonic regression that touches only what pools: on finite sorted rows, with the numerics of
// block_sums.h. (Where sorted_row.h leaves parts unsorted they come out as one block.)
//
// Neighbours i, i + 1 that violate the order, v_i <= v_{i+1}, are looked for side by side, kLanes at
// a time. From each a block grows to the right and to the left until neither neighbour violates.
// Elements that nothing pools are blocks of their own and are not stored.
// Between the blocks found so far and what lies right of them no order is violated to the left, so
// one sweep finds the partition, which is unique. (Best, Chakravarti 1990, call it pooling adjacent
// violators; the order of the poolings is free.)
// Cost: O(n). Scratch: 16 bytes per block (l2), 40 (kl, log_kl), of which there are n / 2 at most.
// Chosen: sorted rows of which neither one_block.h, pool_runs.h nor certified_cells.h has found the blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "buffer.h"
#include "diffsort/block_sums.h"
#include "exp.h"
#include "operand.h"

namespace diffsort::DIFFSORT_LEVEL {

// What a block does with its neighbours. Single ones, which most are, have loops of their own; all say
// the same as BlockSums::violates and absorb.
//
// l2 works in the units of z: y = z - strength w, and neighbours violate where y_i <= y_{i+1}.
template <Regularization R, class Z, class W>
class Neighbours {
 public:
  using Sums = BlockSums<R>;
  using Shift = typename Sums::Shift;

  Neighbours(std::int64_t n, double strength, const Z& z, const W& w)
      : n_(n), strength_(strength), z_(z), w_(w) {}

  // Whether i and i + 1 may violate the order, alone in their blocks; for i, ..., i + kLanes - 1.
  unsigned candidates(std::int64_t i) const {
    return mask_bits(z_.gaps(i) - strength_ * w_.gaps(i) <= 0.0);
  }
  bool violates(std::int64_t i) const { return distance(i, i + 1) <= 0.0; }

  Sums pair(std::int64_t i) const { return {-distance(i, i + 1)}; }
  // The block [start, end) takes the elements right of it; returns its new end.
  std::int64_t grow_right(std::int64_t start, std::int64_t end, Sums& block) const {
    const double z_first = z_(start), w_first = w_(start);
    auto size = static_cast<double>(end - start);
    double y = block.y;
    for (; end < n_; ++end, size += 1.0) {
      const double apart = (z_first - z_(end)) - strength_ * (w_first - w_(end));
      if (!(apart * size + y <= 0.0)) break;
      y -= apart;
    }
    block.y = y;
    return end;
  }
  // The same to the left, as far as `limit`; returns the new start.
  std::int64_t grow_left(std::int64_t limit, std::int64_t start, std::int64_t end,
                         Sums& block) const {
    auto size = static_cast<double>(end - start);
    for (; start > limit; --start, size += 1.0) {
      const double apart = distance(start - 1, start);
      if (!(apart * size - block.y <= 0.0)) break;
      block.y -= size * apart;
    }
    return start;
  }
  // From the first element of a block to that of its right neighbour.
  Shift shift(std::int64_t left, std::int64_t right, const Sums&) const {
    return Shift({strength_, 0.0, 0.0}, z_(left), z_(right), w_(left) - w_(right));
  }
  static void absorb(Sums& left, const Sums& right, std::int64_t size, const Shift& shift) {
    left.absorb(right, size, shift);
  }

 private:
  double distance(std::int64_t left, std::int64_t right) const {
    return (z_(left) - z_(right)) - strength_ * (w_(left) - w_(right));
  }

  std::int64_t n_;
  double strength_;
  Z z_;
  W w_;
};

// Sums of kl that know how far the block reaches: exponentials of the last element relative to
// the first. Products of them stand for the exponentials of distances between blocks.
template <Regularization R>
struct ReachingSums : BlockSums<R> {
  double s_reach, w_reach;
};

// kl and log_kl: exponentials of neighbouring distances are computed side by side, kWindow at once.
template <Regularization R, class Z, class W>
class ExpNeighbours {
 public:
  using Sums = ReachingSums<R>;
  using Shift = typename Sums::Shift;

  ExpNeighbours(std::int64_t n, double strength, const Z& z, const W& w)
      : n_(n), strength_(strength), z_(z), w_(w) {}

  unsigned candidates(std::int64_t i) {
    if (kLogWeights) return mask_bits(z_.gaps(i) / strength_ - w_.gaps(i) <= kNear);
    look_at(i, kLanes);
    const Doubles ratios = load(s_ratios_ + (i - window_));
    Longs mask = w_.vector(i + 1) <= w_.vector(i) * ratios;
    if (!kWeightsAreRho) mask |= ratios < Sums::kUnderflow;
    return mask_bits(mask);
  }
  bool violates(std::int64_t i) {
    if (kLogWeights) {
      const double ds = (z_(i) - z_(i + 1)) / strength_, dw = w_(i) - w_(i + 1);
      return ds - dw <= 0.0 || (ds - dw <= kNear && std::exp(-dw) <= std::exp(-ds));
    }
    look_at(i, 1);
    const double ratio = s_ratios_[i - window_];
    if (!kWeightsAreRho && ratio < Sums::kUnderflow) {
      const Shift far((z_(i) - z_(i + 1)) / strength_, 0.0, ratio, 1.0);
      return Sums::violates(singleton(i), 1, singleton(i + 1), 1, far);
    }
    return w_(i + 1) <= w_(i) * ratio;
  }

  Sums pair(std::int64_t i) {
    Sums block = singleton(i);
    absorb(block, singleton(i + 1), 1, shift(i, i + 1, block));
    return block;
  }
  std::int64_t grow_right(std::int64_t start, std::int64_t end, Sums& block) {
    Sums grown = block;  // in registers
    for (; end < n_; ++end) {
      look_at(end - 1, 1);
      const double s = grown.s_reach * s_ratios_[end - 1 - window_];
      if (s < Sums::kUnderflow) {  // rare
        const Sums next = singleton(end);
        const Shift far = shift(start, end, grown);
        if (!Sums::violates(grown, end - start, next, 1, far)) break;
        absorb(grown, next, 1, far);
        continue;
      }
      const double w_reach =
          kLogWeights ? grown.w_reach * w_ratios_[end - 1 - window_] : grown.w_reach;
      const double w = kLogWeights ? w_reach : w_(end);
      if (!(grown.s * w <= grown.w * s)) break;
      grown.s += s;
      grown.w += w;
      grown.s_reach = s;
      grown.w_reach = w_reach;
    }
    block = grown;
    return end;
  }
  std::int64_t grow_left(std::int64_t limit, std::int64_t start, std::int64_t end, Sums& block) {
    for (; start > limit; --start) {
      Sums left = singleton(start - 1);
      const Shift step = shift(start - 1, start, left);
      if (!Sums::violates(left, 1, block, end - start, step)) break;
      absorb(left, block, end - start, step);
      block = left;
    }
    return start;
  }
  Shift shift(std::int64_t left, std::int64_t right, const Sums& block) {
    const double ds = (z_(left) - z_(right)) / strength_, dw = w_(left) - w_(right);
    double s, w = 1.0;
    if (right - 1 >= window_) {
      look_at(right - 1, 1);
      s = s_ratios_[right - 1 - window_];
      if (kLogWeights) w = w_ratios_[right - 1 - window_];
    } else {  // left of all that is kept: the block has grown long
      s = exp_of((z_(right - 1) - z_(right)) / -strength_);
      if (kLogWeights) w = exp_of(w_(right) - w_(right - 1));
    }
    return Shift(ds, dw, block.s_reach * s, kLogWeights ? block.w_reach * w : 1.0);
  }
  static void absorb(Sums& left, const Sums& right, std::int64_t size, const Shift& shift) {
    left.absorb(right, size, shift);
    left.s_reach = shift.s * right.s_reach;
    left.w_reach = shift.w * right.w_reach;
  }

 private:
  static constexpr bool kLogWeights = R == Regularization::log_kl;
  // Between 1 and n. Others may be so small that they pool with what lies far above them.
  static constexpr bool kWeightsAreRho = std::is_same_v<W, Rho>;
  static constexpr std::int64_t kWindow = 64;
  // Exponentials of numbers that are nearer may round to one.
  static constexpr double kNear = 0x1p-51;

  Sums singleton(std::int64_t i) const { return {BlockSums<R>::singleton(w_(i)), 1.0, 1.0}; }

  // Has exp(-(s_i - s_{i+1})), and of w the same, for i and the next ones. The window moves to the
  // right only.
  void look_at(std::int64_t i, std::int64_t count) {
    if (i + count > window_ + kWindow) fill_from(i);
  }
  void fill_from(std::int64_t i) {
    window_ = i;
    std::int64_t k = 0;
    for (; k < kWindow && i + k + kLanes < n_; k += kLanes) {
      store(s_ratios_ + k, exp_nonpositive(z_.gaps(i + k) / -strength_));
      if (kLogWeights) store(w_ratios_ + k, exp_nonpositive(-w_.gaps(i + k)));
    }
    for (; k < kWindow && i + k + 1 < n_; ++k) {
      s_ratios_[k] = exp_of((z_(i + k) - z_(i + k + 1)) / -strength_);
      if (kLogWeights) w_ratios_[k] = exp_of(w_(i + k + 1) - w_(i + k));
    }
  }

  std::int64_t n_;
  double strength_;
  Z z_;
  W w_;
  std::int64_t window_ = -kWindow;
  double s_ratios_[kWindow], w_ratios_[kWindow];
};

template <Regularization R, class Z, class W>
using NeighboursOf =
    std::conditional_t<R == Regularization::l2, Neighbours<R, Z, W>, ExpNeighbours<R, Z, W>>;

struct PooledBlock {
  std::int32_t start, end;
};

// The blocks of more than one element, from left to right; memory is kept from row to row.
template <Regularization R>
class PooledBlocks {
 public:
  using Sums = std::conditional_t<R == Regularization::l2, BlockSums<R>, ReachingSums<R>>;

  // Makes room for those of n elements.
  void clear(std::int64_t n) {
    const auto most = static_cast<std::size_t>(n / 2 + 1);
    blocks_.get(most);
    sums_.get(most);
    count_ = 0;
  }
  // One with these sums, if it is to be `kept`.
  void add(PooledBlock block, const BlockSums<R>& sums, bool kept = true) {
    blocks_.data()[count_] = block;
    static_cast<BlockSums<R>&>(sums_.data()[count_]) = sums;
    count_ += kept;
  }

  std::int64_t count() const { return count_; }
  const PooledBlock* begin() const { return blocks_.data(); }
  const PooledBlock* end() const { return begin() + count_; }
  PooledBlock at(std::int64_t k) const { return blocks_.data()[k]; }
  const Sums& sums(std::int64_t k) const { return sums_.data()[k]; }
  Sums& sums(std::int64_t k) { return sums_.data()[k]; }

 protected:
  Buffer<PooledBlock> blocks_;
  Buffer<Sums> sums_;
  std::int64_t count_ = 0;
};

// Finds them.
template <Regularization R>
class BlockGrowth : public PooledBlocks<R> {
 public:
  using typename PooledBlocks<R>::Sums;
  using PooledBlocks<R>::at;

  template <class Z, class W>
  void run(std::int64_t n, double strength, const Z& z, const W& w) {
    NeighboursOf<R, Z, W> neighbours(n, strength, z, w);
    this->clear(n);
    for (std::int64_t i = 0; (i = next_violation(n, i, neighbours)) < n;) i = grow(i, neighbours);
  }

 private:
  using PooledBlocks<R>::blocks_;
  using PooledBlocks<R>::sums_;
  using PooledBlocks<R>::count_;

  // The first i from here on that violates the order with i + 1, or n.
  template <class N>
  static std::int64_t next_violation(std::int64_t n, std::int64_t i, N& neighbours) {
    for (; i + kLanes < n; i += kLanes) {
      const unsigned candidates = neighbours.candidates(i);
      if (candidates == 0) continue;
      for (std::int64_t k = lowest_bit(candidates); k < kLanes; ++k) {
        if (neighbours.violates(i + k)) return i + k;
      }
    }
    for (; i + 1 < n; ++i) {
      if (neighbours.violates(i)) return i;
    }
    return n;
  }

  // Pools all that the violation at i, i + 1 brings together; returns the end of that block.
  template <class N>
  std::int64_t grow(std::int64_t i, N& neighbours) {
    std::int64_t start = i, end = i + 2;
    Sums block = neighbours.pair(i);
    for (bool grown = true; grown;) {
      end = neighbours.grow_right(start, end, block);
      const std::int64_t limit = count_ == 0 ? 0 : at(count_ - 1).end;
      const std::int64_t old_start = start;
      start = neighbours.grow_left(limit, start, end, block);
      if (start == limit && count_ > 0) absorb_last(start, end, block, neighbours);
      grown = start < old_start;
    }
    blocks_.data()[count_] = {static_cast<std::int32_t>(start), static_cast<std::int32_t>(end)};
    sums_.data()[count_++] = block;
    return end;
  }

  // The last of the blocks found so far, if it violates the order with this one, its neighbour.
  template <class N>
  void absorb_last(std::int64_t& start, std::int64_t end, Sums& block, N& neighbours) {
    const PooledBlock last = at(count_ - 1);
    Sums left = sums_.data()[count_ - 1];
    const auto shift = neighbours.shift(last.start, start, left);
    if (!Sums::violates(left, last.end - last.start, block, end - start, shift)) return;
    neighbours.absorb(left, block, end - start, shift);
    block = left;
    start = last.start;
    --count_;
  }
};

}  // namespace diffsort::DIFFSORT_LEVEL
