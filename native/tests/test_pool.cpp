#include <doctest/doctest.h>

#include "pool_support.h"

using namespace diffsort;
using namespace diffsort::testing;

namespace {

constexpr Regularization kAll[] = {Regularization::l2, Regularization::kl, Regularization::log_kl};

template <class F>
void for_each_regularization(const F& f) {
  f(std::integral_constant<Regularization, Regularization::l2>{});
  f(std::integral_constant<Regularization, Regularization::kl>{});
  f(std::integral_constant<Regularization, Regularization::log_kl>{});
}

SortedCase random_case(std::int64_t n, std::mt19937_64& random) {
  SortedCase c;
  std::normal_distribution<double> normal;
  for (std::int64_t i = 0; i < n; ++i) {
    c.z.push_back(normal(random));
    c.w.push_back(std::abs(normal(random)));
  }
  std::sort(c.z.rbegin(), c.z.rend());
  std::sort(c.w.rbegin(), c.w.rend());
  c.strength = std::pow(10.0, std::uniform_real_distribution<double>(-4, 2)(random));
  return c;
}

}  // namespace

TEST_CASE("random rows") {
  std::mt19937_64 random(1);
  int differ = 0, total = 0;
  for (int repeat = 0; repeat < 2000; ++repeat) {
    const std::int64_t n =
        std::uniform_int_distribution<std::int64_t>(0, repeat < 1000 ? 70 : 3000)(random);
    const SortedCase c = random_case(n, random);
    for_each_regularization([&](auto r) {
      constexpr Regularization R = decltype(r)::value;
      HostTeam team(HostTeam::Order::shuffled, repeat);
      Pooled<R> pooled(c, team);
      const Starts actual = pooled.starts(), expected = sequential_starts<R>(c);
      ++total;
      differ += actual != expected;
      CAPTURE(n);
      CAPTURE(int(R));
      CAPTURE(c.strength);
      if (actual != expected) REQUIRE(agree_up_to_near_ties<R>(c, actual, expected));
    });
  }
  MESSAGE(differ << " of " << total);
}
