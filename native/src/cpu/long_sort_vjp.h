// J^T of sorted values of one row, in most cases a long one, for the calls that vjp_solver.h takes and by
// the same formulas.
//
// The blocks of z lie in order, and are summed in order. What w's elements get of them is read by their
// ids (l2), or they go by buckets of block ids, where results take their place and are replayed
// (log_kl).
// Cost: three reads of the row (l2), or two reads to partition it and one to replay. Scratch: 4 bytes
// per element (l2) or 6, in float64 8 or 10.
// Chosen: rows of more than 131072 elements, and of more than 1024 where they are sorted values of kl
// whose w is wider than 64.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <utility>

#include "buffer.h"
#include "exp.h"
#include "id_buckets.h"
#include "row.h"
#include "shares.h"
#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

template <class T>
class LongSortVjp {
 public:
  // mean_B(g) for the elements of w, where the blocks of z lie in order; false where they do not.
  // Reads plain ids of w. One that starts no block has nothing to add up.
  bool l2(const DenseVjpRow<T>& row, const Workers& workers) {
    T* const means = means_.get(static_cast<std::size_t>(row.n));
    std::atomic<bool> solved{true};
    parallel_for(pieces(row.n), workers, [&](std::int64_t p) {
      const auto [begin, end] = piece(p, row.n);
      const bool ordered =
          for_each_block(row, begin, end, [&](std::int64_t a, std::int64_t b, double sum) {
            means[a] = static_cast<T>(sum / static_cast<double>(b - a));
            std::fill(means + a + 1, means + b, std::numeric_limits<T>::quiet_NaN());
          });
      if (!ordered) solved = false;
    });
    if (!solved) return false;
    parallel_for(pieces(row.n), workers, [&](std::int64_t p) {
      const auto [begin, end] = piece(p, row.n);
      for (std::int64_t j = begin; j < end; ++j) row.w_out[j] = means[row.block_w[j]];
    });
    return true;
  }

  // softmax_B(w)_j sum_B(g), in the same way.
  bool log_kl(const DenseVjpRow<T>& row, const Workers& workers) {
    const IdBuckets<AllElements> ids(row.block_w, row.n, {row.n});
    Element* const moved = moved_.plan<Element>(ids, workers);
    const T sign = static_cast<T>(row.w_sign);
    moved_.partition.for_each(ids, workers, [&](std::int64_t j, std::int64_t place) {
      moved[place].id = ids.within_bucket(j);
      moved[place].value = sign * row.w[j];
    });
    std::atomic<bool> solved{true};
    share_out<Buffer<Softmax>>(
        ids.buckets(), workers, [&](std::int64_t b, Buffer<Softmax>& scratch) {
          const std::int64_t begin = b * ids.width(), end = std::min(begin + ids.width(), row.n);
          Softmax* const blocks = scratch.get(static_cast<std::size_t>(ids.width()));
          std::fill(blocks, blocks + ids.width(),
                    Softmax{-std::numeric_limits<T>::infinity(), 0.0, 0.0});
          bool singletons = true;
          const auto visit = [&](std::int64_t first, std::int64_t last, double sum) {
            blocks[first - begin].sum = sum;
            singletons &= last - first == 1;
          };
          if (!for_each_block(row, begin, end, visit)) solved = false;
          Element* const bucket = moved + moved_.partition.start(b);
          const std::int64_t size = moved_.partition.size(b);
          if (singletons) {
            for (std::int64_t k = 0; k < size; ++k) {
              bucket[k].value = static_cast<T>(blocks[bucket[k].id].sum);
            }
          } else {
            weigh_by_softmax(bucket, size, blocks);
          }
        });
    if (!solved) return false;
    moved_.partition.for_each(ids, workers, [&](std::int64_t j, std::int64_t place) {
      row.w_out[j] = moved[place].value;
    });
    return true;
  }

 private:
  // An element in its bucket, and its block within that. Packed, for they are most of the scratch.
  struct __attribute__((packed)) Element {
    T value;
    std::uint16_t id;
  };
  struct Softmax {
    T top;
    double total, sum;
  };

  // The shares take the place of the values, a few at a time, rounded to T.
  static void weigh_by_softmax(Element* of, std::int64_t n, Softmax* blocks) {
    for (std::int64_t k = 0; k < n; ++k) {
      T& top = blocks[of[k].id].top;
      const T value = of[k].value;
      top = value > top ? value : top;
    }
    constexpr std::int64_t kChunk = 256;
    for (std::int64_t begin = 0; begin < n; begin += kChunk) {
      Element* const some = of + begin;
      const std::int64_t count = std::min(kChunk, n - begin);
      double shares[kChunk];
      for (std::int64_t k = 0; k < count; ++k) {
        shares[k] =
            static_cast<double>(some[k].value) - static_cast<double>(blocks[some[k].id].top);
      }
      map(shares, count, shares, [&](Doubles x) { return exp_nonpositive(x); });
      for (std::int64_t k = 0; k < count; ++k) {
        blocks[some[k].id].total += shares[k];
        some[k].value = static_cast<T>(shares[k]);
      }
    }
    for (std::int64_t k = 0; k < n; ++k) {
      const Softmax& block = blocks[of[k].id];
      of[k].value = static_cast<T>(static_cast<double>(of[k].value) / block.total * block.sum);
    }
  }

  // visit(a, b, sum of g) for the blocks [a, b) of z that start between `begin` and `end`. False where
  // an id there is not the position at which a run of it starts.
  template <class Visit>
  static bool for_each_block(const DenseVjpRow<T>& row, std::int64_t begin, std::int64_t end,
                             const Visit& visit) {
    const std::int64_t n = row.n;
    const std::int32_t* const ids = row.block_z;
    std::int64_t a = begin;
    if (a == 0 && ids[0] != 0) return false;
    while (a > 0 && a < end && ids[a] == ids[a - 1]) ++a;
    while (a < end) {
      if (ids[a] != a) return false;
      std::int64_t b = a + 1;
      while (b < n && ids[b] == ids[a]) ++b;
      const double sum = b - a == 1
                             ? static_cast<double>(row.g[a])
                             : sum_of(
                                   a, b, [&](std::int64_t i) { return load(row.g + i); },
                                   [&](std::int64_t i) { return static_cast<double>(row.g[i]); });
      visit(a, b, sum);
      a = b;
    }
    return true;
  }

  Buffer<T> means_;
  MovedElements moved_;
};

}  // namespace diffsort::DIFFSORT_LEVEL
