// What derivatives need to know of a block: sums over its elements, and their weights in them.
//
//     weights      p, of z's elements                            q, of w's
//     l2           1 / |B|                                       1 / |B|
//     log_kl       softmax_B(z / strength)                       softmax_B(w)
//     kl           result / sum_B(result)                        1, w's elements being added up
//
// Of an element alone in its block all that is known without numbers, and exactly: its weight is 1,
// its derivative by z is 0. Numbers there are for blocks of at least two elements, at start / 2. A
// weight is made anew from them wherever it is needed.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "diffsort/arithmetic.h"
#include "diffsort/parallel_row/block_sums/group_sums.h"
#include "diffsort/parallel_row/rows/linearized_rows.h"
#include "diffsort/parallel_row/team/arena.h"

namespace diffsort {

// In the order in which they are computed: those above are needed for those below.
enum class Quantity : int {
  largest,     // z or w, the point of reference
  softmax,     // what softmax divides by
  results,     // kl: sum(result)
  weightless,  // kl: of a block without weight in w, minus what softmax divides by
  cotangents,  // sum(outer g), of l2 the mean
  shares,      // kl: <p, g>
  tangents,    // <p, ds>, or <q, dw>
};
constexpr int kQuantities = 7;

// Which numbers are kept at the same time, and where: sums as double, the largest of a block's
// elements as what it is. Grouping: as Groups of group.h.
template <class Grouping>
struct BlockNumbers {
  typename Grouping::Doubles sum{}, total{};
  typename Grouping::Output largest{};  // absent for rho, of which it is known
};

template <Regularization R>
struct Wanted {
  bool strength = false, w = false, any_operand = false, is_float32 = false;

  template <class At, class Along>
  DIFFSORT_HD static Wanted of(const At& at, const Along& along) {
    return {along.wants_strength(), along.wants_w(), at.z || at.w, at.z.is_float32};
  }
  DIFFSORT_HD static constexpr bool total() { return R != Regularization::l2; }
  DIFFSORT_HD bool largest() const {
    return R == Regularization::log_kl || strength || (R == Regularization::kl && w);
  }
  DIFFSORT_HD bool keeps_largest() const { return any_operand && largest(); }

  // Lays out the numbers of `count` elements.
  template <class Source, class Grouping>
  DIFFSORT_HD void place(Source& arena, std::int64_t count, BlockNumbers<Grouping>& numbers) const {
    const std::int64_t blocks = (count + 1) / 2;
    numbers.sum = arena.template take<double>(blocks);
    if (total()) numbers.total = arena.template take<double>(blocks);
    if (keeps_largest()) {
      void* const memory = is_float32 ? static_cast<void*>(arena.template take<float>(blocks))
                                      : static_cast<void*>(arena.template take<double>(blocks));
      numbers.largest = {memory, is_float32};
    }
  }
};

// Rows whose elements are grouped by the blocks of z or, with on_w, of w. Grouping: as Groups of
// group.h.
template <Regularization R, class Grouping, class At, class Along>
struct BlockedRows {
  using Output = typename Grouping::Output;
  using Position = typename Grouping::Position;  // of an element, or of a block's start
  using Values = decltype(At::z);

  At at;
  Along along;
  RowStates states;
  Grouping groups;
  BlockNumbers<Grouping> numbers;
  bool on_w;
  Values values;  // of z or of w
  double sign;

  DIFFSORT_HD BlockedRows(const At& at, const Along& along, const RowStates& states,
                          const Grouping& groups, const BlockNumbers<Grouping>& numbers, bool on_w)
      : at(at),
        along(along),
        states(states),
        groups(groups),
        numbers(numbers),
        on_w(on_w),
        values(on_w ? at.w : at.z),
        sign(on_w ? at.w_sign : at.z_sign) {}

  static constexpr bool l2 = R == Regularization::l2, kl = R == Regularization::kl,
                        log_kl = R == Regularization::log_kl;

  DIFFSORT_HD bool wants(Quantity quantity) const {
    const bool forward = along.forward, w = along.wants_w();
    switch (quantity) {
      case Quantity::largest:
        return values && (on_w ? log_kl : Wanted<R>::of(at, along).largest());
      case Quantity::softmax:
        return log_kl;
      case Quantity::results:
        return kl && !on_w;
      case Quantity::weightless:
        return kl && !on_w && w;
      case Quantity::cotangents:
        return !forward && !on_w && (!kl || along.wants_s());
      case Quantity::shares:
        return !forward && !on_w && kl && w;
      case Quantity::tangents:
        return forward && (on_w || along.wants_s());
    }
    return false;
  }
  // Where an element's block is.
  DIFFSORT_HD auto place(Position e) const {
    return at.set.place(on_w ? at.block_w : at.block_z, e);
  }
  DIFFSORT_HD Output place(Quantity quantity) const {
    if (quantity == Quantity::largest) return numbers.largest;
    return Grouping::output(quantity < Quantity::cotangents ? numbers.total : numbers.sum);
  }

  // What element e contributes, and what becomes of the block's total. (Written so that softmax is
  // there once.)
  DIFFSORT_HD double term(Quantity quantity, Position e, Position start) const {
    double factor = 1.0;
    bool divided = false;
    switch (quantity) {
      case Quantity::largest:
        return operand(e);
      case Quantity::results:
        return result_part(e);
      case Quantity::cotangents:
        return outer(e) * g(e);
      case Quantity::softmax:
        break;
      case Quantity::weightless:
        if (numbers.total[start / 2] != 0.0) return 0.0;
        break;
      case Quantity::shares:
        factor = g(e);
        divided = true;
        break;
      case Quantity::tangents:
        factor = on_w ? at.set.read(along.tangents.w, e) : ds(e, at.set.place(at.block_z, e));
        divided = true;
        break;
    }
    return factor * weight(e, start, divided);
  }
  DIFFSORT_HD double finish(Quantity quantity, Position start, Position size, double total) const {
    switch (quantity) {
      case Quantity::results:  // a sum below 0 is none of a projection's
        return total >= 0.0 ? total : std::numeric_limits<double>::quiet_NaN();
      case Quantity::weightless:
        return numbers.total[start / 2] == 0.0 ? -total : numbers.total[start / 2];
      case Quantity::cotangents:
      case Quantity::tangents:
        return l2 ? total / count_to_double(size) : total;
      default:
        return total;
    }
  }

  // The weight; for l2 1, since whoever adds up divides by the number.
  // Not divided it is softmax's part.
  DIFFSORT_HD double weight(Position e, Position start, bool divided = true) const {
    if (l2 || (kl && on_w)) return 1.0;
    const double total = divided ? numbers.total[start / 2] : -1.0;
    if (kl && total == 0.0) return 0.0;  // of no consequence where w's derivative is not wanted
    const bool by_result = kl && !(total < 0.0);
    return (by_result ? result_part(e) : softmax_part(e, start)) / std::abs(total);
  }
  // kl: the result. At strength 0, where it may be infinite, a block's z are equal and share alike.
  DIFFSORT_HD double result_part(Position e) const {
    return states.strength[at.set.row(e)] > 0.0 ? at.result_at(e) : 1.0;
  }
  // Of s = z / strength. Not of the result, though the two differ by a constant of the block: the
  // result is rounded, by much where w is far from zero.
  DIFFSORT_HD double softmax_part(Position e, Position start) const {
    if (l2) return 0.0;
    const double scale = on_w ? 1.0 : Grouping::over_strength(1.0, states.strength[at.set.row(e)]);
    return diffsort::softmax_part(operand(e), largest(start), scale);
  }
  DIFFSORT_HD double operand(Position e) const { return at.operand(values, sign, e); }
  // Of a block's elements; rho has them in order.
  DIFFSORT_HD double largest(Position start) const {
    return values ? numbers.largest[start / 2] : operand(start);
  }
  // kl is exp(log_kl): the derivative of exp multiplies by the result.
  DIFFSORT_HD double outer(Position e) const { return kl ? at.result_at(e) : 1.0; }

  // z less the largest z of its block. Any z of the block would do but for rounding: in kl the
  // largest has weight, while others may lie far away without any.
  DIFFSORT_HD double relative_z(Position e, Position start) const {
    return groups.alone(start) ? 0.0 : operand(e) - largest(start);
  }

  // The cotangent of the result.
  DIFFSORT_HD double g(Position e) const { return at.w_sign * at.set.read(along.cotangents.g, e); }
  // The tangent of s, up to a constant of the block.
  template <class Place>
  DIFFSORT_HD double ds(Position e, const Place& place) const {
    if (place.infinite) return 0.0;
    const double strength = states.strength[place.row];
    double tangent = along.tangents.z ? at.z_sign * at.set.read(along.tangents.z, e) : 0.0;
    if (along.tangents.has_strength) {
      const double s = Grouping::over_strength(relative_z(e, place.start), strength);
      tangent -= s * states.dstrength[place.row];
    }
    return Grouping::over_strength(tangent, strength);
  }
};

template <class Rows>
struct BlockQuantity {
  using Position = typename Rows::Position;

  Rows rows;
  Quantity quantity;

  DIFFSORT_HD Combine combine() const { return {quantity == Quantity::largest}; }
  DIFFSORT_HD bool is_settled_at(Position p) const {
    return Rows::kl && rows.groups.is_settled(rows.at.set.row(p));
  }
  DIFFSORT_HD double term(Position e, Position start) const {
    return rows.term(quantity, e, start);
  }
  DIFFSORT_HD double finish(Position start, Position size, double total) const {
    return rows.finish(quantity, start, size, total);
  }
};

}  // namespace diffsort
