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

 private:
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
