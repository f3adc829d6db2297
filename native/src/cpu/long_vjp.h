// J^T of one row, in most cases a long one, for the calls that vjp_solver.h takes and by the same formulas.
//
// Sums over blocks reach all over the row. So elements are moved to buckets of block ids first, each
// with what it needs; a block lies within one bucket, whose sums fit into a cache. Results take the
// elements' place there and are replayed (partition.h).
// Cost: two reads of the row to partition it and one to replay. Scratch: an element's numbers
// and 2 bytes for its block, 6 bytes in float32 (10 for ranks of kl, 4 for sorted values of l2).
// Chosen: rows of more than 131072 elements, and of more than 1024 where they are sorted values of kl
// whose w is wider than 64.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "buffer.h"
#include "diffsort/projection.h"
#include "exp.h"
#include "partition.h"
#include "row.h"
#include "shares.h"
#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

template <class T>
class LongVjp {
 public:
  // l2: (g_i - mean_B(g)) scale      kl: r_i (g_i - sum_B(r g) / sum_B(r)) scale
  // Reads plain ids. False where results are 0, which do not tell the softmax.
  template <Regularization R>
  bool ranks(const DenseVjpRow<T>& row, double scale, const Workers& workers) {
    constexpr bool kl = R == Regularization::kl;
    const Ids ids(row.block_z, row.n);
    auto* const moved = plan<std::conditional_t<kl, WeightedElement, Element>>(ids, workers);
    partition_.for_each(ids, workers, [&](std::int64_t i, std::int64_t place) {
      moved[place].id = ids.within_bucket(i);
      moved[place].value = row.g[i];
      if constexpr (kl) moved[place].weight = row.result[i];
    });
    std::atomic<bool> solved{true};
    share_out<Buffer<Sums>>(ids.buckets(), workers, [&](std::int64_t b, Buffer<Sums>& scratch) {
      Sums* const sums = scratch.get(static_cast<std::size_t>(ids.width()));
      std::memset(sums, 0, static_cast<std::size_t>(ids.width()) * sizeof(Sums));
      if (!weigh(moved + partition_.start(b), partition_.size(b), sums, ids.width(), scale)) {
        solved = false;
      }
    });
    if (!solved) return false;
    partition_.for_each(ids, workers, [&](std::int64_t i, std::int64_t place) {
      row.z_out[i] = moved[place].value;
    });
    return true;
  }

  // mean_B(g) for the elements of w, where the blocks of z lie in order; false where they do not.
  // Reads plain ids of w. One that starts no block has nothing to add up.
  bool sorted_l2(const DenseVjpRow<T>& row, const Workers& workers) {
    T* const means = reinterpret_cast<T*>(memory_.get(static_cast<std::size_t>(row.n) * sizeof(T)));
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
  bool sorted_log_kl(const DenseVjpRow<T>& row, const Workers& workers) {
    const Ids ids(row.block_w, row.n);
    Element* const moved = plan<Element>(ids, workers);
    const T sign = static_cast<T>(row.w_sign);
    partition_.for_each(ids, workers, [&](std::int64_t j, std::int64_t place) {
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
          Element* const bucket = moved + partition_.start(b);
          const std::int64_t size = partition_.size(b);
          if (singletons) {
            for (std::int64_t k = 0; k < size; ++k) {
              bucket[k].value = static_cast<T>(blocks[bucket[k].id].sum);
            }
          } else {
            weigh_by_softmax(bucket, size, blocks);
          }
        });
    if (!solved) return false;
    partition_.for_each(ids, workers, [&](std::int64_t j, std::int64_t place) {
      row.w_out[j] = moved[place].value;
    });
    return true;
  }

 private:
  // Elements in buckets: what is summed, in kl its weight, and the block within the bucket. Packed, for
  // they are most of the scratch; apart, they would be as many streams per bucket.
  struct __attribute__((packed)) Element {
    T value;
    std::uint16_t id;
  };
  struct __attribute__((packed)) WeightedElement {
    T value, weight;
    std::uint16_t id;
  };
  struct Sums {
    double value, weight;
  };
  struct Softmax {
    T top;
    double total, sum;
  };

  // Block ids as numbers of buckets: their upper bits.
  class Ids {
   public:
    Ids(const std::int32_t* ids, std::int64_t n) : ids_(ids), n_(n) {
      while (buckets() > Partition::kMostBuckets && shift_ < 16) ++shift_;
    }
    std::int32_t operator()(std::int64_t i) const { return ids_[i] >> shift_; }
    std::uint16_t within_bucket(std::int64_t i) const {
      return static_cast<std::uint16_t>(ids_[i] & static_cast<std::int32_t>(width() - 1));
    }
    std::int64_t length() const { return n_; }
    std::int64_t buckets() const { return ((n_ - 1) >> shift_) + 1; }
    std::int64_t width() const { return std::int64_t{1} << shift_; }

   private:
    const std::int32_t* ids_;
    std::int64_t n_;
    int shift_ = 11;
  };

  // Has memory for all elements, which are then to be moved.
  template <class E>
  E* plan(const Ids& ids, const Workers& workers) {
    partition_.plan(ids.length(), ids.buckets(), kGap, ids, workers);
    const auto places = static_cast<std::size_t>(partition_.places());
    return reinterpret_cast<E*>(memory_.get(places * sizeof(E)));
  }

  static bool weigh(Element* of, std::int64_t n, Sums* sums, std::int64_t blocks, double scale) {
    for (std::int64_t k = 0; k < n; ++k) {
      Sums& sum = sums[of[k].id];
      sum.value += static_cast<double>(of[k].value);
      sum.weight += 1.0;
    }
    for (std::int64_t b = 0; b < blocks; ++b) sums[b].value /= sums[b].weight;
    for (std::int64_t k = 0; k < n; ++k) {
      of[k].value =
          static_cast<T>((static_cast<double>(of[k].value) - sums[of[k].id].value) * scale);
    }
    return true;
  }

  // False where a block has no weight.
  static bool weigh(WeightedElement* of, std::int64_t n, Sums* sums, std::int64_t, double scale) {
    for (std::int64_t k = 0; k < n; ++k) {
      Sums& sum = sums[of[k].id];
      const auto weight = static_cast<double>(of[k].weight);
      sum.value += weight * static_cast<double>(of[k].value);
      sum.weight += weight;
    }
    bool weighty = true;
    for (std::int64_t k = 0; k < n; ++k) {
      const Sums& sum = sums[of[k].id];
      const auto weight = static_cast<double>(of[k].weight);
      weighty &= sum.weight != 0.0;
      // Divided first: for an element alone in its block exactly 1, and the derivative exactly 0.
      const double share = weight / sum.weight;
      of[k].value =
          static_cast<T>((weight * static_cast<double>(of[k].value) - share * sum.value) * scale);
    }
    return weighty;
  }

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

  // Blocks of one element make buckets of a power of two, and streams that far apart would share a few
  // sets of the caches.
  static constexpr std::int64_t kGap = 24;

  static constexpr std::int64_t kPiece = std::int64_t{1} << 15;
  static std::int64_t pieces(std::int64_t n) { return (n + kPiece - 1) / kPiece; }
  static std::pair<std::int64_t, std::int64_t> piece(std::int64_t p, std::int64_t n) {
    return {p * kPiece, std::min((p + 1) * kPiece, n)};
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

  Partition partition_;
  Buffer<unsigned char> memory_;
};

}  // namespace diffsort::DIFFSORT_LEVEL
