// J^T of sorted values of one row, in most cases a long one, for the calls that vjp_solver.h takes and by
// the same formulas.
//
// The blocks of z lie in order, and are summed in order. In l2 w's elements read the means by their ids. In
// log_kl
//
//     an element alone in its block    gets g of the block                 lone_blocks.h
//     the block that many are in       is summed and written in place
//     the rest                         goes by buckets of block ids, where results take the place of
//                                      values and are replayed             id_buckets.h
//
// Where no block has many, or the rest is more than half of the row, all of it goes that way.
// Cost: three reads of the row (l2); three of the ids and one of the row, two more for a block that many are
// in, and of the rest three. Scratch: 4 bytes per element (l2); n / 4 bytes on each thread, 4 for each
// element if there is a rest, and for each of that 6; in float64 8 and 10.
// Chosen: rows of more than 131072 elements, and of more than 1024 where they are sorted values of kl
// whose w is wider than 64.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <utility>

#include "block_sums_by_id.h"
#include "buffer.h"
#include "exp.h"
#include "id_buckets.h"
#include "lone_blocks.h"
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

  // softmax_B(w)_j sum_B(g), in the same way; false as well where lone elements are written in place and are
  // not those of z, or the block that many are in is not as large in z.
  bool log_kl(const DenseVjpRow<T>& row, const Workers& workers) {
    Most most{SumsById::most_frequent(row.block_w, row.n), kLowest, 0.0, 0.0, 0};
    if (most.id < 0) return solve_by_buckets(row, AllElements{row.n}, workers);
    lone_.find(row.block_w, row.n, most.id, workers);
    find_top_and_total(row, most, workers);
    const auto rest = row.n - lone_.count() - most.size;
    if (2 * rest > row.n) return solve_by_buckets(row, AllElements{row.n}, workers);
    if (!blocks_agree(row, most, workers)) return false;
    write_most_and_lone(row, most, workers);
    return rest == 0 ||
           solve_by_buckets(row, lone_.list_shared(row.block_w, row.n, workers), workers);
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

  static constexpr double kLowest = -std::numeric_limits<double>::infinity();

  // The block of w that many are in: its largest value, sum of exp(w - top), elements, and sum_B(g).
  struct Most {
    std::int32_t id;
    double top, total, sum;
    std::int64_t size;
  };

  void find_top_and_total(const DenseVjpRow<T>& row, Most& most, const Workers& workers) {
    Most* const parts = parts_.get(static_cast<std::size_t>(pieces(row.n)));
    const auto in_block = [&](std::int64_t j) { return are(row.block_w + j, most.id); };
    parallel_for(pieces(row.n), workers, [&](std::int64_t p) {
      const auto [begin, end] = piece(p, row.n);
      Doubles tops = broadcast(kLowest);
      std::int64_t j = begin;
      for (; j + kLanes <= end; j += kLanes) {
        tops = larger(in_block(j) ? load(row.w + j) * row.w_sign : broadcast(kLowest), tops);
      }
      double top = kLowest;
      for (int k = 0; k < kLanes; ++k) top = std::max(top, tops[k]);
      for (; j < end; ++j) {
        if (row.block_w[j] == most.id)
          top = std::max(top, static_cast<double>(row.w[j]) * row.w_sign);
      }
      parts[p].top = top;
    });
    for (std::int64_t p = 0; p < pieces(row.n); ++p) most.top = std::max(most.top, parts[p].top);
    parallel_for(pieces(row.n), workers, [&](std::int64_t p) {
      const auto [begin, end] = piece(p, row.n);
      const auto share = [&](Doubles w) { return exp_nonpositive<T>(w * row.w_sign - most.top); };
      parts[p].total = sum_of(
          begin, end,
          [&](std::int64_t i) { return in_block(i) ? share(load(row.w + i)) : Doubles{}; },
          [&](std::int64_t i) {
            return row.block_w[i] == most.id ? share(broadcast(static_cast<double>(row.w[i])))[0]
                                             : 0.0;
          });
      parts[p].size = std::count(row.block_w + begin, row.block_w + end, most.id);
    });
    for (std::int64_t p = 0; p < pieces(row.n); ++p) {
      most.total += parts[p].total;
      most.size += parts[p].size;
    }
  }

  // Whether z has one element where w has, several where w has, and as many in the block that many are
  // in, whose sum it brings. (What goes by buckets needs no more: sums of z and softmaxes of w come from
  // their own ids.)
  bool blocks_agree(const DenseVjpRow<T>& row, Most& most, const Workers& workers) const {
    std::atomic<bool> agree{true};
    std::atomic<std::int64_t> lone{0};
    parallel_for(pieces(row.n), workers, [&](std::int64_t p) {
      const auto [begin, end] = piece(p, row.n);
      bool same = true;
      std::int64_t singles = 0;
      const auto visit = [&](std::int64_t first, std::int64_t last, double sum) {
        const auto id = static_cast<std::int32_t>(first);
        if (id == most.id) {
          most.sum = sum;
          same &= last - first == most.size;
        } else {
          const bool single = last - first == 1;
          singles += single;
          same &= single ? lone_.is_lone(id) : lone_.is_shared(id);
        }
      };
      if (!for_each_block(row, begin, end, visit) || !same) agree = false;
      lone += singles;
    });
    return agree && lone == lone_.count();
  }

  static void write_most_and_lone(const DenseVjpRow<T>& row, const Most& most,
                                  const Workers& workers) {
    parallel_for(pieces(row.n), workers, [&](std::int64_t p) {
      const auto [begin, end] = piece(p, row.n);
      const std::int32_t* const ids = row.block_w;
      const auto share = [&](Doubles w) {
        return exp_nonpositive<T>(w * row.w_sign - most.top) / most.total * most.sum;
      };
      std::int64_t j = begin;
      for (; j + kLanes <= end; j += kLanes) {
        const Doubles lone = gather([&](int k) { return static_cast<double>(row.g[ids[j + k]]); });
        store(row.w_out + j, are(ids + j, most.id) ? share(load(row.w + j)) : lone);
      }
      for (; j < end; ++j) {
        row.w_out[j] = ids[j] == most.id
                           ? static_cast<T>(share(broadcast(static_cast<double>(row.w[j])))[0])
                           : row.g[ids[j]];
      }
    });
  }

  template <class Elements>
  bool solve_by_buckets(const DenseVjpRow<T>& row, const Elements& elements,
                        const Workers& workers) {
    const IdBuckets<Elements> ids(row.block_w, row.n, elements);
    Element* const moved = moved_.plan<Element>(ids, workers);
    const T sign = static_cast<T>(row.w_sign);
    moved_.split.for_each(ids, workers, [&](std::int64_t k, std::int64_t place) {
      moved[place].id = ids.within_bucket(k);
      moved[place].value = sign * row.w[elements[k]];
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
          Element* const bucket = moved + moved_.split.start(b);
          const std::int64_t size = moved_.split.size(b);
          if (singletons && !meet(bucket, size, blocks)) {
            for (std::int64_t k = 0; k < size; ++k) {
              bucket[k].value = static_cast<T>(blocks[bucket[k].id].sum);
            }
          } else {
            weigh_by_softmax(bucket, size, blocks);
          }
        });
    if (!solved) return false;
    moved_.split.for_each(ids, workers, [&](std::int64_t k, std::int64_t place) {
      row.w_out[elements[k]] = moved[place].value;
    });
    return true;
  }

  // Whether elements share a block, though z's have one each: ids of w come from outside.
  static bool meet(const Element* of, std::int64_t n, Softmax* blocks) {
    bool any = false;
    for (std::int64_t k = 0; k < n; ++k) {
      Softmax& block = blocks[of[k].id];
      any |= block.total != 0.0;
      block.total = 1.0;
    }
    for (std::int64_t k = 0; any && k < n; ++k) blocks[of[k].id].total = 0.0;
    return any;
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
  Buffer<Most> parts_;
  LoneBlocks lone_;
  MovedElements moved_;
};

}  // namespace diffsort::DIFFSORT_LEVEL
