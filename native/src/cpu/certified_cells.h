// Ranks of l2 whose values lie densely beside the strength, without a sort.
//
// Sorted values that differ by no more than the strength violate the order with their neighbours,
//     z_i - z_{i+1} <= strength = strength (rho_i - rho_{i+1}),
// so they share a block, and the order within a block does not matter. The range of a row is therefore
// divided into cells that are certain not to be wider than that, rounding included:
//
//     count      the elements of each cell, and how far they lie below the top, added up (in float64
//                below the upper bound of the cell, where sums lose fewer digits)
//     list       items, which have elements: a cell, or several that are dense enough to be one block
//                of their own (one_block.h), as most are in the middle of normal values
//     pool       the items, each as so many equal elements
//     write      every element, by its cell: mean rank of its block + (z_i - mean of the block) / strength
//
// An element alone in its block comes to its rank exactly. The width of cells has few digits, so that their
// bounds are exact, and with them all sums of whole numbers: exact ties pool, as in block_sums.h.
// Cost: O(n + cells); three reads of the row. Scratch: 24 bytes per cell, 4 per element, 24 per block.
// Chosen: where range / strength is below kMostSteps per element (there are up to a quarter more cells; from
// half a step per element down rows are one block, see one_block.h), and for more than 32 elements
// (kLongestInGroup) up to kLongest, whose table still is in a cache.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "buffer.h"
#include "row.h"
#include "scan.h"
#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

template <class T>
class CertifiedCells {
 public:
  // False: this row is not for here, and nothing was written.
  bool solve(std::int64_t n, DenseOperand<T> z, const RowFacts& facts, double strength,
             const DenseOutput<T>& out) {
    if (n > kLongest || !divide(n, z, facts, strength)) return false;
    count(n, z);
    pool(list_items());
    prepare_cells(n);
    write(n, z, out);
    return true;
  }

 private:
  static constexpr double kMostSteps = 2.0;  // per element
  static constexpr std::int64_t kLongest = std::int64_t{1} << 18;
  static constexpr std::int64_t kTogether = 8;  // cells that may become one item
  static constexpr bool kFromBounds = sizeof(T) == sizeof(double);  // sums, not from the top

  // A sum over elements, of how far they lie below, and their number; later a mean, and a mean rank.
  // Items that have pooled: y as in block_sums.h, relative to `first` below the top, which is the bound of
  // the first one or, if it is one element, where that lies.
  struct Block {
    double first, y;
    std::int32_t item, start;  // its first item and its first element
  };

  bool divide(std::int64_t n, DenseOperand<T> z, const RowFacts& facts, double strength) {
    const double range = facts.range(), steps = range / strength;
    if (!(steps < kMostSteps * static_cast<double>(n))) return false;
    // What is computed for two elements of a cell is off by two roundings of the range each.
    constexpr double kRounding = 4.0 * static_cast<double>(std::numeric_limits<T>::epsilon());
    int exponent;
    const double digits = std::frexp(strength / (1.0 + kRounding * (steps + 8.0)), &exponent);
    width_ = std::ldexp(std::floor(digits * 64.0), exponent - 6);
    scale_ = static_cast<T>(1.0 / width_);
    constexpr T kMax = std::numeric_limits<T>::max(), kMin = std::numeric_limits<T>::min();
    if (!(static_cast<T>(range) <= kMax && scale_ <= kMax && scale_ >= kMin)) return false;
    const auto cells = static_cast<std::int64_t>(range / width_ * (1.0 + kRounding)) + 2;
    cells_ = (cells + kTogether - 1) / kTogether * kTogether;
    top_ = static_cast<T>(z.sign < T(0) ? -facts.low : facts.high);
    strength_ = strength;
    return true;
  }

  void count(std::int64_t n, DenseOperand<T> z) {
    std::int32_t* const cell_of = cell_of_.get(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) {
      cell_of[i] = static_cast<std::int32_t>((top_ - z.sign * z.values[i]) * scale_);
    }
    double* const pairs = pairs_.get(static_cast<std::size_t>(2 * (cells_ + 4)));
    std::memset(pairs, 0, static_cast<std::size_t>(cells_) * sizeof(Pair));
    const double top = static_cast<double>(top_), sign = static_cast<double>(z.sign);
    const double width = width_;
    for (std::int64_t i = 0; i < n; ++i) {
      const double below = top - sign * static_cast<double>(z.values[i]);
      const Pair element{kFromBounds ? below - static_cast<double>(cell_of[i]) * width : below,
                         1.0};
      store_pair(pairs, cell_of[i], load_pair(pairs, cell_of[i]) + element);
    }
  }

  // Items take the place of cells, from the front. Returns how many there are.
  std::int64_t list_items() {
    std::int32_t* const first_cell = first_cell_.get(static_cast<std::size_t>(cells_) + 1);
    double* const pairs = pairs_.data();
    const std::int64_t cells = cells_;
    std::int64_t items = 0;
    for (std::int64_t begin = 0; begin < cells; begin += kTogether) {
      const std::int64_t end = begin + kTogether;
      Pair even{}, odd{};
#pragma GCC unroll 4
      for (std::int64_t c = begin; c < end; c += 2) {
        even += load_pair(pairs, c);
        odd += load_pair(pairs, c + 1);
      }
      Pair all = even + odd;
      if (all[1] >= 2.0 * kTogether) {
        for (std::int64_t c = begin + 1; kFromBounds && c < end; ++c) {
          all[0] += static_cast<double>(c - begin) * width_ * pairs[2 * c + 1];
        }
        store_pair(pairs, items, all);
        first_cell[items++] = static_cast<std::int32_t>(begin);
        continue;
      }
#pragma GCC unroll 8
      for (std::int64_t c = begin; c < end; ++c) {  // without a branch, which would be mispredicted
        const Pair cell = load_pair(pairs, c);
        std::int64_t size_bits;
        std::memcpy(&size_bits, pairs + 2 * c + 1, sizeof size_bits);
        store_pair(pairs, items, cell);
        first_cell[items] = static_cast<std::int32_t>(c);
        items += size_bits != 0;
      }
    }
    first_cell[items] = static_cast<std::int32_t>(cells);
    return items;
  }

  // A block takes the items right of it while they violate the order with it, then the blocks left of
  // it, and starts again (as in pooling.h).
  void pool(std::int64_t items) {
    Block* const blocks = blocks_.get(static_cast<std::size_t>(items) + 1);
    std::int64_t count = 0, next = 0;
    std::int32_t end = 0;
    while (next < items) {
      const Item item = item_at(next, pairs_.data(), first_cell_.data(), width_, strength_);
      Block block{item.first, item.y, static_cast<std::int32_t>(next++), end};
      end += static_cast<std::int32_t>(item.size);
      for (bool grown = true; grown;) {
        next = grow_right(items, next, block, end);
        grown = false;
        for (; count > 0 && absorbed_by(blocks[count - 1], block, end); --count) grown = true;
      }
      blocks[count++] = block;
    }
    block_count_ = count;
    blocks[count] = {0.0, 0.0, static_cast<std::int32_t>(items), end};
  }

  // An item as a block.
  struct Item {
    double first, y, size;
  };
  static Item item_at(std::int64_t k, const double* pairs, const std::int32_t* first_cell,
                      double width, double strength) {
    const double size = pairs[2 * k + 1], bound = static_cast<double>(first_cell[k]) * width;
    const double sum = kFromBounds ? pairs[2 * k] : pairs[2 * k] - size * bound;
    // Nothing is relative to one element. (A branch would be mispredicted.)
    const double alone = (Pair{size, size} == 1.0 ? Pair{sum, sum} : Pair{})[0];
    return {bound + alone, 0.5 * strength * size * (size - 1.0) - (sum - alone), size};
  }

  std::int64_t grow_right(std::int64_t items, std::int64_t next, Block& block,
                          std::int32_t& end) const {
    auto size = static_cast<double>(end - block.start);
    const double* const pairs = pairs_.data();
    const std::int32_t* const first_cell = first_cell_.data();
    const double strength = strength_, width = width_, first = block.first;
    double y = block.y;
    for (; next < items; ++next) {
      const Item item = item_at(next, pairs, first_cell, width, strength);
      const double apart = (item.first - first) - strength * size;
      if (!((apart * size + y) * item.size - item.y * size <= 0.0)) break;
      y += item.y - item.size * apart;
      size += item.size;
    }
    block.y = y;
    end = block.start + static_cast<std::int32_t>(size);
    return next;
  }

  // Whether they violate the order; then `block` is both.
  bool absorbed_by(const Block& left, Block& block, std::int32_t end) const {
    const auto left_size = static_cast<double>(block.start - left.start);
    const auto size = static_cast<double>(end - block.start);
    const double apart = (block.first - left.first) - strength_ * left_size;
    if (!((apart * left_size + left.y) * size - block.y * left_size <= 0.0)) return false;
    block = {left.first, left.y + (block.y - size * apart), left.item, left.start};
    return true;
  }

  // Every cell gets the mean of its block, below the top, its mean rank, and its id.
  void prepare_cells(std::int64_t n) {
    const std::int32_t* const first_cell = first_cell_.data();
    std::int32_t* const ids = ids_.get(static_cast<std::size_t>(cells_) + 4);
    double* const pairs = pairs_.data();
    for (const Block* block = blocks_.data(); block != blocks_.data() + block_count_; ++block) {
      const auto behind = static_cast<double>(block[1].start - block->start - 1);
      const Pair means{block->first + (0.5 * strength_ * behind - block->y / (behind + 1.0)),
                       static_cast<double>(n - block->start) - 0.5 * behind};
      // Most blocks have few cells, which are not counted: what is behind them is written again.
      std::int64_t c = first_cell[block->item];
      const std::int64_t end = first_cell[block[1].item];
      do {
        for (int k = 0; k < 4; ++k) {
          store_pair(pairs, c + k, means);
          ids[c + k] = block->start;
        }
        c += 4;
      } while (c < end);
    }
  }

  void write(std::int64_t n, DenseOperand<T> z, const DenseOutput<T>& out) const {
    const std::int32_t *const cell_of = cell_of_.data(), *const ids = ids_.data();
    if (out.result != nullptr) write_ranks(n, z, out);
    if (out.block_z != nullptr) {
      for (std::int64_t i = 0; i < n; ++i) out.block_z[i] = ids[cell_of[i]];
    }
    if (out.block_w == nullptr) return;
    for (const Block* block = blocks_.data(); block != blocks_.data() + block_count_; ++block) {
      fill(out.block_w + block->start, block[1].start - block->start, block->start);
    }
  }

  void write_ranks(std::int64_t n, DenseOperand<T> z, const DenseOutput<T>& out) const {
    const std::int32_t* const cell_of = cell_of_.data();
    const double* const pairs = pairs_.data();
    const double top = static_cast<double>(top_), sign = static_cast<double>(z.sign);
    const double scale = 1.0 / strength_;
    const auto rank = [&](Doubles values, Doubles means, Doubles mean_ranks) {
      return (mean_ranks + (means - (top - sign * values)) * scale) * out.sign;
    };
    std::int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      const double* at[kLanes];
      for (int k = 0; k < kLanes; ++k) at[k] = pairs + 2 * std::int64_t{cell_of[i + k]};
      store(out.result + i, rank(load(z.values + i), gather([&](int k) { return at[k][0]; }),
                                 gather([&](int k) { return at[k][1]; })));
    }
    for (; i < n; ++i) {
      const Pair means = load_pair(pairs, cell_of[i]);
      out.result[i] = static_cast<T>(rank(broadcast(static_cast<double>(z.values[i])),
                                          broadcast(means[0]), broadcast(means[1]))[0]);
    }
  }

  std::int64_t cells_ = 0, block_count_ = 0;
  T scale_{}, top_{};
  double strength_ = 0.0, width_ = 0.0;
  Buffer<double> pairs_;
  Buffer<std::int32_t> cell_of_, first_cell_, ids_;
  Buffer<Block> blocks_;
};

}  // namespace diffsort::DIFFSORT_LEVEL
