// Calls of the solver with the input that breaks solvers, made from a string of bytes and checked:
// for a test with random bytes and for a fuzzer, which looks for bytes that lead somewhere new.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "diffsort/projection.h"
#include "hostile_derivatives.h"
#include "plain_row.h"
#include "support.h"

namespace diffsort::testing {

// Decisions read from bytes; 0 when there are no more.
class Choices {
 public:
  Choices(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

  std::uint64_t bits(int bytes) {
    std::uint64_t result = 0;
    for (; bytes > 0; --bytes) result = result << 8 | (at_ < size_ ? data_[at_++] : 0u);
    return result;
  }
  std::int64_t below(std::int64_t bound) {
    return static_cast<std::int64_t>(bits(bound <= 256 ? 1 : 4) %
                                     static_cast<std::uint64_t>(bound));
  }
  bool flip() { return below(2) == 1; }

 private:
  const std::uint8_t* data_;
  std::size_t size_, at_ = 0;
};

// A row of one of the families that break solvers.
template <class T>
std::vector<T> hostile_row(std::int64_t n, bool nonnegative, Choices& choices) {
  using Limits = std::numeric_limits<T>;
  std::mt19937_64 random(choices.bits(4));
  std::normal_distribution<double> normal;
  const auto family = choices.below(16);
  const double scale = choices.below(4) == 0 ? std::pow(10.0, double(choices.below(61) - 30)) : 1.0;
  const double offset = choices.below(4) == 0 ? 1000.0 : 0.0, constant = normal(random);
  std::vector<T> row(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < row.size(); ++i) {
    const double x = normal(random);
    const auto die = static_cast<std::int64_t>(random() % 16);
    const T moderate = static_cast<T>((x + offset) * scale);
    T& value = row[i];
    switch (family) {
      case 0:
        value = moderate;
        break;
      case 1:
        value = static_cast<T>(double(die % 4) * scale);
        break;
      case 2:
        value = static_cast<T>(constant * scale);
        break;
      case 3:
        value = static_cast<T>(double(i) * scale);
        break;
      case 4:
        value = static_cast<T>(-double(i) * scale);
        break;
      case 5:
        value = static_cast<T>(std::tan(x * 1.5) * scale);
        break;  // tails of Cauchy's
      case 6:
        value = i == row.size() / 2 ? static_cast<T>(die < 8 ? 1e30 : -1e30) : moderate;
        break;
      case 7:
        value = static_cast<T>(double(die - 8)) * Limits::denorm_min();
        break;
      case 8:
        value = die < 6 ? T(0) : die < 12 ? -T(0) : moderate;
        break;
      case 9:
        value = die == 0 ? Limits::quiet_NaN() : moderate;
        break;
      case 10:
        value = die == 0 ? Limits::infinity() : die == 1 ? -Limits::infinity() : moderate;
        break;
      case 11:
        value = die < 12 ? Limits::infinity() : -Limits::infinity();
        break;
      case 12:
        value = die < 4 ? Limits::max() : die < 8 ? Limits::lowest() : moderate;
        break;
      case 13:
        value = static_cast<T>(die < 8 ? scale : 0.0);
        break;
      case 14:
        value =
            static_cast<T>(std::pow(10.0, (die < 8 ? 0.3 : -0.95) * Limits::max_exponent10 + x));
        break;  // huge and tiny ones
      default: {
        const std::uint64_t bits = random();
        std::memcpy(&value, &bits, sizeof value);
      }
    }
    if (nonnegative) value = std::abs(value);
  }
  return row;
}

// An array of rows in memory of its own, of any layout, with no byte too many: an address sanitizer
// sees what goes beyond it.
template <class T>
class Layout {
 public:
  Layout(const RowSpace& space, bool is_input, T initial, Choices& choices)
      : space_(space), initial_(initial) {
    const std::int64_t n = space.length, rows = space.rows();
    std::int64_t along = 1 + choices.below(3);
    std::int64_t batch = std::max<std::int64_t>(1, along * (n - 1) + 1) + choices.below(3);
    if (choices.below(4) == 0) batch = 1, along = rows;  // the rows of the transposed array
    if (is_input && choices.below(6) == 0) batch = 0;
    const bool empty = n == 0 || rows == 0;
    const std::int64_t size = empty ? 0 : along * (n - 1) + batch * (rows - 1) + 1;
    memory_.assign(static_cast<std::size_t>(size), initial);
    std::int64_t first = 0;
    if (choices.below(3) == 0 && !empty) first += along * (n - 1), along = -along;
    if (choices.below(3) == 0 && !empty) first += batch * (rows - 1), batch = -batch;
    rows_.data = empty ? &none_ : memory_.data() + first;
    rows_.strides.along = along;
    rows_.strides.batch[0] = batch;
  }

  const Rows<T>& rows() const { return rows_; }
  Row<T> row(std::int64_t r) const { return rows_.row(space_, r); }
  std::vector<T> copy(std::int64_t r) const {
    std::vector<T> result(static_cast<std::size_t>(space_.length));
    for (std::size_t i = 0; i < result.size(); ++i)
      result[i] = row(r)[static_cast<std::int64_t>(i)];
    return result;
  }
  // Whether nothing was written beside the elements.
  bool gaps_are_kept() const {
    std::vector<T> rest = memory_;
    for (std::int64_t r = 0; r < space_.rows(); ++r) {
      for (std::int64_t i = 0; i < space_.length; ++i) {
        rest[static_cast<std::size_t>(&row(r)[i] - memory_.data())] = initial_;
      }
    }
    return std::all_of(rest.begin(), rest.end(), [&](T value) { return value == initial_; });
  }

 private:
  RowSpace space_;
  T initial_, none_ = T();
  std::vector<T> memory_;
  Rows<T> rows_;
};

// The projection in long double: blocks pool from the left, by sums relative to their first element.
class LongDoubleSolution {
 public:
  LongDoubleSolution(const PlainRow& row, const std::vector<std::size_t>& sigma,
                     const std::vector<std::size_t>& tau)
      : row_(row), result_(sigma.size()), sizes_of_w_(sigma.size()) {
    for (std::size_t i = 0; i < sigma.size(); ++i) {
      Block block{i, 1, row.z[sigma[i]], 0.0L, weight(row.w[tau[i]])};
      while (!blocks_.empty() && pools(blocks_.back(), block)) {
        block = merged(blocks_.back(), block);
        blocks_.pop_back();
      }
      blocks_.push_back(block);
    }
    for (std::size_t b = 0; b < blocks_.size(); ++b) {
      const Block& block = blocks_[b];
      const double size_of_w = size_of_w_near(b, tau);
      for (std::size_t i = block.start; i < block.start + block.size; ++i) {
        const long double relative = difference(row.z[sigma[i]], block.z) - block.s + block.w;
        result_[sigma[i]] =
            row.regularization == Regularization::kl ? std::exp(relative) : relative;
        sizes_of_w_[sigma[i]] = size_of_w;
      }
    }
  }
  const std::vector<long double>& result() const { return result_; }
  // For each element, how large numbers of w decide on its result: those of its block, and those of
  // blocks that might as well be one with it.
  const std::vector<double>& sizes_of_w() const { return sizes_of_w_; }

 private:
  struct Block {
    std::size_t start, size;
    double z;          // of the first element
    long double s, w;  // mean of s - s_first and of w; kl, log_kl: log-sum-exp and log of the sum
  };

  bool is_l2() const { return row_.regularization == Regularization::l2; }
  long double weight(double w) const {
    return row_.regularization == Regularization::kl ? std::log(static_cast<long double>(w)) : w;
  }
  long double difference(double x, double y) const {
    if (x == y) return 0.0L;
    return (static_cast<long double>(x) - y) / static_cast<long double>(row_.strength);
  }
  bool pools(const Block& left, const Block& right) const {
    if (row_.strength == 0.0) return left.z == right.z;
    if (std::isinf(right.w)) return true;  // no weight at all
    return fall(left, right) <= 0.0L;
  }
  long double fall(const Block& left, const Block& right) const {
    return difference(left.z, right.z) + (left.s - left.w) - (right.s - right.w);
  }
  double size_of_w(const Block& block, const std::vector<std::size_t>& tau) const {
    return std::max(std::abs(row_.w[tau[block.start]]),
                    std::abs(row_.w[tau[block.start + block.size - 1]]));
  }
  double size_of_w_near(std::size_t b, const std::vector<std::size_t>& tau) const {
    double size = size_of_w(blocks_[b], tau);
    for (const std::size_t left : {b - 1, b}) {
      if (left >= blocks_.size() - 1) continue;  // (b - 1 is the largest number where b is 0)
      const Block &above = blocks_[left], &below = blocks_[left + 1];
      const double of_both = std::max(size_of_w(above, tau), size_of_w(below, tau));
      if (!(fall(above, below) > 0x1p-30 * of_both)) size = std::max(of_both, size);
    }
    return size;
  }
  Block merged(const Block& left, const Block& right) const {
    Block block = left;
    block.size += right.size;
    const long double s = right.s - difference(left.z, right.z);
    if (is_l2()) {
      const auto share =
          static_cast<long double>(right.size) / static_cast<long double>(block.size);
      block.s += (s - left.s) * share;
      block.w += (right.w - left.w) * share;
    } else {
      block.s = log_of_sum(left.s, s);
      block.w = log_of_sum(left.w, right.w);
    }
    return block;
  }
  static long double log_of_sum(long double a, long double b) {
    const long double high = std::max(a, b), low = std::min(a, b);
    return std::isinf(high) ? high : high + std::log1p(std::exp(low - high));
  }

  const PlainRow& row_;
  std::vector<Block> blocks_;
  std::vector<long double> result_;
  std::vector<double> sizes_of_w_;
};

// What is wrong with a solved row; empty: nothing.
template <class T>
class RowCheck {
 public:
  RowCheck(const PlainRow& row, const std::vector<T>& result,
           const std::vector<std::int32_t>& block_z, const std::vector<std::int32_t>& block_w)
      : row_(row), result_(result), block_z_(block_z), block_w_(block_w), largest_w_(0.0) {
    for (const double w : row.w) largest_w_ = std::max(largest_w_, std::abs(w));
  }

  std::string complaint() const {
    if (!row_.has_value()) return is_nan_row() ? "" : "a row without a value is not marked as one";
    const auto sigma = descending_order(row_.z), tau = descending_order(row_.w);
    std::int32_t previous = 0;
    for (std::size_t i = 0; i < sigma.size(); ++i) {
      const std::int32_t id = block_z_[sigma[i]], start = block_start(id);
      if (start != previous && start != static_cast<std::int32_t>(i))
        return "ids of z are no blocks";
      if (is_infinite_block(id) != std::isinf(row_.z[sigma[i]]))
        return "infinite ids are not those of infinite z";
      if (block_w_[tau[i]] != start) return "ids of w and z differ";
      previous = start;
    }
    if (!is_representable()) return "";
    const std::string complaint = values(sigma, tau);
    return complaint.empty() ? order_of_blocks(sigma, tau) : complaint;
  }

 private:
  bool is_nan_row() const {
    const auto is_mark = [](std::int32_t id) { return id == kNanRow; };
    return std::all_of(result_.begin(), result_.end(), [](T x) { return std::isnan(x); }) &&
           std::all_of(block_z_.begin(), block_z_.end(), is_mark) &&
           std::all_of(block_w_.begin(), block_w_.end(), is_mark);
  }

  // Whether sums of w are finite, and what weights of zero mean for infinite z is no question.
  bool is_representable() const {
    const auto is_zero = [](double x) { return x == 0.0; };
    const auto is_inf = [](double x) { return std::isinf(x); };
    const bool ambiguous = row_.regularization == Regularization::kl &&
                           std::any_of(row_.w.begin(), row_.w.end(), is_zero) &&
                           std::any_of(row_.z.begin(), row_.z.end(), is_inf);
    return !ambiguous && largest_w_ * static_cast<double>(row_.w.size() + 1) < 1e306;
  }

  // l2, log_kl: the result is rounded, and so are sums in double of numbers of the size of w, or of
  // the logarithms of what a double holds. A mean of z is no finer than the smallest double.
  // kl: the same relative to the result, but for exponentials below the smallest double.
  double tolerance(long double expected, double size_of_w) const {
    constexpr double kSmallest = std::numeric_limits<double>::denorm_min();
    const double n = static_cast<double>(row_.w.size());
    const double rounding = 2.0 * std::numeric_limits<T>::epsilon() + (n + 100.0) * 0x1p-50;
    const double smallest = 4.0 * static_cast<double>(std::numeric_limits<T>::denorm_min());
    switch (row_.regularization) {
      case Regularization::l2:
        return size_of_w * rounding + smallest +
               (row_.strength > 0.0 ? kSmallest / row_.strength : 0.0);
      case Regularization::kl:
        return static_cast<double>(std::abs(expected)) * rounding + n * largest_w_ * 1e-300 +
               smallest;
      default:
        return (size_of_w + 800.0) * rounding + smallest;
    }
  }

  std::string values(const std::vector<std::size_t>& sigma,
                     const std::vector<std::size_t>& tau) const {
    const LongDoubleSolution solution(row_, sigma, tau);
    const std::vector<long double>& expected = solution.result();
    long double sum = 0.0L, sum_of_w = 0.0L, allowed = 0.0L;
    for (std::size_t i = 0; i < sigma.size(); ++i) {
      const std::size_t at = sigma[i];
      const auto value = static_cast<long double>(result_[at]);
      const double error = tolerance(expected[at], solution.sizes_of_w()[at]);
      allowed += error;
      if (!(std::abs(value - expected[at]) <= error)) {
        return "element " + std::to_string(at) + " is " + digits(double(value)) + " instead of " +
               digits(double(expected[at])) + ", allowed " + digits(error);
      }
      // The k largest of the result add up to no more than those of w, and all of them to as much.
      sum += value;
      sum_of_w += row_.w[tau[i]];
      if (row_.regularization != Regularization::log_kl && sum - sum_of_w > allowed)
        return "majorised by w it is not";
    }
    if (row_.regularization != Regularization::log_kl && std::abs(sum - sum_of_w) > allowed)
      return "the sum is not that of w";
    return "";
  }

  // Exponentials: what a block without weight should have got may be too little to be seen in values.
  // So neighbouring blocks are compared themselves, v(left) > v(right), as logarithms.
  std::string order_of_blocks(const std::vector<std::size_t>& sigma,
                              const std::vector<std::size_t>& tau) const {
    if (row_.regularization == Regularization::l2 || !(row_.strength > 0.0)) return "";
    const double rounding = (static_cast<double>(sigma.size()) + 100.0) * 0x1p-50;
    LogOfBlock left{};
    for (std::size_t a = 0, b = 0; a < sigma.size(); a = b) {
      for (b = a + 1; b < sigma.size() && block_z_[sigma[b]] == block_z_[sigma[a]];) ++b;
      const LogOfBlock right = log_of_block(sigma, tau, a, b);
      const long double step =
          (static_cast<long double>(row_.z[sigma[left.start]]) - row_.z[sigma[a]]) / row_.strength;
      const long double apart = step + (left.s - left.w) - (right.s - right.w);
      const long double size = std::abs(step) + std::abs(left.w) + std::abs(right.w) + 1.0L;
      // As in double: what is infinitely far apart does not pool.
      if (step > static_cast<long double>(std::numeric_limits<double>::max())) {
        left = right;
        continue;
      }
      const bool weightless = std::isinf(right.w) && right.w < 0.0L;
      if (a > 0 && (weightless || apart < -rounding * size)) {
        return "the blocks at " + std::to_string(left.start) + " and " + std::to_string(a) +
               " violate the order by " + digits(static_cast<double>(-apart));
      }
      left = right;
    }
    return "";
  }

  // Logarithms of the sums of a block, that of s relative to its first element.
  struct LogOfBlock {
    std::size_t start;
    long double s, w;
  };
  LogOfBlock log_of_block(const std::vector<std::size_t>& sigma,
                          const std::vector<std::size_t>& tau, std::size_t a, std::size_t b) const {
    const double z = row_.z[sigma[a]], w = row_.w[tau[a]];
    const bool linear_w = row_.regularization == Regularization::kl;
    long double s_sum = 0.0L, w_sum = 0.0L;
    for (std::size_t i = a; i < b; ++i) {
      const double z_i = row_.z[sigma[i]], w_i = row_.w[tau[i]];
      s_sum += z_i == z ? 1.0L : std::exp((static_cast<long double>(z_i) - z) / row_.strength);
      w_sum +=
          linear_w ? static_cast<long double>(w_i) : std::exp(static_cast<long double>(w_i) - w);
    }
    return {a, std::log(s_sum), std::log(w_sum) + (linear_w ? 0.0L : static_cast<long double>(w))};
  }

  const PlainRow& row_;
  const std::vector<T>& result_;
  const std::vector<std::int32_t>&block_z_, &block_w_;
  double largest_w_;  // in magnitude
};

// A call: rows of hostile values in hostile layouts.
template <class T>
class HostileCall {
 public:
  HostileCall(std::int64_t longest, Choices& choices)
      : choices_(choices),
        space_(space(longest, choices)),
        has_z_(choices.below(4) != 0),
        has_w_(choices.flip()),
        z_(space_, true, T(0), choices),
        w_(space_, true, T(0), choices),
        result_(space_, false, T(-7), choices),
        block_z_(space_, false, -7777, choices),
        block_w_(space_, false, -7777, choices) {
    problem_.space = space_;
    problem_.regularization = static_cast<Regularization>(choices.below(3));
    problem_.z_sign = choices.flip() ? -1.0 : 1.0;
    problem_.w_sign = choices.flip() ? -1.0 : 1.0;
    const bool nonnegative = problem_.regularization == Regularization::kl && choices.below(8) != 0;
    for (std::int64_t r = 0; r < space_.rows(); ++r) {
      write(z_.row(r), hostile_row<T>(space_.length, false, choices), 1.0);
      write(w_.row(r), hostile_row<T>(space_.length, nonnegative, choices),
            nonnegative ? problem_.w_sign : 1.0);
      strengths_.push_back(strength(choices));
      if (choices.flip()) strengths_.back() = telling_strength(r, choices);
    }
    problem_.strength.data = strengths_.data();
    problem_.strength.strides.batch[0] = 1;
  }

  std::string complaint() {
    Projection<T> arrays;
    if (has_z_) arrays.z = as_input(z_.rows());
    if (has_w_) arrays.w = as_input(w_.rows());
    arrays.result = result_.rows();
    arrays.block_z = block_z_.rows();
    arrays.block_w = block_w_.rows();
    project(problem_, arrays, 2);
    if (!result_.gaps_are_kept() || !block_z_.gaps_are_kept() || !block_w_.gaps_are_kept())
      return "written beside an array";
    for (std::int64_t r = 0; r < space_.rows(); ++r) {
      const std::vector<T> result = result_.copy(r);
      const auto block_z = block_z_.copy(r), block_w = block_w_.copy(r);
      const PlainRow row = plain(r);
      std::vector<T> unsigned_result = result;
      for (T& value : unsigned_result) value *= static_cast<T>(problem_.w_sign);
      const std::string complaint = RowCheck<T>(row, unsigned_result, block_z, block_w).complaint();
      if (!complaint.empty()) return describe(row) + complaint;
      if (!is_the_same_alone(r, result, block_z))
        return describe(row) + "the row depends on its neighbours, its layout or on threads";
    }
    return derivatives_complaint(arrays);
  }

 private:
  static RowSpace space(std::int64_t longest, Choices& choices) {
    RowSpace space;
    const std::int64_t bounds[] = {4, 41, 41, 41, 301, 301, 5001, longest + 1};
    space.length = choices.below(std::min(longest + 1, bounds[choices.below(8)]));
    space.batch_dims = 1;
    space.batch_shape[0] = space.length > 1000 ? 1 + choices.below(2) : choices.below(5);
    return space;
  }

  static double strength(Choices& choices) {
    constexpr double kInf = std::numeric_limits<double>::infinity();
    const double odd[] = {0.0, 0.0, 0.0, -1.0, kInf, std::nan(""), 1e-310, 1e-300, 1e300, -0.0};
    if (choices.below(5) == 0) return odd[choices.below(10)];
    return (1.0 + double(choices.below(9))) *
           std::pow(10.0,
                    double(choices.below(choices.flip() ? 61 : 7) - (choices.flip() ? 30 : 3)));
  }

  // One at which the row is neither all one block nor all alone: n / 2 is where ranks become one.
  double telling_strength(std::int64_t r, Choices& choices) const {
    long double low = 0.0L, high = 0.0L;
    for (const double z : plain(r).z) {
      if (!std::isfinite(z)) continue;
      low = std::min(low, static_cast<long double>(z));
      high = std::max(high, static_cast<long double>(z));
    }
    // The last ones: steps of rows of even steps whose exponentials are hardly doubles, or not at all.
    const double factors[] = {2.0, 2.0, 1.9, 2.1, 1.0, 0.5, 0.02, 1e-3, 1.0 / 700.0, 1.0 / 750.0};
    const auto n = static_cast<long double>(std::max<std::int64_t>(1, space_.length));
    return static_cast<double>((high - low) / n) * factors[choices.below(10)];
  }

  static void write(Row<T> to, const std::vector<T>& values, double sign) {
    for (std::size_t i = 0; i < values.size(); ++i)
      to[static_cast<std::int64_t>(i)] = static_cast<T>(sign) * values[i];
  }

  static Rows<const T> as_input(const Rows<T>& rows) { return {rows.data, rows.strides}; }

  PlainRow plain(std::int64_t r) const {
    const auto operand = [&](bool present, const Layout<T>& layout, double sign) {
      std::vector<double> values(static_cast<std::size_t>(space_.length));
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = present
                        ? sign * static_cast<double>(layout.row(r)[static_cast<std::int64_t>(i)])
                        : double(values.size() - i);
      }
      return values;
    };
    return {problem_.regularization, strengths_[static_cast<std::size_t>(r)],
            operand(has_z_, z_, problem_.z_sign), operand(has_w_, w_, problem_.w_sign)};
  }

  std::string describe(const PlainRow& row) const {
    return std::string(sizeof(T) == 4 ? "float" : "double") + ", n " +
           std::to_string(row.z.size()) + ", regularization " +
           std::to_string(static_cast<int>(row.regularization)) + ", strength " +
           digits(row.strength) + (has_z_ ? ", z" : "") + (has_w_ ? ", w: " : ": ");
  }

  static bool same_bits(T a, T b) {
    return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b));
  }

  // Row r on its own.
  Problem row_problem(std::int64_t r) const {
    Problem problem = problem_;
    problem.space.batch_dims = 0;
    problem.strength = {};
    problem.strength.value = strengths_[static_cast<std::size_t>(r)];
    return problem;
  }

  bool is_the_same_alone(std::int64_t r, const std::vector<T>& result,
                         const std::vector<std::int32_t>& block_z) const {
    const auto n = static_cast<std::size_t>(space_.length);
    const std::vector<T> z = z_.copy(r), w = w_.copy(r);
    std::vector<T> alone(n);
    std::vector<std::int32_t> blocks(n);
    Projection<T> arrays;
    if (has_z_) arrays.z.data = z.data(), arrays.z.strides.along = 1;
    if (has_w_) arrays.w.data = w.data(), arrays.w.strides.along = 1;
    arrays.result.data = alone.data(), arrays.result.strides.along = 1;
    arrays.block_z.data = blocks.data(), arrays.block_z.strides.along = 1;
    if (n > 0) project(row_problem(r), arrays, 1);
    return blocks == block_z && std::equal(alone.begin(), alone.end(), result.begin(), same_bits);
  }

  // Derivatives of the blocks that were found, and of what no forward pass has left.
  std::string derivatives_complaint(const Projection<T>& arrays) {
    const Layout<T> g(space_, true, T(1), choices_);
    for (std::int64_t r = 0; r < space_.rows(); ++r) {
      const bool hostile = choices_.below(4) == 0;
      write(g.row(r), hostile ? hostile_row<T>(space_.length, false, choices_) : normal_row(), 1.0);
    }
    std::vector<bool> forged(strengths_.size());
    for (std::size_t r = 0; r < forged.size() && space_.length > 0; ++r) {
      forged[r] = choices_.below(4) == 0;
      if (forged[r]) forge(static_cast<std::int64_t>(r));
    }
    const Linearization<T> at{arrays.z,
                              arrays.w,
                              as_input(arrays.result),
                              {arrays.block_z.data, arrays.block_z.strides},
                              {arrays.block_w.data, arrays.block_w.strides}};
    // What training asks for, one at a time, and everything at once, which goes by the general way.
    for (const Wanted wanted :
         {Wanted{true, false, false}, {false, true, false}, {true, true, true}}) {
      const std::string complaint = vjp_complaint(at, g, wanted);
      if (!complaint.empty()) return complaint;
    }
    return jvp_complaint(at, forged);
  }

  std::vector<T> normal_row() {
    std::mt19937_64 random(choices_.bits(4));
    std::normal_distribution<double> normal;
    std::vector<T> row(static_cast<std::size_t>(space_.length));
    for (T& value : row) value = static_cast<T>(normal(random));
    return row;
  }

  struct Wanted {
    bool z, w, strength;
  };

  std::string vjp_complaint(const Linearization<T>& at, const Layout<T>& g, Wanted wanted) {
    const Layout<T> gz(space_, false, T(-7), choices_), gw(space_, false, T(-7), choices_);
    std::vector<double> g_strength(strengths_.size());
    Cotangents<T> cotangents;
    cotangents.g = as_input(g.rows());
    if (wanted.z) cotangents.z = gz.rows();
    if (wanted.w) cotangents.w = gw.rows();
    if (wanted.strength) {
      cotangents.strength.data = g_strength.data();
      cotangents.strength.strides.batch[0] = 1;
    }
    project_vjp(problem_, at, cotangents, 2);
    if (!gz.gaps_are_kept() || !gw.gaps_are_kept()) return "derivatives written beside an array";
    for (std::int64_t r = 0; r < space_.rows(); ++r) {
      const PlainRow row = plain(r);
      std::vector<T> result = result_.copy(r);
      for (T& value : result) value *= static_cast<T>(problem_.w_sign);
      const std::vector<T> g_row = g.copy(r), z_row = gz.copy(r), w_row = gw.copy(r);
      const auto block_z = block_z_.copy(r), block_w = block_w_.copy(r);
      const CotangentReference<T> reference(row, result, block_z, block_w, g_row);
      std::string complaint;
      if (wanted.z) {
        const bool refused = wanted.w && !reference.has_w();
        complaint = reference.complaint_of_z(z_row, problem_.z_sign * problem_.w_sign, refused);
      }
      if (wanted.w && complaint.empty()) complaint = reference.complaint_of_w(w_row);
      if (complaint.empty() && !wanted.strength &&
          !is_the_same_derivative_alone(r, g_row, wanted.z ? z_row : w_row, wanted)) {
        complaint = "it depends on the row's neighbours, its layout or on threads";
      }
      if (!complaint.empty()) {
        return describe(row) + "derivative by " + (wanted.z ? "z" : "") + (wanted.w ? "w" : "") +
               (wanted.strength ? " and the strength: " : ": ") + complaint;
      }
    }
    return "";
  }

  bool is_the_same_derivative_alone(std::int64_t r, const std::vector<T>& g,
                                    const std::vector<T>& expected, Wanted wanted) const {
    const std::vector<T> z = z_.copy(r), w = w_.copy(r), result = result_.copy(r);
    const auto block_z = block_z_.copy(r), block_w = block_w_.copy(r);
    const auto dense = [](const auto& values) {
      Rows<const std::decay_t<decltype(values[0])>> rows;
      rows.data = values.data();
      rows.strides.along = 1;
      return rows;
    };
    if (g.empty()) return true;
    std::vector<T> alone(g.size());
    Linearization<T> at{{}, {}, dense(result), dense(block_z), dense(block_w)};
    if (has_z_) at.z = dense(z);
    if (has_w_) at.w = dense(w);
    Cotangents<T> cotangents;
    cotangents.g = dense(g);
    Rows<T>& out = wanted.z ? cotangents.z : cotangents.w;
    out.data = alone.data();
    out.strides.along = 1;
    project_vjp(row_problem(r), at, cotangents, 1);
    return std::equal(alone.begin(), alone.end(), expected.begin(), same_bits);
  }

  std::string jvp_complaint(const Linearization<T>& at, const std::vector<bool>& forged) {
    const Layout<T> dz(space_, true, T(2), choices_), dw(space_, true, T(-1), choices_);
    const Layout<T> out(space_, false, T(-7), choices_);
    Tangents<T> tangents;
    tangents.z = as_input(dz.rows());
    tangents.w = as_input(dw.rows());
    tangents.strength.value = 0.5;
    tangents.has_strength = true;
    tangents.out = out.rows();
    project_jvp(problem_, at, tangents, 2);
    if (!out.gaps_are_kept()) return "derivatives written beside an array";
    for (std::int64_t r = 0; r < space_.rows(); ++r) {
      const PlainRow row = plain(r);
      if (row.has_value() || forged[static_cast<std::size_t>(r)]) continue;
      for (std::int64_t i = 0; i < space_.length; ++i) {
        if (!std::isnan(out.row(r)[i]))
          return describe(row) + "derivatives of a row without a value are not NaN";
      }
    }
    return "";
  }

  // Some ids of row r become others: beyond the row, sentinels, or those of other elements.
  void forge(std::int64_t r) {
    std::mt19937_64 random(choices_.bits(4));
    const auto n = static_cast<std::uint64_t>(space_.length);
    for (auto count = choices_.below(4); count >= 0; --count) {
      const auto other = static_cast<std::int32_t>(random() % n);
      const std::int32_t ids[] = {static_cast<std::int32_t>(random()),
                                  static_cast<std::int32_t>(n),
                                  std::numeric_limits<std::int32_t>::max(),
                                  std::numeric_limits<std::int32_t>::min(),
                                  kNanRow,
                                  infinite_block(other),
                                  other,
                                  other};
      const Layout<std::int32_t>& layout = choices_.flip() ? block_z_ : block_w_;
      layout.row(r)[static_cast<std::int64_t>(random() % n)] = ids[choices_.below(8)];
    }
  }

  Choices& choices_;
  const RowSpace space_;
  const bool has_z_, has_w_;
  Layout<T> z_, w_, result_;
  Layout<std::int32_t> block_z_, block_w_;
  Problem problem_;
  std::vector<double> strengths_;
};

// Solves the call that the bytes stand for; what is wrong, or an empty string.
inline std::string complaint_of_hostile_call(const std::uint8_t* data, std::size_t size,
                                             std::int64_t longest) {
  Choices choices(data, size);
  return choices.flip() ? HostileCall<float>(longest, choices).complaint()
                        : HostileCall<double>(longest, choices).complaint();
}

}  // namespace diffsort::testing
