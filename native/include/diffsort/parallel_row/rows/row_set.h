// Rows side by side, and what of each is known by one number.
#pragma once

#include <cstdint>

#include "diffsort/atomics.h"
#include "diffsort/derivative_formulas.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/rows/dense_rows.h"

namespace diffsort {

// Where an element is. Of an id that cannot be one, `start` is within the same row all the same.
struct Place {
  std::int64_t row, start;
  bool valid, infinite;
};

// Rows side by side.
class RowSet {
 public:
  DIFFSORT_HD RowSet(std::int64_t rows, std::int64_t n)
      : rows(rows), n(n), row_per_element_(1.0 / static_cast<double>(n)) {}

  std::int64_t rows, n;

  DIFFSORT_HD std::int64_t count() const { return rows * n; }
  // Without a division: (e + 1/2) / n is at least 1 / (2 n) away from an integer, far more than it
  // is rounded by, since e is below 2^31.
  DIFFSORT_HD std::int64_t row(std::int64_t e) const {
    if (rows == 1) return 0;
    return static_cast<std::int32_t>((static_cast<double>(e) + 0.5) * row_per_element_);
  }
  template <class Rows>
  DIFFSORT_HD auto read(const Rows& from, std::int64_t e) const {
    return from[from.stride == 0 ? e - row(e) * n : e];
  }
  DIFFSORT_HD Place place(const DenseRows<const std::int32_t>& ids, std::int64_t e) const {
    const std::int32_t id = ids.data[ids.stride == 0 ? e - row(e) * n : e];
    const bool valid = is_valid_id(id, n);
    const std::int64_t r = row(e);
    return {r, r * n + (valid ? block_start(id) : 0), valid, is_infinite_block(id)};
  }

 private:
  double row_per_element_;
};

// What is known of every row: one number each.
struct RowStates {
  double *strength = nullptr, *dstrength = nullptr;
  std::uint32_t* invalid = nullptr;

  DIFFSORT_HD bool is_invalid(std::int64_t row) const { return load_bits(invalid + row) != 0; }
  DIFFSORT_HD void make_invalid(std::int64_t row) const {
    if (!is_invalid(row)) set_bits(invalid + row, 1);
  }
};

}  // namespace diffsort
