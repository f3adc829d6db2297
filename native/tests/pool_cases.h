// Sorted rows that break pooling algorithms.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace diffsort::testing {

// A row to pool: both operands in descending order.
struct SortedCase {
  std::vector<double> z, w;
  double strength = 1.0;

  std::int64_t n() const { return static_cast<std::int64_t>(z.size()); }
};

enum class Family {
  // Sequences d, as s - w: what l2 pools. Integers, so that ties are exact.
  constant,
  falling,      // nothing pools
  rising,       // one block
  alternating,  // pairs
  few_values,
  random_walk,
  sawtooth,
  convex,      // falling up to a last element far above: a block joined only at the end
  concave,     // the same from the first element on
  two_levels,  // falling, but the second half is far above the first
  growing,     // ever wider random steps
  spikes,
  // Operands.
  tied_operands,
  rank,  // w = rho
  sort,  // z = rho
  general,
  near_ties,     // values that differ in their last digits
  huge_range,    // 1e-30 to 1e30
  zero_weights,  // top k: w is 1 or 0
  infinite_ends,
  hard,  // strength 0
  count
};

class CaseMaker {
 public:
  explicit CaseMaker(std::uint64_t seed) : random_(seed) {}

  std::mt19937_64& random() { return random_; }

  SortedCase make(Family family, std::int64_t n) {
    switch (family) {
      case Family::constant:
        return differences(n, [](double) { return 3.0; });
      case Family::falling:
        return differences(n, [](double i) { return -2.0 * i; });
      case Family::rising:
        return differences(n, [](double i) { return 2.0 * i; });
      case Family::alternating:
        return differences(n, [](double i) { return std::fmod(i, 2.0); });
      case Family::few_values:
        return differences(n, [&](double) { return integer(0, 3); });
      case Family::random_walk: {
        double walk = 0.0;
        return differences(n, [&](double) { return walk += integer(-2, 2); });
      }
      case Family::sawtooth: {
        const double period = integer(2, 40), fall = integer(0, 50);
        return differences(
            n, [=](double i) { return std::fmod(i, period) - fall * std::floor(i / period); });
      }
      case Family::convex: {
        const double spike = spike_height(n);
        return differences(n, [=](double i) { return i + 1.0 == n ? spike : -i; });
      }
      case Family::concave: {
        const double spike = spike_height(n);
        return differences(n, [=](double i) { return i == 0.0 ? -spike : -i; });
      }
      case Family::two_levels: {
        const double middle = integer(0, static_cast<int>(n)), up = integer(0, 2);
        return differences(n, [=](double i) { return i < middle ? -i : up * n - i; });
      }
      case Family::growing:
        return differences(n, [&](double i) { return std::floor(i * normal()); });
      case Family::spikes:
        return differences(n, [&](double) { return integer(0, 20) == 0 ? integer(-99, 99) : 0.0; });
      case Family::tied_operands:
        return with_strength(operands(
                                 n, [&] { return integer(0, 3); }, [&] { return integer(0, 3); }),
                             exact_strength());
      case Family::rank:
        return with_strength(ranks(n, false), std::pow(10.0, uniform(-5.0, 1.0)));
      case Family::sort:
        return with_strength(ranks(n, true), std::pow(10.0, uniform(-2.0, 6.0)));
      case Family::general:
        return with_strength(operands(
                                 n, [&] { return normal(); }, [&] { return std::abs(normal()); }),
                             std::pow(10.0, uniform(-3.0, 3.0)));
      case Family::near_ties: {
        const auto close = [&] { return 1e-3 + 1e-12 * normal(); };
        return with_strength(operands(n, close, close), std::pow(10.0, uniform(-1.0, 1.0)));
      }
      case Family::huge_range: {
        const auto any = [&] { return std::pow(10.0, uniform(-30.0, 30.0)); };
        return with_strength(operands(
                                 n, [&] { return any() * (integer(0, 1) - 0.5); }, any),
                             std::pow(10.0, uniform(-30.0, 30.0)));
      }
      case Family::zero_weights: {
        const double zeros = uniform(0.0, 1.0);
        return with_strength(
            operands(
                n, [&] { return normal(); }, [&] { return uniform(0.0, 1.0) < zeros ? 0.0 : 1.0; }),
            std::pow(10.0, uniform(-3.0, 1.0)));
      }
      case Family::infinite_ends: {
        const double infinite = uniform(0.0, 0.6);
        const auto z = [&] {
          const double sign = integer(0, 1) - 0.5;
          return uniform(0.0, 1.0) < infinite ? sign * std::numeric_limits<double>::infinity()
                                              : integer(-3, 3);
        };
        return with_strength(operands(n, z, [&] { return integer(0, 9); }), exact_strength());
      }
      case Family::hard:
      case Family::count:
        break;
    }
    return with_strength(
        operands(n, [&] { return integer(0, 30); }, [&] { return normal(); }), 0.0);
  }

 private:
  double normal() { return std::normal_distribution<double>()(random_); }
  double uniform(double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random_);
  }
  double integer(int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random_);
  }
  // Enough to pool with about sqrt(n) elements, or with all.
  double spike_height(std::int64_t n) {
    return static_cast<double>(integer(0, 1) > 0.0 ? n * n : n);
  }
  double exact_strength() { return std::ldexp(1.0, static_cast<int>(integer(-2, 2))); }

  static SortedCase with_strength(SortedCase c, double strength) {
    c.strength = strength;
    return c;
  }

  template <class Z, class W>
  static SortedCase operands(std::int64_t n, const Z& z, const W& w) {
    SortedCase c;
    for (std::int64_t i = 0; i < n; ++i) {
      c.z.push_back(z());
      c.w.push_back(w());
    }
    std::sort(c.z.rbegin(), c.z.rend());
    std::sort(c.w.rbegin(), c.w.rend());
    return c;
  }

  SortedCase ranks(std::int64_t n, bool of_z) {
    SortedCase c;
    std::vector<double>&rho = of_z ? c.z : c.w, &other = of_z ? c.w : c.z;
    for (std::int64_t i = 0; i < n; ++i) {
      rho.push_back(static_cast<double>(n - i));
      other.push_back(std::abs(normal()));
    }
    std::sort(other.rbegin(), other.rend());
    return c;
  }

  // z and w with z / strength - w = d(i) and both descending: where d rises w falls, else z.
  template <class D>
  SortedCase differences(std::int64_t n, const D& d) {
    SortedCase c;
    c.strength = exact_strength();
    const double both = integer(0, 1);  // falls in both operands
    double last = 0.0, z = 0.0, w = 0.0;
    for (std::int64_t i = 0; i < n; ++i) {
      const double now = d(static_cast<double>(i));
      w -= both + std::max(0.0, now - last);
      z -= both + std::max(0.0, last - now);
      last = now;
      c.z.push_back(c.strength * z);
      c.w.push_back(w);
    }
    for (double& value : c.w) value -= w;  // no negative weights
    return c;
  }

  std::mt19937_64 random_;
};

}  // namespace diffsort::testing
