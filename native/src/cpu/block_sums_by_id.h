// Sums over the blocks of a row whose elements are in any order: of terms and of weights, side by side.
//
// Adding to a number in memory waits for the previous addition to the same number, and a row often
// has one block with most of its elements; so there are two tables, which take turns. Short rows have
// one: short_vjp.h adds them up in order, and a row is to have the same bits in any layout.
#pragma once

#include <cstdint>
#include <cstring>

#include "buffer.h"
#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

class SumsById {
 public:
  typedef double Pair __attribute__((vector_size(16)));  // of terms, of weights

  static constexpr std::int64_t kInOrder = 64;  // rows up to this length

  // The sums over each block of pair(i), at the block's id, which is below `size`.
  template <class F>
  void add_up(const std::int32_t* ids, std::int64_t n, std::int64_t size, const F& pair) {
    const auto entries = static_cast<std::size_t>(size * kTables * 2);
    std::memset(tables_.get(entries), 0, entries * sizeof(double));
    add_more(ids, n, pair);
  }

  // The same on top of what is there.
  template <class F>
  void add_more(const std::int32_t* ids, std::int64_t n, const F& pair) {
    double* const tables = tables_.data();
    std::int64_t i = 0;
    for (; n > kInOrder && i + kTables <= n; i += kTables) {
      for (int t = 0; t < kTables; ++t) add(tables, ids[i + t], t, pair(i + t));
    }
    for (; i < n; ++i) add(tables, ids[i], 0, pair(i));
  }

  Pair operator[](std::int64_t id) const {
    const double* const entry = tables_.data() + id * kTables * 2;
    Pair sum = at(entry);
    for (int t = 1; t < kTables; ++t) sum += at(entry + 2 * t);
    return sum;
  }

  // Those of kLanes elements.
  void gather(const std::int32_t* ids, Doubles* terms, Doubles* weights) const {
    for (int k = 0; k < kLanes; ++k) {
      const Pair sum = (*this)[ids[k]];
      (*terms)[k] = sum[0];
      (*weights)[k] = sum[1];
    }
  }

 private:
  static constexpr int kTables = 2;

  static Pair at(const double* entry) {
    Pair pair;
    std::memcpy(&pair, entry, sizeof pair);
    return pair;
  }
  static void add(double* tables, std::int64_t id, int table, Pair pair) {
    double* const entry = tables + (id * kTables + table) * 2;
    pair += at(entry);
    std::memcpy(entry, &pair, sizeof pair);
  }

  Buffer<double> tables_;
};

}  // namespace diffsort::DIFFSORT_LEVEL
