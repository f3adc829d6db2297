// What all threads that work on a row know about it once it is sorted.
//
// It lies in the team's memory, or in the workspace of long rows: many threads read it, and a copy
// for each of them would fill their registers.
#pragma once

#include <cmath>

#include "diffsort/host_device.h"
#include "diffsort/parallel_row/partition/keyed_operand.h"
#include "diffsort/parallel_row/partition/partition.h"
#include "diffsort/parallel_row/partition/sorted_row.h"

namespace diffsort {

// Whether a row without NaN has a value. At strength > 0 an infinite w has no limit; kl has weights.
template <Regularization R>
DIFFSORT_HD bool has_projection(double strength, double largest_w, double smallest_w) {
  if (!(strength >= 0.0 && std::isfinite(strength))) return false;
  if (strength > 0.0 && (std::isinf(largest_w) || std::isinf(smallest_w))) return false;
  return R != Regularization::kl || smallest_w >= 0.0;
}

// Once for all regularizations.
template <class Operand>
DIFFSORT_HD DIFFSORT_NOINLINE FiniteRange finite_range(const Operand& x) {
  return FiniteRange::of(x);
}

template <class Operand, Regularization R, std::int32_t kShortestKept>
struct RowState {
  using Row = SortedRow<R, Operand, Operand>;
  using Memory = PartitionMemory<R, kShortestKept>;

  Row row;
  Memory memory;
  FiniteRange finite_z;
  bool has_value;  // otherwise results are NaN, and no more is done

  DIFFSORT_HD RowState(double strength, const Operand& z, const Operand& w, const Memory& memory)
      : row{z.n, strength, Units(strength, finite_range(z).width(z), w(0) - w(w.n - 1)), z, w},
        memory(memory),
        finite_z(finite_range(z)),
        has_value(!has_nan(z) && !has_nan(w) && has_projection<R>(strength, w(0), w(w.n - 1))) {}

  DIFFSORT_HD Partition<R, Row, kShortestKept> partition() const { return {row, memory}; }
};

}  // namespace diffsort
