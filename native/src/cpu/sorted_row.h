// An operand of one row, sorted: at once, or by buckets of values (buckets.h) where the row has more
// than kLongestSort (65536) elements, of which no bucket gets more than a quarter. A row that descends is
// copied and one that ascends reversed, whatever its length.
//
// In buckets, a value's index is its place within its bucket, and results go back to where values stood
// bucket by bucket: what lies in a bucket is read in sorted order and written in the order in which
// it came, over the sorted values and indices that it replaces, and replayed from there. So the
// whole needs no memory but these.
//
// Ranks need no order within a block. Neighbours share one if they differ by no more than the strength
// (l2), or by strength / n (kl: exp of that is at most rho_i / rho_{i+1}), and m neighbours of l2 if their
// range is m strength / 2 or less: they would be one block if they were the row (one_block.h), and what
// lies around them only makes it larger. So buckets as dense as that are not sorted, nor is what shares a
// cell (cells.h) as narrow as that. What pools finds the same blocks: of all orders the sorted one has the
// largest sums of the k first values, and where these do not divide a block, no others do.
// Cost: O(n); in buckets the row is read four times. Scratch: a value and 4 bytes per element.
// Chosen: rows that are neither one block nor dense ranks (certified_cells.h), nor go side by side.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>

#include "bucket_sort.h"
#include "bucket_split.h"
#include "buckets.h"
#include "buffer.h"
#include "operand.h"
#include "row.h"
#include "scan.h"
#include "shares.h"
#include "sort_row.h"

namespace diffsort::DIFFSORT_LEVEL {

template <class T>
class SortedRow {
 public:
  void sort(std::int64_t n, DenseOperand<T> x, const RowFacts& facts, RowSorter<T>& sorter,
            const Workers& workers, const AnyOrder& any_order = {}) {
    x_ = x;
    any_order_ = any_order;
    division_ = Division::none;
    const auto size = static_cast<std::size_t>(n);
    T* const values = values_.get(size + kLanes);  // vectors are read beyond the end
    std::int32_t* const from = from_.get(size);
    for (std::int64_t i = n; i < n + kLanes; ++i) values[i] = T(0);
    if (is_descending(x.values, n, x.sign)) {
      copy(0, n, 0);
    } else if (is_descending(x.values, n, -x.sign)) {
      reverse(n);
    } else if (n <= kLongestSort || !sort_by_buckets(n, facts, workers)) {
      sorter.sort(x.values, n, x.sign, facts.low, facts.high, values, from, any_order);
    }
  }

  SortedValues<T> values() const { return {values_.data(), from_.data()}; }

  // Null unless the row was sorted by buckets.
  const BucketSplit* buckets() const { return division_ != Division::none ? &split_ : nullptr; }

  // Has write(bucket, its sorted part, results, ids) write what becomes of the elements of a bucket, at
  // their indices, and brings that to where they stood. Null outputs are not wanted.
  template <class Write>
  void write_by_buckets(T* out, std::int32_t* ids_out, const Workers& workers, const Write& write) {
    if (out == nullptr && ids_out == nullptr) return;
    T* const values = values_.data();
    std::int32_t* const from = from_.data();
    struct Scratch {
      Buffer<T> sorted, results;
      Buffer<std::int32_t> ids;
    };
    share_out<Scratch>(split_.buckets(), workers, [&](std::int64_t b, Scratch& scratch) {
      const std::int64_t start = split_.start(b);
      const auto size = static_cast<std::size_t>(split_.size(b));
      if (size == 0) return;
      SortedPart<T> part{start, values + start, from + start};
      T* results = nullptr;
      if (out != nullptr) {  // the neighbours of what is written here are not to be read
        T* const sorted = scratch.sorted.get(size + kSumLanes);
        std::memcpy(sorted, values + start, size * sizeof(T));
        std::fill_n(sorted + size, kSumLanes, T(0));
        part.values = sorted;
        results = scratch.results.get(size);
      }
      std::int32_t* const ids = ids_out != nullptr ? scratch.ids.get(size) : nullptr;
      write(b, part, results, ids);
      if (out != nullptr) std::memcpy(values + start, results, size * sizeof(T));
      if (ids_out != nullptr) std::memcpy(from + start, ids, size * sizeof(std::int32_t));
    });
    replay(out, ids_out, workers);
  }

 private:
  static constexpr std::int64_t kBucketSize = std::int64_t{1} << 12;

  // The elements [begin, end) of the row, from `place` on.
  void copy(std::int64_t begin, std::int64_t end, std::int64_t place) {
    T* const values = values_.data();
    std::int32_t* const from = from_.data();
    for (std::int64_t i = begin; i < end; ++i, ++place) {
      values[place] = x_.sign * x_.values[i];
      from[place] = static_cast<std::int32_t>(i);
    }
  }

  // A row that ascends, from its end; equal elements keep their order.
  void reverse(std::int64_t n) {
    for (std::int64_t begin, end = n; end > 0; end = begin) {
      begin = end - 1;
      while (begin > 0 && x_.values[begin - 1] == x_.values[end - 1]) --begin;
      copy(begin, end, n - end);
    }
  }

  // False: too many values share a bucket in both ways.
  bool sort_by_buckets(std::int64_t n, const RowFacts& facts, const Workers& workers) {
    const std::int64_t buckets = BucketSplit::buckets_for(n, kBucketSize);
    const T high = static_cast<T>(x_.sign < T(0) ? -facts.low : facts.high);
    const T low = static_cast<T>(x_.sign < T(0) ? -facts.high : facts.low);
    ties_ = TiedValues<T>(x_, n);
    by_width_ = BucketsByWidth<T>(x_, buckets, high, facts.range());
    division_ = Division::by_width;
    if (by_width_.divide() && plan(n, buckets, workers)) return sort_each(workers);
    by_bits_ = BucketsByBits<T>(x_, BucketSplit::kMostBuckets, high, low);
    division_ = Division::by_bits;
    if (plan(n, BucketSplit::kMostBuckets, workers)) return sort_each(workers);
    division_ = Division::none;
    return false;
  }

  bool plan(std::int64_t n, std::int64_t buckets, const Workers& workers) {
    buckets += ties_.buckets();
    with_buckets([&](const auto& bucket) { split_.plan(n, buckets, 0, bucket, workers); });
    for (std::int64_t b = 0; b < buckets; ++b) {
      if (split_.size(b) > n / 4) return false;
    }
    return true;
  }

  bool sort_each(const Workers& workers) {
    T* const values = values_.data();
    with_buckets([&](const auto& bucket) {
      split_.for_each(bucket, workers, [&](std::int64_t i, std::int64_t place) {
        values[place] = x_.sign * x_.values[i];
      });
    });
    share_out<BucketSorter<T>>(split_.buckets(), workers,
                               [&](std::int64_t b, BucketSorter<T>& sorter) {
                                 const std::int64_t start = split_.start(b), size = split_.size(b);
                                 if (size == 0) return;
                                 const RowFacts facts = scan(values + start, size);
                                 std::int32_t* const from = from_.data() + start;
                                 if (any_order_.holds_part(facts.range(), size) ||
                                     is_descending(values + start, size, T(1))) {
                                   std::iota(from, from + size, 0);
                                 } else {
                                   sorter.sort(values + start, size, facts, from, any_order_);
                                 }
                               });
    return true;
  }

  // Brings what has taken the place of sorted values and indices to where the elements stood.
  void replay(T* out, std::int32_t* ids_out, const Workers& workers) const {
    const T* const values = values_.data();
    const std::int32_t* const from = from_.data();
    with_buckets([&](const auto& bucket) {
      split_.for_each(bucket, workers, [&](std::int64_t i, std::int64_t place) {
        if (out != nullptr) out[i] = values[place];
        if (ids_out != nullptr) ids_out[i] = from[place];
      });
    });
  }

  enum class Division { none, by_width, by_bits };

  // Calls body with the function that has the buckets of elements.
  template <class Body>
  void with_buckets(const Body& body) const {
    division_ == Division::by_width ? beside_ties(by_width_, body) : beside_ties(by_bits_, body);
  }
  template <class Buckets, class Body>
  void beside_ties(const Buckets& buckets, const Body& body) const {
    ties_.buckets() == 0 ? body(buckets) : body(BesideTies<T, Buckets>{buckets, ties_});
  }

  DenseOperand<T> x_{};
  Division division_ = Division::none;
  AnyOrder any_order_;
  TiedValues<T> ties_;
  BucketsByWidth<T> by_width_;
  BucketsByBits<T> by_bits_;
  BucketSplit split_;
  Buffer<T> values_;
  Buffer<std::int32_t> from_;
};

}  // namespace diffsort::DIFFSORT_LEVEL
