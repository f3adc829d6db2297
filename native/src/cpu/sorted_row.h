// An operand of one row, sorted: at once, or by buckets of values where the row is long.
#pragma once

#include <cstdint>

#include "buffer.h"
#include "operand.h"
#include "partition.h"
#include "row.h"
#include "scan.h"
#include "sort_row.h"

namespace diffsort::DIFFSORT_LEVEL {

template <class T>
class SortedRow {
 public:
  void sort(std::int64_t n, DenseOperand<T> x, const RowFacts& facts, RowSorter<T>& sorter) {
    x_ = x;
    n_ = n;
    partitioned_ = false;
    const auto size = static_cast<std::size_t>(n);
    T* const values = values_.get(size + kLanes);  // vectors are read beyond the end
    std::int32_t* const from = from_.get(size);
    for (std::int64_t i = n; i < n + kLanes; ++i) values[i] = T(0);
    if (is_descending(x.values, n, x.sign)) {
      for (std::int64_t i = 0; i < n; ++i) {
        values[i] = x.sign * x.values[i];
        from[i] = static_cast<std::int32_t>(i);
      }
    } else if (n <= kLongestSort || !sort_by_buckets(facts, sorter)) {
      sorter.sort(x.values, n, x.sign, facts.low, facts.high, values, from);
    }
  }

  SortedValues<T> values() const { return {values_.data(), from_.data()}; }

  // Where results are to be placed by values().index, and how they get to `out` from there. Without
  // buckets that is `out` itself.
  T* place(T* out) { return out != nullptr && partitioned_ ? bucketed_.data() : out; }
  std::int32_t* place(std::int32_t* out) {
    return out != nullptr && partitioned_ ? ids_.get(static_cast<std::size_t>(n_)) : out;
  }
  void replay(T* out, std::int32_t* ids_out) {
    if (!partitioned_) return;
    partition_.for_each(bucket(), [&](std::int64_t i, std::int64_t place) {
      if (out != nullptr) out[i] = bucketed_.data()[place];
      if (ids_out != nullptr) ids_out[i] = ids_.data()[place];
    });
  }

 private:
  static constexpr std::int64_t kBucketSize = std::int64_t{1} << 13;

  // False: too many values share a bucket.
  bool sort_by_buckets(const RowFacts& facts, RowSorter<T>& sorter) {
    const std::int64_t buckets = Partition::buckets_for(n_, kBucketSize);
    top_ = static_cast<T>(x_.sign < T(0) ? -facts.low : facts.high);
    scale_ = cell_scale<T>(buckets, facts.range());
    if (scale_ == T(0)) return false;
    partition_.plan(n_, buckets, bucket());
    for (std::int64_t b = 0; b < buckets; ++b) {
      if (partition_.size(b) > n_ / 4) return false;
    }
    T* const bucketed = bucketed_.get(static_cast<std::size_t>(n_));
    partition_.for_each(bucket(), [&](std::int64_t i, std::int64_t place) {
      bucketed[place] = x_.sign * x_.values[i];
    });
    for (std::int64_t b = 0; b < buckets; ++b) {
      const std::int64_t start = partition_.start(b), size = partition_.size(b);
      if (size == 0) continue;
      const RowFacts part = scan(bucketed + start, size);
      sorter.sort(bucketed + start, size, T(1), part.low, part.high, values_.data() + start,
                  from_.data() + start);
      for (std::int64_t i = start; i < start + size; ++i) {
        from_.data()[i] += static_cast<std::int32_t>(start);
      }
    }
    partitioned_ = true;
    return true;
  }

  // Falls where values rise, rounding included.
  auto bucket() const {
    return [x = x_, top = top_, scale = scale_](std::int64_t i) {
      return static_cast<std::int32_t>((top - x.sign * x.values[i]) * scale);
    };
  }

  DenseOperand<T> x_{};
  std::int64_t n_ = 0;
  bool partitioned_ = false;
  T top_{}, scale_{};
  Partition partition_;
  Buffer<T> values_, bucketed_;
  Buffer<std::int32_t> from_, ids_;
};

}  // namespace diffsort::DIFFSORT_LEVEL
