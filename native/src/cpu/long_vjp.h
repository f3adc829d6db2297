// J^T of one long row, for the calls that vjp_solver.h takes and by the same formulas.
//
// Sums over blocks reach all over the row. So elements are moved to buckets of block ids first, each
// with what it needs; a block lies within one bucket, whose sums fit into a cache. Results take the
// elements' place there and are replayed (partition.h).
// Cost: two reads of the row to partition it and one to replay. Scratch: an element's id and its
// numbers, 8 bytes in float32 (12 in kl).
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <limits>

#include "buffer.h"
#include "diffsort/projection.h"
#include "exp.h"
#include "partition.h"
#include "shares.h"
#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

template <class T>
struct DenseVjpRow {
  std::int64_t n;
  double strength, z_sign, w_sign;
  const T *g, *result, *w;  // result for kl, w for log_kl
  const std::int32_t *block_z, *block_w;
  T *z_out, *w_out;  // one of them is wanted
};

template <class T>
class LongVjp {
  struct ValuedElement {
    T value;
    std::int32_t id;
  };
  struct RankedElement {
    T value, weight;
    std::int32_t id;
  };
  struct Sums {
    double value, weight;
  };

 public:
  // l2: (g_i - mean_B(g)) scale      kl: r_i (g_i - sum_B(r g) / sum_B(r)) scale
  // Reads plain ids. False where results are 0, which do not tell the softmax.
  template <Regularization R>
  bool ranks(const DenseVjpRow<T>& row, double scale, const Workers& workers) {
    using Element = std::conditional_t<R == Regularization::kl, RankedElement, ValuedElement>;
    const Ids ids(row.block_z, row.n);
    partition_.plan(row.n, ids.buckets(), ids, workers);
    auto* const elements =
        reinterpret_cast<Element*>(memory_.get(static_cast<std::size_t>(row.n) * sizeof(Element)));
    partition_.for_each(ids, workers, [&](std::int64_t i, std::int64_t place) {
      Element& element = elements[place];
      element.id = row.block_z[i];
      element.value = row.g[i];
      if constexpr (R == Regularization::kl) element.weight = row.result[i];
    });
    std::atomic<bool> solved{true};
    share_out<Buffer<Sums>>(ids.buckets(), workers, [&](std::int64_t b, Buffer<Sums>& scratch) {
      Sums* const sums = scratch.get(static_cast<std::size_t>(ids.width()));
      if (!weigh(elements + partition_.start(b), elements + partition_.start(b + 1), ids, b, sums,
                 scale)) {
        solved = false;
      }
    });
    if (!solved) return false;
    partition_.for_each(ids, workers, [&](std::int64_t i, std::int64_t place) {
      row.z_out[i] = elements[place].value;
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
    partition_.plan(row.n, ids.buckets(), ids, workers);
    auto* const elements = reinterpret_cast<ValuedElement*>(
        memory_.get(static_cast<std::size_t>(row.n) * sizeof(ValuedElement)));
    const T sign = static_cast<T>(row.w_sign);
    partition_.for_each(ids, workers, [&](std::int64_t j, std::int64_t place) {
      elements[place] = {sign * row.w[j], row.block_w[j]};
    });
    struct Scratch {
      Buffer<Softmax> blocks;
      Buffer<double> shares;
    };
    std::atomic<bool> solved{true};
    share_out<Scratch>(ids.buckets(), workers, [&](std::int64_t b, Scratch& scratch) {
      const std::int64_t begin = b * ids.width(), end = std::min(begin + ids.width(), row.n);
      Softmax* const blocks = scratch.blocks.get(static_cast<std::size_t>(ids.width()));
      std::fill(blocks, blocks + ids.width(),
                Softmax{-std::numeric_limits<T>::infinity(), 0.0, 0.0});
      bool singletons = true;
      const auto visit = [&](std::int64_t first, std::int64_t last, double sum) {
        blocks[first - begin].sum = sum;
        singletons &= last - first == 1;
      };
      if (!for_each_block(row, begin, end, visit)) solved = false;
      ValuedElement* const in = elements + partition_.start(b);
      const std::int64_t size = partition_.size(b);
      if (singletons) {
        for (std::int64_t k = 0; k < size; ++k)
          in[k].value = static_cast<T>(blocks[in[k].id - begin].sum);
      } else {
        weigh_by_softmax(in, size, blocks - begin,
                         scratch.shares.get(static_cast<std::size_t>(size)));
      }
    });
    if (!solved) return false;
    partition_.for_each(ids, workers, [&](std::int64_t j, std::int64_t place) {
      row.w_out[j] = elements[place].value;
    });
    return true;
  }

 private:
  struct Softmax {
    T top;
    double total, sum;
  };

  static void weigh_by_softmax(ValuedElement* elements, std::int64_t n, Softmax* of,
                               double* shares) {
    for (std::int64_t k = 0; k < n; ++k) {
      T& top = of[elements[k].id].top;
      top = elements[k].value > top ? elements[k].value : top;
    }
    for (std::int64_t k = 0; k < n; ++k) {
      shares[k] =
          static_cast<double>(elements[k].value) - static_cast<double>(of[elements[k].id].top);
    }
    map(shares, n, shares, [&](Doubles x) { return exp_nonpositive(x); });
    for (std::int64_t k = 0; k < n; ++k) of[elements[k].id].total += shares[k];
    for (std::int64_t k = 0; k < n; ++k) {
      const Softmax& block = of[elements[k].id];
      elements[k].value = static_cast<T>(shares[k] / block.total * block.sum);
    }
  }

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

  // Block ids as numbers of buckets: their upper bits.
  class Ids {
   public:
    Ids(const std::int32_t* ids, std::int64_t n) : ids_(ids), n_(n) {
      while (((n - 1) >> shift_) >= Partition::kMostBuckets) ++shift_;
    }
    std::int32_t operator()(std::int64_t i) const { return ids_[i] >> shift_; }
    std::int64_t buckets() const { return ((n_ - 1) >> shift_) + 1; }
    std::int64_t width() const { return std::int64_t{1} << shift_; }

   private:
    const std::int32_t* ids_;
    std::int64_t n_;
    int shift_ = 11;
  };

  static bool weigh(ValuedElement* begin, ValuedElement* end, const Ids& ids, std::int64_t bucket,
                    Sums* sums, double scale) {
    const std::int64_t width = ids.width();
    Sums* const of = sums - bucket * width;
    std::memset(sums, 0, static_cast<std::size_t>(width) * sizeof(Sums));
    for (ValuedElement* e = begin; e != end; ++e) {
      of[e->id].value += static_cast<double>(e->value);
      of[e->id].weight += 1.0;
    }
    for (std::int64_t k = 0; k < width; ++k) sums[k].value /= sums[k].weight;
    for (ValuedElement* e = begin; e != end; ++e) {
      e->value = static_cast<T>((static_cast<double>(e->value) - of[e->id].value) * scale);
    }
    return true;
  }

  static bool weigh(RankedElement* begin, RankedElement* end, const Ids& ids, std::int64_t bucket,
                    Sums* sums, double scale) {
    const std::int64_t width = ids.width();
    Sums* const of = sums - bucket * width;
    std::memset(sums, 0, static_cast<std::size_t>(width) * sizeof(Sums));
    for (RankedElement* e = begin; e != end; ++e) {
      const auto weight = static_cast<double>(e->weight);
      of[e->id].value += weight * static_cast<double>(e->value);
      of[e->id].weight += weight;
    }
    bool weighty = true;
    for (RankedElement* e = begin; e != end; ++e) {
      const Sums& sum = of[e->id];
      const auto weight = static_cast<double>(e->weight);
      weighty &= sum.weight != 0.0;
      // Divided first: for an element alone in its block exactly 1, and the derivative exactly 0.
      const double share = weight / sum.weight;
      e->value =
          static_cast<T>((weight * static_cast<double>(e->value) - share * sum.value) * scale);
    }
    return weighty;
  }

  Partition partition_;
  Buffer<unsigned char> memory_;
};

}  // namespace diffsort::DIFFSORT_LEVEL
