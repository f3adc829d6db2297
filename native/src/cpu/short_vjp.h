// J^T of short rows without gaps, by a table with a sum and a weight for every block id.
//
// A pair of numbers is one addition to memory, but it waits for the last one to the same place, and most
// elements of a row may share a block. So kTogether rows, which have tables of their own, take turns.
// Means are quotients of pairs, side by side for as many elements as a vector holds; dividing once for
// every element costs less than finding out which ids are those of blocks. Rows of ranks that are one block
// each need no table: their pairs stay in registers.
// Cost: about 20 instructions per element, 8 in one block. Chosen: up to kLongest elements.
#pragma once

#include <cstdint>
#include <cstring>

#include "block_ids.h"
#include "block_sums_by_id.h"
#include "diffsort/arithmetic.h"
#include "diffsort/projection.h"
#include "row_solver.h"
#include "scan.h"
#include "simd.h"
#include "softmax_weights.h"

namespace diffsort::DIFFSORT_LEVEL {

template <class T, Regularization R>
class ShortVjp {
 public:
  static constexpr std::int64_t kTogether = 4;
  static constexpr std::int64_t kLongest = SumsById::kInOrder;

  // Whether rows of this call may be for here: cotangents of z for l2 and kl, of w for l2 and log_kl.
  static bool serves(const Problem& problem, const Linearization<T>& at,
                     const Cotangents<T>& cotangents) {
    const auto dense = [](const auto& rows) { return rows && rows.strides.along == 1; };
    if (problem.space.length > kLongest || !dense(cotangents.g) || !dense(at.block_z)) return false;
    if (cotangents.z) {
      return dense(cotangents.z) &&
             (R == Regularization::l2 || (R == Regularization::kl && dense(at.result)));
    }
    return dense(cotangents.w) && dense(at.block_w) &&
           (R == Regularization::l2 || (R == Regularization::log_kl && dense(at.w)));
  }

  // Rows r, ..., r + count - 1, at most kTogether. Bit k of what is returned: row r + k is solved; of
  // others nothing was written that counts.
  static unsigned solve(const Problem& problem, const Linearization<T>& at,
                        const Cotangents<T>& cotangents, std::int64_t r, std::int64_t count) {
    const RowSpace& space = problem.space;
    const bool is_rank = static_cast<bool>(cotangents.z);
    const double sign = problem.z_sign * (R == Regularization::l2 ? problem.w_sign : 1.0);
    ShortRow rows[kTogether] = {};
    unsigned solved = 0;
    bool all_one = is_rank;
    for (std::int64_t k = 0; k < kTogether; ++k) {
      const std::int64_t row = r + (k < count ? k : count - 1);
      const double strength = problem.strength.row(space, row);
      rows[k].g = cotangents.g.row(space, row).data;
      rows[k].ids = at.block_z.row(space, row).data;
      rows[k].scale = sign / strength;
      bool one = false;
      const bool plain = is_moderate(strength) && are_plain(rows[k].ids, space.length, &one);
      if (is_rank) {
        if (R == Regularization::kl) rows[k].result = at.result.row(space, row).data;
        rows[k].out = cotangents.z.row(space, row).data;
        solved |= static_cast<unsigned>(plain) << k;
        all_one &= one;
      } else {
        rows[k].w_ids = at.block_w.row(space, row).data;
        rows[k].out = cotangents.w.row(space, row).data;
        bool serves = plain && are_plain(rows[k].w_ids, space.length);
        if (R == Regularization::log_kl) {
          const T* const w = at.w.row(space, row).data;
          const RowFacts facts = scan(w, space.length);
          serves &= share_a_top(facts);
          write_softmax_weights(w, space.length, problem.w_sign, facts, rows[k].out);
        }
        solved |= static_cast<unsigned>(serves) << k;
      }
    }
    if (solved == 0) return 0;
    if (all_one) return rank_one_blocks(space.length, rows, count);
    for (int k = 0; k < kTogether; ++k) {
      if (!(solved >> k & 1u)) rows[k] = rows[lowest_bit(solved)];  // adds up for nothing
    }
    Tables tables;
    add_up(space.length, rows, tables);
    for (std::int64_t k = 0; k < count; ++k) {
      if (!(solved >> k & 1u)) continue;
      if (!(is_rank ? rank(space.length, rows[k], tables[k])
                    : sort(space.length, rows[k], tables[k]))) {
        solved &= ~(1u << k);
      }
    }
    return solved;
  }

 private:
  using Tables = Pair[kTogether][kLongest];

  struct ShortRow {
    const T *g, *result;
    const std::int32_t *ids, *w_ids;
    T* out;
    double scale;
  };

  static double weight(const ShortRow& row, std::int64_t i) {
    return R == Regularization::kl ? static_cast<double>(row.result[i]) : 1.0;
  }

  static void add_up(std::int64_t n, const ShortRow* rows, Tables& tables) {
    for (std::int64_t b = 0; b < n; ++b) {
      for (std::int64_t k = 0; k < kTogether; ++k) tables[k][b] = Pair{};
    }
    if (R == Regularization::log_kl) {
      for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t k = 0; k < kTogether; ++k) {
          tables[k][rows[k].ids[i]] += Pair{static_cast<double>(rows[k].g[i]), 0.0};
          tables[k][rows[k].w_ids[i]] += Pair{0.0, static_cast<double>(rows[k].out[i])};
        }
      }
      return;
    }
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t k = 0; k < kTogether; ++k) {
        const double w = weight(rows[k], i);
        tables[k][rows[k].ids[i]] += Pair{w * static_cast<double>(rows[k].g[i]), w};
      }
    }
  }

  static unsigned rank_one_blocks(std::int64_t n, const ShortRow* rows, std::int64_t count) {
    Pair blocks[kTogether] = {};
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t k = 0; k < kTogether; ++k) {
        const double w = weight(rows[k], i);
        blocks[k] += Pair{w * static_cast<double>(rows[k].g[i]), w};
      }
    }
    unsigned solved = 0;
    for (std::int64_t k = 0; k < count; ++k) {
      const Doubles sum = broadcast(blocks[k][0]), total = broadcast(blocks[k][1]);
      if (blocks[k][1] == 0.0) continue;  // results 0 do not tell the softmax
      solved |= 1u << k;
      const ShortRow& row = rows[k];
      std::int64_t i = 0;
      for (; i + kLanes <= n; i += kLanes) {
        const Doubles w = R == Regularization::kl ? load(row.result + i) : broadcast(1.0);
        store(row.out + i, cotangent(w, load(row.g + i), sum, total, row.scale));
      }
      for (; i < n; ++i) {
        row.out[i] = static_cast<T>(cotangent(broadcast(weight(row, i)),
                                              broadcast(static_cast<double>(row.g[i])), sum, total,
                                              row.scale)[0]);
      }
    }
    return solved;
  }

  // l2: (g_i - mean_B(g)) / strength; kl: r_i (g_i - sum_B(r g) / sum_B(r)) / strength
  static bool rank(std::int64_t n, const ShortRow& row, const Pair* table) {
    constexpr bool kl = R == Regularization::kl;
    if (kl) {
      bool weightless = false;
      for (std::int64_t i = 0; i < n; ++i) weightless |= table[row.ids[i]][1] == 0.0;
      if (weightless) return false;  // results 0 do not tell the softmax
    }
    std::int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      const Doubles w = kl ? load(row.result + i) : broadcast(1.0);
      store(row.out + i, cotangent(w, load(row.g + i), parts(table, row.ids + i, 0),
                                   parts(table, row.ids + i, 1), row.scale));
    }
    for (; i < n; ++i) {
      const Pair block = table[row.ids[i]];
      row.out[i] = static_cast<T>(
          cotangent(broadcast(weight(row, i)), broadcast(static_cast<double>(row.g[i])),
                    broadcast(block[0]), broadcast(block[1]), row.scale)[0]);
    }
    return true;
  }

  // Of an element alone in its block exactly 0: its share is exactly 1.
  static Doubles cotangent(Doubles w, Doubles g, Doubles sum, Doubles weight, double scale) {
    if (R == Regularization::kl) return (w * g - w / weight * sum) * scale;
    return (g - sum / weight) * scale;
  }

  // l2: mean_B(g), where ids of w that start no block are not for here; log_kl: softmax_B(w)_j sum_B(g).
  static bool sort(std::int64_t n, const ShortRow& row, const Pair* table) {
    Longs empty{};
    std::int64_t j = 0;
    for (; j + kLanes <= n; j += kLanes) {
      const Doubles sum = parts(table, row.w_ids + j, 0), weight = parts(table, row.w_ids + j, 1);
      empty |= weight == 0.0;
      store(row.out + j, sorted_cotangent(load(row.out + j), sum, weight));
    }
    bool blocks = mask_bits(empty) == 0;
    for (; j < n; ++j) {
      const Pair block = table[row.w_ids[j]];
      blocks &= block[1] != 0.0;
      row.out[j] = static_cast<T>(sorted_cotangent(broadcast(static_cast<double>(row.out[j])),
                                                   broadcast(block[0]), broadcast(block[1]))[0]);
    }
    return blocks;
  }

  static Doubles sorted_cotangent(Doubles share, Doubles sum, Doubles weight) {
    return R == Regularization::log_kl ? share / weight * sum : sum / weight;
  }

  static Doubles parts(const Pair* table, const std::int32_t* ids, int part) {
    return gather([&](int k) { return table[ids[k]][part]; });
  }
};

}  // namespace diffsort::DIFFSORT_LEVEL
