// What all threads that work on a row know about it once it is sorted.
//
// It lies in the team's memory, or in the workspace of long rows: many threads read it, and a copy
// for each of them would fill their registers.
#pragma once

#include <cmath>

#include "diffsort/host_device.h"
#include "diffsort/parallel_row/keyed_operand.h"
#include "diffsort/parallel_row/partition.h"
#include "diffsort/parallel_row/sorted_row.h"

namespace diffsort {

template <class T, Regularization R>
struct RowState {
  using Row = SortedRow<R, KeyedOperand<T>, KeyedOperand<T>>;

  Row row;
  PartitionMemory<R> memory;
  FiniteRange finite_z;
  bool has_value;  // otherwise results are NaN, and no more is done

  DIFFSORT_HD RowState(double strength, const KeyedOperand<T>& z, const KeyedOperand<T>& w,
                       const PartitionMemory<R>& memory)
      : row{z.n, strength, Units(strength, FiniteRange::of(z).width(z), w(0) - w(w.n - 1)), z, w},
        memory(memory),
        finite_z(FiniteRange::of(z)),
        has_value(!z.has_nan() && !w.has_nan() && strength >= 0.0 && std::isfinite(strength) &&
                  allows(strength, w(0), w(w.n - 1))) {}

  DIFFSORT_HD Partition<R, Row> partition() const { return {row, memory}; }

 private:
  // At strength > 0 an infinite w has no limit; kl has weights.
  DIFFSORT_HD static bool allows(double strength, double largest, double smallest) {
    if (strength > 0.0 && (std::isinf(largest) || std::isinf(smallest))) return false;
    return R != Regularization::kl || smallest >= 0.0;
  }
};

}  // namespace diffsort
