// The operands of long rows: what of them is sorted, and how they are read once they are.
//
// A sort has keys of 32 bits. Those of float64 are sorted by their low halves, and then by the high
// ones, which are read from where the first sort says; no more than places is left of it. Keys of
// float32 are kept, if there is room.
#pragma once

#include <cstdint>

#include "diffsort/arithmetic.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/rows/float_rows.h"
#include "diffsort/parallel_row/rows/projection_rows.h"
#include "diffsort/parallel_row/team/keyed_place.h"
#include "diffsort/sort.h"

namespace diffsort {

// An operand of a chunk of rows. The type is looked up, so that there is one kernel of each step for
// both.
struct LongOperands {
  FloatRows values;  // as the array has them; absent: rho, which is sorted already
  double sign = 1.0;
  std::int64_t n = 0;
  std::uint32_t* keys = nullptr;    // sorted, row after row, of float32; or null
  std::uint32_t* places = nullptr;  // the columns that sorted elements came from, row after row

  DIFFSORT_HD explicit operator bool() const { return static_cast<bool>(values); }

  DIFFSORT_HD std::int64_t column(std::int64_t r, std::int64_t i) const {
    return values ? places[r * n + i] : i;
  }
};

// Elements to be sorted: float32, by their keys,
struct WholeKeys {
  LongOperands x;

  DIFFSORT_HD std::uint32_t key(std::int64_t r, std::int64_t i) const {
    return signed_key(x.values.as<float>()[r * x.values.stride + i], x.sign);
  }
  DIFFSORT_HD KeyedPlace operator()(std::int64_t r, std::int64_t i) const {
    return {key(r, i), static_cast<std::uint32_t>(i)};
  }
};

// and float64, by halves of theirs: the high ones in the order that the low ones have.
struct HalfKeys {
  LongOperands x;
  bool is_high;

  DIFFSORT_HD std::uint32_t key(std::int64_t r, std::int64_t i) const { return (*this)(r, i).key; }
  DIFFSORT_HD KeyedPlace operator()(std::int64_t r, std::int64_t i) const {
    const auto place = is_high ? x.places[r * x.n + i] : static_cast<std::uint32_t>(i);
    const double value = x.values.as<double>()[r * x.values.stride + place];
    const std::uint64_t key = signed_key(value, x.sign);
    return {static_cast<std::uint32_t>(is_high ? key >> 32 : key), place};
  }
};

// An operand of one row, sorted.
struct LongOperand {
  std::int64_t n;
  const std::uint32_t* keys;
  const std::uint32_t* places;  // null: rho, without keys
  FloatRows values;
  bool is_negated;

  DIFFSORT_HD LongOperand(const LongOperands& x, std::int64_t r)
      : n(x.n),
        keys(x.keys == nullptr ? nullptr : x.keys + r * x.n),
        places(x.places == nullptr ? nullptr : x.places + r * x.n),
        values(x.values.from(r)),
        is_negated(x.sign < 0.0) {}

  // The i-th largest value.
  DIFFSORT_HD double operator()(std::int64_t i) const {
    if (keys != nullptr) return from_descending_key<float>(keys[i]);
    return places == nullptr ? count_to_double(n - i) : gathered(i);
  }

 private:
  DIFFSORT_HD DIFFSORT_NOINLINE double gathered(std::int64_t i) const {
    const double value = values[places[i]];
    return (is_negated ? -value : value) + 0.0;  // never -0, as of keys
  }
};

}  // namespace diffsort
