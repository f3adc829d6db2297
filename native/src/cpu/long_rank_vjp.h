// J^T of ranks of one long row, for the calls that vjp_solver.h takes and by the same formulas.
//
//     an element alone in its block    gets 0                              lone_blocks.h
//     the block that many are in       is summed and written in place
//     the rest                         goes by buckets of block ids        id_buckets.h
//
// Results of the rest take the elements' place in the buckets and are replayed from there. Where the
// rest is more than half of the row, all of it goes that way.
// Cost: three reads of the ids and one of the row; one more of both for a block that has many, and of the
// rest three more. Scratch: n / 4 bytes on each thread, 4 per element if there is a rest, and for
// each element of that 6 bytes in float32 (10 in kl).
// Chosen: rows of more than 131072 elements.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "block_sums_by_id.h"
#include "buffer.h"
#include "diffsort/projection.h"
#include "id_buckets.h"
#include "lone_blocks.h"
#include "row.h"
#include "shares.h"
#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

template <class T>
class LongRankVjp {
 public:
  // l2: (g_i - mean_B(g)) scale      kl: r_i (g_i - sum_B(r g) / sum_B(r)) scale
  // Reads plain ids. False where all results of a block that several share are 0: they do not tell the
  // softmax.
  template <Regularization R>
  bool solve(const DenseVjpRow<T>& row, double scale, const Workers& workers) {
    const MostFrequent most = add_up_most_frequent<R>(row, workers);
    lone_.find(row.block_z, row.n, most.id, workers);
    const auto rest = row.n - lone_.count() - static_cast<std::int64_t>(most.size);
    if (2 * rest > row.n) return solve_by_buckets<R>(row, AllElements{row.n}, scale, workers);
    if (most.id >= 0 && most.weight == 0.0) return false;
    write_most_and_lone<R>(row, most, scale, workers);
    return rest == 0 ||
           solve_by_buckets<R>(row, lone_.list_shared(row.block_z, row.n, workers), scale, workers);
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
  struct MostFrequent {
    std::int32_t id;
    double value, weight, size;  // sums over the block, and its elements
  };
  template <Regularization R, class Elements>
  bool solve_by_buckets(const DenseVjpRow<T>& row, const Elements& elements, double scale,
                        const Workers& workers) {
    constexpr bool kl = R == Regularization::kl;
    const IdBuckets<Elements> ids(row.block_z, row.n, elements);
    auto* const moved = moved_.plan<std::conditional_t<kl, WeightedElement, Element>>(ids, workers);
    moved_.split.for_each(ids, workers, [&](std::int64_t k, std::int64_t place) {
      moved[place].id = ids.within_bucket(k);
      moved[place].value = row.g[elements[k]];
      if constexpr (kl) moved[place].weight = row.result[elements[k]];
    });
    std::atomic<bool> solved{true};
    share_out<Buffer<Sums>>(ids.buckets(), workers, [&](std::int64_t b, Buffer<Sums>& scratch) {
      Sums* const sums = scratch.get(static_cast<std::size_t>(ids.width()));
      std::memset(sums, 0, static_cast<std::size_t>(ids.width()) * sizeof(Sums));
      if (!weigh(moved + moved_.split.start(b), moved_.split.size(b), sums, ids.width(), scale)) {
        solved = false;
      }
    });
    if (!solved) return false;
    moved_.split.for_each(ids, workers, [&](std::int64_t k, std::int64_t place) {
      row.z_out[elements[k]] = moved[place].value;
    });
    return true;
  }

  // Of the block that many elements are in; id -1 if perhaps none is.
  template <Regularization R>
  MostFrequent add_up_most_frequent(const DenseVjpRow<T>& row, const Workers& workers) {
    MostFrequent most{SumsById::most_frequent(row.block_z, row.n), 0.0, 0.0, 0.0};
    if (most.id < 0) return most;
    MostFrequent* const parts = parts_.get(static_cast<std::size_t>(pieces(row.n)));
    parallel_for(pieces(row.n), workers, [&](std::int64_t p) {
      const auto [begin, end] = piece(p, row.n);
      const auto total = [&, begin = begin, end = end](const auto& terms, const auto& term) {
        return sum_of(
            begin, end,
            [&](std::int64_t i) { return are(row.block_z + i, most.id) ? terms(i) : Doubles{}; },
            [&](std::int64_t i) { return row.block_z[i] == most.id ? term(i) : 0.0; });
      };
      const T *const g = row.g, *const r = row.result;
      const double size =
          total([&](std::int64_t) { return broadcast(1.0); }, [&](std::int64_t) { return 1.0; });
      if constexpr (R == Regularization::kl) {
        parts[p] = {most.id,
                    total([&](std::int64_t i) { return load(r + i) * load(g + i); },
                          [&](std::int64_t i) {
                            return static_cast<double>(r[i]) * static_cast<double>(g[i]);
                          }),
                    total([&](std::int64_t i) { return load(r + i); },
                          [&](std::int64_t i) { return static_cast<double>(r[i]); }),
                    size};
      } else {
        parts[p] = {most.id,
                    total([&](std::int64_t i) { return load(g + i); },
                          [&](std::int64_t i) { return static_cast<double>(g[i]); }),
                    size, size};
      }
    });
    for (std::int64_t p = 0; p < pieces(row.n); ++p) {
      most.value += parts[p].value;
      most.weight += parts[p].weight;
      most.size += parts[p].size;
    }
    return most;
  }

  // What an element alone in its block gets is 0, or NaN where g is not finite. That of other blocks is
  // to be replaced.
  template <Regularization R>
  static void write_most_and_lone(const DenseVjpRow<T>& row, const MostFrequent& most, double scale,
                                  const Workers& workers) {
    parallel_for(pieces(row.n), workers, [&](std::int64_t p) {
      const auto [begin, end] = piece(p, row.n);
      const auto cotangent = [&](Longs in_most, Doubles g, Doubles r) {
        const Doubles share = in_most ? r / most.weight : broadcast(1.0);
        if (R == Regularization::kl)
          return (r * g - share * (in_most ? most.value + Doubles{} : r * g)) * scale;
        return (g - (in_most ? most.value / most.size + Doubles{} : g)) * scale;
      };
      std::int64_t i = begin;
      for (; i + kLanes <= end; i += kLanes) {
        store(row.z_out + i, cotangent(are(row.block_z + i, most.id), load(row.g + i),
                                       R == Regularization::kl ? load(row.result + i) : Doubles{}));
      }
      for (; i < end; ++i) {
        const double r = R == Regularization::kl ? static_cast<double>(row.result[i]) : 0.0;
        row.z_out[i] =
            static_cast<T>(cotangent(Longs{} - (row.block_z[i] == most.id),
                                     broadcast(static_cast<double>(row.g[i])), broadcast(r))[0]);
      }
    });
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

  LoneBlocks lone_;
  MovedElements moved_;
  Buffer<MostFrequent> parts_;
};

}  // namespace diffsort::DIFFSORT_LEVEL
