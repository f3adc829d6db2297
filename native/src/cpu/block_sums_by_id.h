// Sums over the blocks of a row whose elements are in any order.
//
// Adding to a number in memory waits for the previous addition to the same number, and a row often
// has one block with most of its elements; so short rows have several tables, which take turns.
#pragma once

#include <cstdint>
#include <cstring>

#include "buffer.h"
#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

class SumsById {
 public:
  // The sum over each block of term(i), at the block's id, which is below `size`.
  template <class Term>
  void add_up(const std::int32_t* ids, std::int64_t n, std::int64_t size, const Term& term) {
    if (size <= kShort) {
      add_up_in<4>(ids, n, size, term);
    } else {
      add_up_in<1>(ids, n, size, term);
    }
  }

  double& operator[](std::int64_t id) { return tables_.data()[id]; }
  const double* data() const { return tables_.data(); }

 private:
  static constexpr std::int64_t kShort = 2048;

  template <int kTables, class Term>
  void add_up_in(const std::int32_t* ids, std::int64_t n, std::int64_t size, const Term& term) {
    double* const tables = tables_.get(static_cast<std::size_t>(kTables * size));
    std::memset(tables, 0, static_cast<std::size_t>(kTables * size) * sizeof(double));
    std::int64_t i = 0;
    for (; i + kTables <= n; i += kTables) {
      for (int t = 0; t < kTables; ++t) tables[t * size + ids[i + t]] += term(i + t);
    }
    for (; i < n; ++i) tables[ids[i]] += term(i);
    if (kTables == 1) return;
    for (std::int64_t b = 0; b < size; ++b) {
      double sum = tables[b];
      for (int t = 1; t < kTables; ++t) sum += tables[t * size + b];
      tables[b] = sum;
    }
  }

  Buffer<double> tables_;
};

}  // namespace diffsort::DIFFSORT_LEVEL
