#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "diffsort/sort.h"
#include "support.h"

using namespace diffsort;

namespace {

template <class T>
void check_sorts(const std::vector<T>& values, bool negate) {
  SortedPairs<T> sorted;
  const auto n = static_cast<std::int64_t>(values.size());
  REQUIRE(sorted.sort({values.data(), 1}, negate, n));
  testing::Vector keys;
  for (const T value : values) keys.push_back(negate ? -value : value);
  const auto order = testing::descending_order(keys);
  for (std::int64_t i = 0; i < n; ++i) {
    const std::size_t expected = order[static_cast<std::size_t>(i)];
    REQUIRE(sorted.index(i) == static_cast<std::int64_t>(expected));
    REQUIRE(sorted.value(i) == static_cast<T>(keys[expected]));
  }
}

}  // namespace

TEST_CASE_TEMPLATE("the sort is descending and stable in every length class", T, float, double) {
  std::mt19937_64 random(1);
  // Around both thresholds between the three sorts.
  for (const std::int64_t n : {0, 1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 5000}) {
    for (const auto& family : testing::families(n, random)) {
      const std::vector<T> values(family.begin(), family.end());
      check_sorts(values, false);
      check_sorts(values, true);
    }
  }
}

TEST_CASE_TEMPLATE("special values have their place", T, float, double) {
  constexpr T inf = std::numeric_limits<T>::infinity();
  constexpr T tiny = std::numeric_limits<T>::denorm_min();
  constexpr T huge = std::numeric_limits<T>::max();
  std::vector<T> values{0, -T(0), inf, tiny, -inf, -tiny, huge, T(0), -huge, -T(0), inf};
  check_sorts(values, false);
  check_sorts(values, true);
  // The same in a row long enough for the radix sort.
  while (values.size() < 600) values.insert(values.end(), values.begin(), values.begin() + 11);
  check_sorts(values, false);
  check_sorts(values, true);
}

TEST_CASE_TEMPLATE("NaN is reported, wherever it is and whatever its sign", T, float, double) {
  for (const std::size_t position : {std::size_t{0}, std::size_t{299}}) {
    std::vector<T> values(300, T(1));
    values[position] = std::numeric_limits<T>::quiet_NaN();
    SortedPairs<T> sorted;
    CHECK_FALSE(sorted.sort({values.data(), 1}, false, 300));
    values[position] = -values[position];
    CHECK_FALSE(sorted.sort({values.data(), 1}, true, 300));
  }
}

TEST_CASE("memory of a longer row before does not show") {
  SortedPairs<float> sorted;
  const std::vector<float> longer(1000, 3.0f), shorter{1.0f, 2.0f};
  REQUIRE(sorted.sort({longer.data(), 1}, false, 1000));
  REQUIRE(sorted.sort({shorter.data(), 1}, false, 2));
  CHECK(sorted.value(0) == 2.0f);
  CHECK(sorted.index(1) == 0);
}
