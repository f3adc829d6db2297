// J^T g of one row by its formulas, in long double, with what rounding may do to it: of the blocks of
// a forward pass, and of any other ids, which may be forged.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "diffsort/derivative_formulas.h"
#include "diffsort/projection.h"
#include "plain_row.h"

namespace diffsort::testing {

template <class T>
class CotangentReference {
 public:
  using Ids = std::vector<std::int32_t>;

  // result: without the sign of w. All of them are kept by reference.
  CotangentReference(const PlainRow& row, const std::vector<T>& result, const Ids& block_z,
                     const Ids& block_w, const std::vector<T>& g)
      : row_(row),
        result_(result),
        block_z_(block_z),
        block_w_(block_w),
        g_(g),
        has_z_(are_valid(block_z)),
        has_w_(has_z_ && are_valid(block_w)),
        differences_overflow_(!is(Regularization::l2) &&
                              (row.strength < std::numeric_limits<double>::min() ||
                               difference_overflows(row.z) || difference_overflows(row.w))),
        sums_(has_z_ ? g.size() : 0) {
    if (!has_z_) return;
    if (is(Regularization::log_kl) || is(Regularization::kl)) find_softmax();
    for (std::size_t i = 0; i < g.size(); ++i) add(i);
    if (is(Regularization::kl)) {
      for (std::size_t i = 0; i < g.size(); ++i) add_weighted(i);
    }
    if (is(Regularization::log_kl) && has_w_) find_w_softmax();
  }

  // Whether the ids are such that there are derivatives by w; else they are NaN.
  bool has_w() const { return has_w_; }

  // What is wrong with what was found; empty: nothing. sign: that of z times that of w. refused: the
  // ids of w were asked for as well, and cannot be.
  std::string complaint_of_z(const std::vector<T>& found, double sign, bool refused) const {
    for (std::size_t i = 0; i < found.size(); ++i) {
      const Expected expected = has_z_ && !refused ? by_z(i) : kRefused;
      const std::string complaint = compare(i, sign * static_cast<double>(found[i]), expected);
      if (!complaint.empty()) return complaint;
    }
    return "";
  }
  std::string complaint_of_w(const std::vector<T>& found) const {
    for (std::size_t j = 0; j < found.size(); ++j) {
      const std::string complaint = compare(j, found[j], has_w_ ? by_w(j) : kRefused);
      if (!complaint.empty()) return complaint;
    }
    return "";
  }

 private:
  using Real = long double;

  // size: of the largest number on the way. allowed: of the error.
  struct Expected {
    Real value, size, allowed;
  };
  static constexpr Expected kRefused{std::numeric_limits<Real>::quiet_NaN(), 0.0L, 0.0L};

  // Over a block. weighted: by the shares of kl.
  struct Sums {
    Real count = 0.0L, g = 0.0L, size_of_g = 0.0L;
    Real weight = 0.0L, weighted_g = 0.0L, weighted_size = 0.0L;
  };

  bool is(Regularization regularization) const { return row_.regularization == regularization; }
  static bool are_valid(const Ids& ids) {
    const auto n = static_cast<std::int64_t>(ids.size());
    return std::all_of(ids.begin(), ids.end(), [n](std::int32_t id) { return is_valid_id(id, n); });
  }
  static std::size_t start(std::int32_t id) { return static_cast<std::size_t>(block_start(id)); }

  // Parts of softmax_B(x / strength), and their sums.
  static std::vector<Real> parts_of(const std::vector<double>& x, const Ids& ids, Real strength,
                                    std::vector<Real>& totals) {
    std::vector<double> tops(x.size(), -std::numeric_limits<double>::infinity());
    for (std::size_t i = 0; i < x.size(); ++i)
      tops[start(ids[i])] = std::max(tops[start(ids[i])], x[i]);
    std::vector<Real> parts(x.size());
    totals.assign(x.size(), 0.0L);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double top = tops[start(ids[i])];
      parts[i] = x[i] == top ? 1.0L : std::exp((Real(x[i]) - Real(top)) / strength);
      totals[start(ids[i])] += parts[i];
    }
    return parts;
  }

  // p of log_kl, and that of kl's blocks without weight.
  void find_softmax() {
    const bool hard = !(row_.strength > 0.0);
    if (is(Regularization::kl)) {
      for (std::size_t i = 0; i < g_.size(); ++i) sums_[start(block_z_[i])].weight += weight(i);
    }
    std::vector<Real> totals;
    shares_ = parts_of(row_.z, block_z_, hard ? 1.0L : Real(row_.strength), totals);
    for (std::size_t i = 0; i < g_.size(); ++i) {
      const std::size_t block = start(block_z_[i]);
      const bool by_weight = is(Regularization::kl) && sums_[block].weight != 0.0L;
      shares_[i] = by_weight ? weight(i) / sums_[block].weight : shares_[i] / totals[block];
    }
  }
  void find_w_softmax() {
    std::vector<Real> totals;
    w_shares_ = parts_of(row_.w, block_w_, 1.0L, totals);
    for (std::size_t j = 0; j < g_.size(); ++j) w_shares_[j] /= totals[start(block_w_[j])];
  }
  // At strength 0 the elements of a block of kl share alike.
  Real weight(std::size_t i) const { return row_.strength > 0.0 ? Real(result_[i]) : 1.0L; }

  void add(std::size_t i) {
    Sums& sums = sums_[start(block_z_[i])];
    sums.count += 1.0L;
    sums.g += Real(g_[i]);
    sums.size_of_g += std::abs(Real(g_[i]));
  }
  void add_weighted(std::size_t i) {
    Sums& sums = sums_[start(block_z_[i])];
    sums.weighted_g += shares_[i] * Real(g_[i]);
    sums.weighted_size += shares_[i] * std::abs(Real(g_[i]));
  }

  Expected by_z(std::size_t i) const {
    if (is_infinite_block(block_z_[i]) || !(row_.strength > 0.0)) return {0.0L, 0.0L, 0.0L};
    const Sums& sums = sums_[start(block_z_[i])];
    const Real g = g_[i], strength = row_.strength;
    Real value = 0.0L, size = 0.0L;
    switch (row_.regularization) {
      case Regularization::l2:
        value = g - sums.g / sums.count;
        size = std::abs(g) + sums.size_of_g / sums.count;
        break;
      case Regularization::kl:
        value = weight(i) * (g - sums.weighted_g);
        size = weight(i) * (std::abs(g) + sums.weighted_size);
        break;
      case Regularization::log_kl:
        value = g - shares_[i] * sums.g;
        size = std::abs(g) + sums.size_of_g;
        break;
    }
    // Means, and products of kl, are no finer than the smallest double.
    const Real factor = is(Regularization::kl) ? 1.0L + weight(i) : 1.0L;
    const Real smallest = (Real(g_.size()) + 4.0L) * kSmallestDouble * factor / strength;
    return {value / strength, std::max({size, size / strength, std::abs(g), inner_size(sums)}),
            size / strength * rounding() + smallest + kSmallest};
  }

  Expected by_w(std::size_t j) const {
    const Sums& sums = sums_[start(block_w_[j])];
    switch (row_.regularization) {
      case Regularization::l2: {
        const Real size = sums.size_of_g / sums.count;
        return {sums.g / sums.count, sums.size_of_g, size * rounding() + kSmallest};
      }
      case Regularization::kl: {
        // Shares of kl's softmax have errors in proportion to the largest.
        const Real size = sums.weight != 0.0L ? sums.weighted_size : sums.size_of_g;
        return {sums.weighted_g, inner_size(sums), size * rounding() + Real(g_.size()) * kSmallest};
      }
      default: {
        const Real share = w_shares_[j];
        // exp(x) has as many wrong digits as x has digits before the point; small ones underflow.
        const Real exponent = std::min(800.0L, share > 0.0L ? -std::log(share) : 800.0L);
        const Real relative = rounding() + exponent * 0x1p-50L;
        return {share * sums.g, inner_size(sums),
                sums.size_of_g * (share * relative + kSmallest + 1e-300L) + kSmallest};
      }
    }
  }

  // Of what is added up on the way. Shares are those of differences, which may overflow as well, and so
  // does 1 / strength where the strength is denormal.
  Real inner_size(const Sums& sums) const {
    if (differences_overflow_) return 2.0L * std::numeric_limits<double>::max();
    return std::max(sums.size_of_g, sums.weight * sums.weighted_size);
  }
  static bool difference_overflows(const std::vector<double>& x) {
    Real low = 0.0L, high = 0.0L;
    for (const double value : x) {
      if (!std::isfinite(value)) continue;
      low = std::min(low, Real(value));
      high = std::max(high, Real(value));
    }
    return high - low > Real(std::numeric_limits<double>::max());
  }

  // The result is rounded, log_kl's shares before it; sums are in double.
  Real rounding() const {
    return 2.0L * std::numeric_limits<T>::epsilon() + (Real(g_.size()) + 100.0L) * 0x1p-50L;
  }

  static std::string compare(std::size_t i, double found, const Expected& expected) {
    // Numbers that overflow on the way may be anything; infinite ones lead to NaN or infinities.
    constexpr Real kMax = sizeof(T) == 4 ? 3e38L : 1e300L;
    const bool overflows = expected.size > kMax && !std::isinf(expected.size);
    const bool fits = std::isnan(expected.value)
                          ? std::isnan(found)
                          : std::isinf(expected.value) ||
                                std::abs(Real(found) - expected.value) <= expected.allowed;
    if (overflows || fits) return "";
    return "element " + std::to_string(i) + " is " + digits(found) + " instead of " +
           digits(static_cast<double>(expected.value)) + ", allowed " +
           digits(static_cast<double>(expected.allowed));
  }

  static constexpr Real kSmallestDouble = 0x1p-1074L;
  static constexpr Real kSmallest = 4.0L * Real(std::numeric_limits<T>::denorm_min());

  const PlainRow& row_;
  const std::vector<T>& result_;
  const Ids &block_z_, &block_w_;
  const std::vector<T>& g_;
  const bool has_z_, has_w_, differences_overflow_;
  std::vector<Sums> sums_;  // by block ids
  std::vector<Real> shares_, w_shares_;
};

}  // namespace diffsort::testing
