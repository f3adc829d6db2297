// From the partition of a sorted row to its results, where the elements stood.
//
// Rows have many short blocks, whose lengths no processor can predict. So values and ids are laid
// out in sorted order first, kChunk positions at a time: those of elements that nothing pools
// everywhere, and those of the blocks on top, in whole vectors; what these write beyond the end of a
// block is put right by one more. Then every element is brought to its place, in one loop without a
// branch.
// Cost: O(n); one read of sorted values and indices and one write to where they stood. Scratch: 8 KB
// (float64: 12 KB).
// Chosen: rows of up to kLongestSort (65536) elements; longer ones are written by write_long_row.h.
#pragma once

#include <cstdint>
#include <cstring>

#include "block_values.h"
#include "group.h"
#include "operand.h"
#include "pooling.h"
#include "row.h"

namespace diffsort::DIFFSORT_LEVEL {

// What of a row is written. Blocks may reach over both of its ends: where the part starts within one,
// and where one that starts in it ends beyond, their values are given.
template <class T, Regularization R>
struct RowPart {
  std::int64_t begin, end;
  std::int64_t block = 0;  // the first that ends beyond `begin`
  BlockValues<T, R> first = {}, last = {};
};

template <class T, Regularization R, class Z, class W>
class RowWriter {
 public:
  RowWriter(std::int64_t n, double strength, const Z& z, const W& w, const PooledBlocks<R>& blocks,
            const DenseOutput<T>& out)
      : RowWriter(strength, z, w, blocks, out, {0, n}) {
    in_order_ = n <= kLongestInGroup;
  }
  RowWriter(double strength, const Z& z, const W& w, const PooledBlocks<R>& blocks,
            const DenseOutput<T>& out, const RowPart<T, R>& part)
      : scale_(1.0 / strength),
        z_(z),
        w_(w),
        blocks_(blocks),
        out_(out),
        part_(part),
        next_(part.block),
        current_(part.first) {}

  void write() {
    for (std::int64_t begin = part_.begin; begin < part_.end; begin += kChunk) {
      const std::int64_t end = begin + kChunk < part_.end ? begin + kChunk : part_.end;
      lay_out(begin, end);
      if (out_.result != nullptr && out_.block_z != nullptr) {
        place_both(begin, end);
      } else {
        if (out_.result != nullptr) place(begin, end, z_, values_, out_.result);
        if (out_.block_z != nullptr) place(begin, end, z_, ids_, out_.block_z);
      }
      if (out_.block_w != nullptr) place(begin, end, w_, ids_, out_.block_w);
    }
  }

 private:
  static constexpr std::int64_t kChunk = 1024;
  static constexpr std::int64_t kIdLanes = kVectorBytes / 4;

  void lay_out(std::int64_t begin, std::int64_t end) {
    if (out_.result != nullptr) {
      for (std::int64_t k = begin; k < end; k += kLanes) set_own_values(begin, k);
    }
    for (std::int64_t k = begin; k < end; k += kIdLanes) set_own_ids(begin, k);
    for (; next_ < blocks_.count() && blocks_.at(next_).start < end; ++next_) {
      const PooledBlock block = blocks_.at(next_);
      const std::int64_t first = block.start > begin ? block.start : begin;
      const std::int64_t stop = block.end < end ? block.end : end;
      if (out_.result != nullptr) {
        if (block.start >= begin) current_ = values_of(block);
        for (std::int64_t k = first; k < stop; k += kLanes) {
          store(values_ + (k - begin), current_.from(k, z_) + 0.0);  // + 0.0: never -0
        }
        set_own_values(begin, stop);
      }
      const Ints id = Ints{} + block.start;
      for (std::int64_t k = first; k < stop; k += kIdLanes) {
        std::memcpy(ids_ + (k - begin), &id, sizeof id);
      }
      set_own_ids(begin, stop);
      if (block.end > end) break;  // it goes on in the next chunk
    }
  }

  // What elements from k on have if nothing pools them.
  void set_own_values(std::int64_t begin, std::int64_t k) {
    store(values_ + (k - begin), w_.vector(k) * out_.sign + 0.0);
  }
  void set_own_ids(std::int64_t begin, std::int64_t k) {
    Ints id{};
    for (int lane = 0; lane < kIdLanes; ++lane) id[lane] = lane;
    id += static_cast<std::int32_t>(k);
    std::memcpy(ids_ + (k - begin), &id, sizeof id);
  }

  BlockValues<T, R> values_of(const PooledBlock& block) const {
    if (block.end > part_.end) return part_.last;
    return {{block.start, block.end, in_order_}, scale_, z_, w_, blocks_.sums(next_), out_.sign};
  }

  template <class X, class V>
  static void place(std::int64_t begin, std::int64_t end, const X& x, const V* found, V* out) {
    for (std::int64_t i = begin; i < end; ++i) out[x.index(i)] = found[i - begin];
  }
  void place_both(std::int64_t begin, std::int64_t end) {
    T* const result = out_.result;
    std::int32_t* const ids = out_.block_z;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t place = z_.index(i);
      result[place] = values_[i - begin];
      ids[place] = ids_[i - begin];
    }
  }

  double scale_;
  Z z_;
  W w_;
  const PooledBlocks<R>& blocks_;
  DenseOutput<T> out_;
  RowPart<T, R> part_;
  bool in_order_ = false;
  std::int64_t next_;  // the first block that is not written to its end
  BlockValues<T, R> current_;
  T values_[kChunk + kLanes];
  std::int32_t ids_[kChunk + kIdLanes];
};

}  // namespace diffsort::DIFFSORT_LEVEL
