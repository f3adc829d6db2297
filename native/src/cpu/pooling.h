// Isotonic regression that touches only what pools: on finite sorted rows, with the numerics of
// block_sums.h.
//
// Neighbours i, i + 1 that violate the order, v_i <= v_{i+1}, are looked for side by side, kLanes at
// a time. From each a block grows to the right and to the left until neither neighbour violates.
// Elements that nothing pools are blocks of their own and are not stored.
// Between the blocks found so far and what lies right of them no order is violated to the left, so
// one sweep finds the partition, which is unique. (Best, Chakravarti 1990, call it pooling adjacent
// violators; the order of the poolings is free.)
// Cost: O(n). Scratch: up to 8 bytes per element (l2), 16 (kl, log_kl), where half of all are pairs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "diffsort/block_sums.h"
#include "exp.h"
#include "operand.h"

namespace diffsort::DIFFSORT_LEVEL {

// Sums of a block that grows, and how they compare with those of its neighbours.
//
// l2 works in the units of z: y = z - strength w, and neighbours violate where y_i <= y_{i+1}.
template <Regularization R, class Z, class W>
class Neighbours {
 public:
  using Sums = BlockSums<R>;
  using Shift = typename Sums::Shift;

  Neighbours(std::int64_t, double strength, const Z& z, const W& w)
      : units_{strength, 0.0, 0.0}, z_(z), w_(w) {}

  static Sums singleton(std::int64_t) { return {0.0}; }
  // Whether i and i + 1 violate the order, alone in their blocks; for i, ..., i + kLanes - 1.
  unsigned violations(std::int64_t i) {
    return mask_bits(z_.gaps(i) - units_.strength * w_.gaps(i) <= 0.0);
  }
  bool violates(std::int64_t i) const { return shift(i, i + 1, {}).y <= 0.0; }
  // From the first element of a block to that of its right neighbour.
  Shift shift(std::int64_t left, std::int64_t right, const Sums&) const {
    return Shift(units_, z_(left), z_(right), w_(left) - w_(right));
  }
  static void absorb(Sums& left, const Sums& right, std::int64_t size, const Shift& shift) {
    left.absorb(right, size, shift);
  }

 private:
  Units units_;
  Z z_;
  W w_;
};

// Sums of kl that know how far the block reaches: exponentials of the last element relative to
// the first. Products of them stand for the exponentials of distances between blocks.
template <Regularization R>
struct ReachingSums : BlockSums<R> {
  double s_reach = 1.0, w_reach = 1.0;
};

// kl and log_kl: exponentials of neighbouring distances are computed side by side, kWindow at once.
template <Regularization R, class Z, class W>
class ExpNeighbours {
 public:
  using Sums = ReachingSums<R>;
  using Shift = typename Sums::Shift;

  ExpNeighbours(std::int64_t n, double strength, const Z& z, const W& w)
      : n_(n), strength_(strength), z_(z), w_(w) {}

  Sums singleton(std::int64_t i) const { return {BlockSums<R>::singleton(w_(i))}; }

  unsigned violations(std::int64_t i) {
    if (kLogWeights) return mask_bits(z_.gaps(i) / strength_ <= w_.gaps(i));
    look_at(i, kLanes);
    return mask_bits(w_.vector(i + 1) <= w_.vector(i) * load(s_ + (i - window_)));
  }
  bool violates(std::int64_t i) {
    if (kLogWeights) return (z_(i) - z_(i + 1)) / strength_ <= w_(i) - w_(i + 1);
    look_at(i, 1);
    return w_(i + 1) <= w_(i) * s_[i - window_];
  }
  Shift shift(std::int64_t left, std::int64_t right, const Sums& block) {
    look_at(right - 1, 1);
    const double ds = (z_(left) - z_(right)) / strength_, dw = w_(left) - w_(right);
    const std::int64_t boundary = right - 1 - window_;
    return Shift(ds, dw, block.s_reach * s_[boundary],
                 kLogWeights ? block.w_reach * w_ratios_[boundary] : 1.0);
  }
  static void absorb(Sums& left, const Sums& right, std::int64_t size, const Shift& shift) {
    left.absorb(right, size, shift);
    left.s_reach = shift.s * right.s_reach;
    left.w_reach = shift.w * right.w_reach;
  }

 private:
  static constexpr bool kLogWeights = R == Regularization::log_kl;
  static constexpr std::int64_t kWindow = 64;

  // Has exp(-(s_i - s_{i+1})), and of w the same, for i and the next ones.
  void look_at(std::int64_t i, std::int64_t count) {
    if (i >= window_ && i + count <= window_ + kWindow) return;
    window_ = i;
    std::int64_t k = 0;
    for (; k < kWindow && i + k + kLanes < n_; k += kLanes) {
      store(s_ + k, exp_nonpositive(z_.gaps(i + k) / -strength_));
      if (kLogWeights) store(w_ratios_ + k, exp_nonpositive(-w_.gaps(i + k)));
    }
    for (; k < kWindow && i + k + 1 < n_; ++k) {
      s_[k] = exp_of((z_(i + k) - z_(i + k + 1)) / -strength_);
      if (kLogWeights) w_ratios_[k] = exp_of(w_(i + k + 1) - w_(i + k));
    }
  }

  std::int64_t n_;
  double strength_;
  Z z_;
  W w_;
  std::int64_t window_ = -kWindow;
  double s_[kWindow], w_ratios_[kWindow];
};

template <Regularization R, class Z, class W>
using NeighboursOf = std::conditional_t<R == Regularization::l2, Neighbours<R, Z, W>, ExpNeighbours<R, Z, W>>;

struct PooledBlock {
  std::int32_t start, end;
};

// The blocks of more than one element, from left to right; memory is kept from row to row.
template <Regularization R>
class BlockGrowth {
 public:
  template <class Z, class W>
  void run(std::int64_t n, double strength, const Z& z, const W& w) {
    NeighboursOf<R, Z, W> neighbours(n, strength, z, w);
    blocks_.clear();
    sums_.clear();
    std::int64_t i = 0;
    for (;;) {
      while (i + kLanes < n && neighbours.violations(i) == 0) i += kLanes;
      while (i + 1 < n && !neighbours.violates(i)) ++i;
      if (i + 1 >= n) return;
      i = grow(n, i, neighbours);
    }
  }

  const std::vector<PooledBlock>& blocks() const { return blocks_; }

 private:
  using Sums = std::conditional_t<R == Regularization::l2, BlockSums<R>, ReachingSums<R>>;

  // Pools all that the violation at i, i + 1 brings together; returns the end of that block.
  template <class N>
  std::int64_t grow(std::int64_t n, std::int64_t i, N& neighbours) {
    std::int64_t start = i, end = i + 1;
    Sums block = neighbours.singleton(i);
    bool grown = true;
    while (grown) {
      grown = false;
      for (; end < n; ++end) {
        const auto shift = neighbours.shift(start, end, block);
        const Sums next = neighbours.singleton(end);
        if (!Sums::violates(block, end - start, next, 1, shift)) break;
        neighbours.absorb(block, next, 1, shift);
      }
      while (start > 0) {
        const bool pooled = !blocks_.empty() && blocks_.back().end == start;
        const std::int64_t left_start = pooled ? blocks_.back().start : start - 1;
        Sums left = pooled ? sums_.back() : neighbours.singleton(left_start);
        const auto shift = neighbours.shift(left_start, start, left);
        if (!Sums::violates(left, start - left_start, block, end - start, shift)) break;
        neighbours.absorb(left, block, end - start, shift);
        block = left;
        start = left_start;
        if (pooled) {
          blocks_.pop_back();
          sums_.pop_back();
        }
        grown = true;
      }
    }
    blocks_.push_back({static_cast<std::int32_t>(start), static_cast<std::int32_t>(end)});
    sums_.push_back(block);
    return end;
  }

  std::vector<PooledBlock> blocks_;
  std::vector<Sums> sums_;
};

}  // namespace diffsort::DIFFSORT_LEVEL
