// From the partition of a sorted row to its results, where the elements stood.
//
// Rows have many short blocks, whose lengths no processor can predict. So values and ids are laid
// out in sorted order first, kChunk positions at a time, in whole vectors that reach beyond the end
// of a block: what follows overwrites the excess. Then every element is brought to its place, in
// one loop without a branch.
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
  RowWriter(std::int64_t n, double strength, const Z& z, const W& w, const BlockGrowth<R>& blocks,
            const DenseOutput<T>& out)
      : RowWriter(strength, z, w, blocks, out, {0, n}) {
    in_order_ = n <= kLongestInGroup;
  }
  RowWriter(double strength, const Z& z, const W& w, const BlockGrowth<R>& blocks,
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
      if (out_.result != nullptr) place(begin, end, z_, values_, out_.result);
      if (out_.block_z != nullptr) place(begin, end, z_, ids_, out_.block_z);
      if (out_.block_w != nullptr) place(begin, end, w_, ids_, out_.block_w);
    }
  }

 private:
  static constexpr std::int64_t kChunk = 1024;
  static constexpr std::int64_t kIdLanes = kVectorBytes / 4;
  typedef std::int32_t Ids __attribute__((vector_size(kVectorBytes)));

  void lay_out(std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end;) {
      const bool pooled = next_ < blocks_.count() && blocks_.at(next_).start <= i;
      std::int64_t stop = pooled                    ? blocks_.at(next_).end
                          : next_ < blocks_.count() ? blocks_.at(next_).start
                                                    : part_.end;
      const bool ends_here = stop <= end;
      if (!ends_here) stop = end;
      if (pooled) {
        const PooledBlock block = blocks_.at(next_);
        if (out_.result != nullptr) {
          if (block.start == i) {
            current_ = block.end > part_.end
                           ? part_.last
                           : BlockValues<T, R>({block.start, block.end, in_order_}, scale_, z_, w_,
                                               blocks_.sums(next_), out_.sign);
          }
          for (std::int64_t k = i; k < stop; k += kLanes) {
            store(values_ + (k - begin), current_.from(k, z_) + 0.0);  // + 0.0: never -0
          }
        }
        const Ids id = Ids{} + block.start;
        for (std::int64_t k = i; k < stop; k += kIdLanes) {
          std::memcpy(ids_ + (k - begin), &id, sizeof id);
        }
        if (ends_here) ++next_;
      } else {
        if (out_.result != nullptr) {
          for (std::int64_t k = i; k < stop; k += kLanes) {
            store(values_ + (k - begin), w_.vector(k) * out_.sign + 0.0);
          }
        }
        Ids first{};
        for (int k = 0; k < kIdLanes; ++k) first[k] = k;
        for (std::int64_t k = i; k < stop; k += kIdLanes) {
          const Ids id = first + static_cast<std::int32_t>(k);
          std::memcpy(ids_ + (k - begin), &id, sizeof id);
        }
      }
      i = stop;
    }
  }

  template <class X, class V>
  static void place(std::int64_t begin, std::int64_t end, const X& x, const V* found, V* out) {
    for (std::int64_t i = begin; i < end; ++i) out[x.index(i)] = found[i - begin];
  }

  double scale_;
  Z z_;
  W w_;
  const BlockGrowth<R>& blocks_;
  DenseOutput<T> out_;
  RowPart<T, R> part_;
  bool in_order_ = false;
  std::int64_t next_;  // the first block that is not written to its end
  BlockValues<T, R> current_;
  T values_[kChunk + kLanes];
  std::int32_t ids_[kChunk + kIdLanes];
};

}  // namespace diffsort::DIFFSORT_LEVEL
