// The cotangent of one operand of short rows (short_rows/cotangent.h): against its formulas, on blocks made
// at random, and against the general way on ids that are those of no blocks.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "diffsort/parallel_row/derivative_dispatch.h"
#include "host_executor.h"

using namespace diffsort;
using namespace diffsort::testing;

namespace {

using Ids = std::vector<std::int32_t>;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Rows of n. one_for_all: which of the arrays have a row that serves all.
template <class T>
struct Batch {
  std::int64_t rows, n;
  double z_sign = 1.0, w_sign = 1.0;
  std::vector<double> strengths;
  Ids block_z, block_w;
  std::vector<T> g, result, w;
  bool one_for_all = false;

  std::int64_t stride() const { return one_for_all ? 0 : n; }
  std::size_t at(std::int64_t r, std::int64_t i) const {
    return static_cast<std::size_t>(r * stride() + i);
  }
};

std::int64_t die(std::mt19937_64& random, std::int64_t faces) {
  return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(faces));
}

enum class Blocks { one, alone, pairs, few, any, count };

// Ids of a row in the order of its blocks.
Ids ordered_ids(std::int64_t n, Blocks blocks, std::mt19937_64& random) {
  Ids ids;
  while (static_cast<std::int64_t>(ids.size()) < n) {
    const auto start = static_cast<std::int32_t>(ids.size());
    const std::int64_t left = n - start;
    const std::int64_t size = blocks == Blocks::one     ? n
                              : blocks == Blocks::alone ? 1
                              : blocks == Blocks::pairs ? 2
                              : blocks == Blocks::few   ? 1 + die(random, n)
                                                        : 1 + die(random, 4);
    ids.insert(ids.end(), static_cast<std::size_t>(std::min(size, left)), start);
  }
  return ids;
}

template <class T>
Batch<T> random_batch(std::int64_t rows, std::int64_t n, std::mt19937_64& random) {
  Batch<T> batch;
  batch.rows = rows;
  batch.n = n;
  batch.z_sign = die(random, 2) == 0 ? 1.0 : -1.0;
  std::normal_distribution<double> normal;
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto kind = static_cast<Blocks>(die(random, static_cast<std::int64_t>(Blocks::count)));
    Ids ids = ordered_ids(n, kind, random);
    std::shuffle(ids.begin(), ids.end(), random);
    batch.block_z.insert(batch.block_z.end(), ids.begin(), ids.end());
    std::shuffle(ids.begin(), ids.end(), random);
    batch.block_w.insert(batch.block_w.end(), ids.begin(), ids.end());
    batch.strengths.push_back(std::exp(normal(random)));
  }
  for (std::int64_t i = 0; i < rows * n; ++i) {
    batch.g.push_back(T(normal(random)));
    batch.result.push_back(T(std::exp(normal(random))));
    batch.w.push_back(T(5.0 * normal(random)));
  }
  return batch;
}

enum class Way { one_operand, general };

// z's cotangent, or w's.
template <Regularization R, class T>
std::vector<T> cotangent(const Batch<T>& batch, bool of_z, Way way,
                         HostTeam::Order order = HostTeam::Order::shuffled) {
  const auto floats = [&](const std::vector<T>& values) {
    return FloatRows{values.data(), batch.stride(), std::is_same_v<T, float>};
  };
  std::vector<T> out(static_cast<std::size_t>(batch.rows * batch.n) + 1, T(-7));
  DensePerRow strength{batch.strengths.data(), 1, false, 0.0};
  LinearizedRows at{{batch.rows, batch.n},
                    batch.z_sign,
                    batch.w_sign,
                    strength,
                    {},
                    of_z ? FloatRows{} : floats(batch.w),
                    floats(batch.result),
                    {batch.block_z.data(), batch.stride()},
                    {batch.block_w.data(), batch.stride()}};
  if (of_z && R == Regularization::kl) at.z = floats(batch.w);
  RowDirections along;
  along.cotangents.g = floats(batch.g);
  (of_z ? along.cotangents.z : along.cotangents.w) =
      FloatOutput{out.data(), std::is_same_v<T, float>};
  HostExecutor executor;
  executor.order = order;
  if (way == Way::general) {
    executor.for_each_tile("vjp", DerivativeTiles<R>(at, along));
  } else {
    REQUIRE((batch.w.empty() || is_one_cotangent<R>(at, along)));
    executor.for_each_tile("vjp", CotangentTiles<R, T>(at, along));
  }
  CHECK(out.back() == T(-7));
  out.pop_back();
  return out;
}

// What is right, and how large the numbers are that it is a difference or a sum of.
struct Expected {
  long double value, scale;
};

// Of element i of row r, whose ids are those of blocks.
template <Regularization R, class T>
Expected expected(const Batch<T>& batch, bool of_z, std::int64_t r, std::int64_t i) {
  const auto start = [&](const Ids& ids, std::int64_t e) {
    return block_start(ids[batch.at(r, e)]);
  };
  const std::int32_t id = (of_z ? batch.block_z : batch.block_w)[batch.at(r, i)];
  long double sum = 0, total = 0, parts = 0, largest = 0, top = -kInf;
  int size = 0;
  const auto sign = static_cast<long double>(batch.w_sign);
  for (std::int64_t e = 0; e < batch.n; ++e) {
    if (start(batch.block_w, e) == block_start(id))
      top = std::max(top, sign * batch.w[batch.at(r, e)]);
  }
  for (std::int64_t e = 0; e < batch.n; ++e) {
    const std::size_t k = batch.at(r, e);
    if (start(batch.block_w, e) == block_start(id)) parts += std::exp(sign * batch.w[k] - top);
    if (start(batch.block_z, e) != block_start(id)) continue;
    const long double weight = R == Regularization::kl ? batch.result[k] : T(1);
    sum += weight * batch.g[k];
    total += weight;
    largest = std::max(largest, std::abs(static_cast<long double>(batch.g[k])));
    ++size;
  }
  const std::size_t k = batch.at(r, i);
  const long double mean = total == 0 ? sum : sum / total;
  if (!of_z && R == Regularization::log_kl) {
    const long double share = std::exp(sign * batch.w[k] - top) / parts;
    return {share * sum, share * largest * size};
  }
  if (!of_z) return {mean, largest};
  const double strength = batch.strengths[static_cast<std::size_t>(r)];
  if (is_infinite_block(id) || !(strength > 0.0)) return {0, 0};
  const long double weight = R == Regularization::kl ? batch.result[k] : T(1);
  const long double own = batch.g[k];
  const long double centred = size == 1 ? own - own : own - mean;
  const long double factor = batch.z_sign * batch.w_sign * weight / strength;
  return {factor * centred, std::abs(factor) * largest};
}

// Within a rounding to T, and in log_kl one more, and some of float64 on the way.
template <Regularization R, class T>
std::string complaint(const Batch<T>& batch, bool of_z, const std::vector<T>& found) {
  for (std::int64_t r = 0; r < batch.rows; ++r) {
    for (std::int64_t i = 0; i < batch.n; ++i) {
      const Expected right = expected<R>(batch, of_z, r, i);
      const T value = found[static_cast<std::size_t>(r * batch.n + i)];
      const auto report = [&] {
        return "row " + std::to_string(r) + ", element " + std::to_string(i) + ": " +
               std::to_string(value) + ", not " + std::to_string(static_cast<double>(right.value));
      };
      if (!(std::abs(right.value) <= std::numeric_limits<T>::max())) {
        const bool same = std::isnan(right.value) ? std::isnan(value) : value == T(right.value);
        if (!same) return report();
        continue;
      }
      // exp multiplies the rounding of its argument, which is below 64 here, by the argument.
      const bool softmax = R == Regularization::log_kl;
      const long double tolerance =
          (softmax ? 1.01L : 0.51L) * std::numeric_limits<T>::epsilon() * std::abs(right.value) +
          static_cast<long double>(batch.n + (softmax ? 70 : 6)) * 0x1p-53L * right.scale +
          std::numeric_limits<T>::denorm_min();
      if (!(std::abs(value - right.value) <= tolerance)) return report();
    }
  }
  return {};
}

template <class V>
bool same_bits(const std::vector<V>& a, const std::vector<V>& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](V x, V y) {
           return x == y || (std::isnan(x) && std::isnan(y));
         });
}

// check(regularization, whether it is z's cotangent) for all that there are.
template <class Check>
void for_each_cotangent(const Check& check) {
  using R = Regularization;
  check(std::integral_constant<R, R::l2>{}, true);
  check(std::integral_constant<R, R::l2>{}, false);
  check(std::integral_constant<R, R::kl>{}, true);
  check(std::integral_constant<R, R::log_kl>{}, false);
}

template <class T>
void check_formulas(Batch<T> batch) {
  CAPTURE(batch.n);
  CAPTURE(batch.rows);
  for_each_cotangent([&](auto regularization, bool of_z) {
    constexpr Regularization R = decltype(regularization)::value;
    CAPTURE(static_cast<int>(R));
    CAPTURE(of_z);
    batch.w_sign = R == Regularization::kl ? 1.0 : -batch.z_sign;
    const auto found = cotangent<R>(batch, of_z, Way::one_operand);
    CHECK(complaint<R>(batch, of_z, found) == "");
    for (const auto order : {HostTeam::Order::forward, HostTeam::Order::backward}) {
      CHECK(same_bits(cotangent<R>(batch, of_z, Way::one_operand, order), found));
    }
  });
}

}  // namespace

TEST_CASE_TEMPLATE("one operand's cotangent: every length, blocks of every kind", T, float,
                   double) {
  std::mt19937_64 random(71);
  for (std::int64_t n = 1; n <= kShortRow; ++n) {
    for (const std::int64_t rows : {1, 7, 31, 32, 33, 70}) {
      check_formulas(random_batch<T>(rows, n, random));
    }
  }
}

TEST_CASE_TEMPLATE("one operand's cotangent: no rows, rows without elements", T, float, double) {
  std::mt19937_64 random(72);
  check_formulas(random_batch<T>(0, 5, random));
  check_formulas(random_batch<T>(40, 0, random));
}

TEST_CASE_TEMPLATE("one operand's cotangent: an element alone", T, float, double) {
  std::mt19937_64 random(73);
  for (const std::int64_t n : {1, 9, 32}) {
    auto batch = random_batch<T>(33, n, random);
    for (std::size_t i = 0; i < batch.block_z.size(); ++i) {
      batch.block_z[i] = batch.block_w[i] = static_cast<std::int32_t>(i % std::size_t(n));
      batch.g[i] *= T(1e10);
    }
    const std::vector<T> zeros(batch.g.size());
    CHECK(cotangent<Regularization::l2>(batch, true, Way::one_operand) == zeros);
    CHECK(cotangent<Regularization::kl>(batch, true, Way::one_operand) == zeros);
    CHECK(cotangent<Regularization::l2>(batch, false, Way::one_operand) == batch.g);
    CHECK(cotangent<Regularization::log_kl>(batch, false, Way::one_operand) == batch.g);
  }
}

TEST_CASE_TEMPLATE("one operand's cotangent: a row that serves all", T, float, double) {
  std::mt19937_64 random(74);
  for (std::int64_t n = 1; n <= kShortRow; ++n) {
    auto batch = random_batch<T>(45, n, random);
    batch.one_for_all = true;
    check_formulas(batch);
  }
}

TEST_CASE_TEMPLATE("one operand's cotangent: what is not finite stays in its block", T, float,
                   double) {
  std::mt19937_64 random(75);
  for (std::int64_t n = 1; n <= kShortRow; ++n) {
    auto batch = random_batch<T>(64, n, random);
    for (T& g : batch.g) {
      const double special[] = {kNan, kInf, -kInf};
      if (die(random, 3 * n) == 0) g = T(special[die(random, 3)]);
    }
    check_formulas(batch);
  }
}

TEST_CASE_TEMPLATE("one operand's cotangent: blocks of huge ones beside tiny ones", T, float,
                   double) {
  std::mt19937_64 random(76);
  for (std::int64_t n = 2; n <= kShortRow; ++n) {
    auto batch = random_batch<T>(64, n, random);
    const double far = sizeof(T) == 4 ? 1e25 : 1e250;
    for (std::size_t i = 0; i < batch.g.size(); ++i) {
      batch.g[i] *= T(batch.block_z[i] % 3 == 0 ? far : 1.0 / far);
    }
    check_formulas(batch);
  }
}

TEST_CASE_TEMPLATE("one operand's cotangent: infinite elements", T, float, double) {
  std::mt19937_64 random(77);
  for (std::int64_t n = 1; n <= kShortRow; ++n) {
    auto batch = random_batch<T>(40, n, random);
    for (std::int32_t& id : batch.block_z) {
      if (die(random, 4) == 0) id = infinite_block(id);
    }
    check_formulas(batch);
  }
}

TEST_CASE_TEMPLATE("one operand's cotangent: strengths of all sizes", T, float, double) {
  std::mt19937_64 random(78);
  const double strengths[] = {0.0, 1e-320, 1e-300, 1e-20, 1e20, 1e300, 1.7e308, -0.0};
  const double least = sizeof(T) == 4 ? 1e-30 : 1e-300;
  for (const std::int64_t n : {1, 2, 13, 32}) {
    auto batch = random_batch<T>(64, n, random);
    for (std::size_t r = 0; r < batch.strengths.size(); ++r) {
      batch.strengths[r] = strengths[r % std::size(strengths)];
      for (std::int64_t i = 0; i < n; ++i) {
        batch.g[batch.at(std::int64_t(r), i)] *=
            T(std::clamp(batch.strengths[r], least, 1.0 / least));
      }
    }
    check_formulas(batch);
  }
}

// kl: a block without weight, and one whose results no projection leaves.
TEST_CASE_TEMPLATE("one operand's cotangent: results that weigh nothing", T, float, double) {
  std::mt19937_64 random(79);
  constexpr Regularization kl = Regularization::kl;
  for (const std::int64_t n : {2, 9, 32}) {
    auto batch = random_batch<T>(64, n, random);
    for (std::size_t i = 0; i < batch.result.size(); ++i) {
      if (batch.block_z[i] % 2 == 0 || die(random, 3) == 0) batch.result[i] = T(0);
    }
    CHECK(complaint<kl>(batch, true, cotangent<kl>(batch, true, Way::one_operand)) == "");
    for (T& result : batch.result) result = T(-1);
    const auto found = cotangent<kl>(batch, true, Way::one_operand);
    const auto general = cotangent<kl>(batch, true, Way::general);
    for (std::size_t i = 0; i < found.size(); ++i) {
      CHECK(std::isnan(found[i]) == std::isnan(general[i]));
    }
  }
}

namespace {

// An id that may not be one.
std::int32_t forged_id(std::int64_t n, std::mt19937_64& random) {
  constexpr auto kMax = std::numeric_limits<std::int32_t>::max();
  constexpr auto kMin = std::numeric_limits<std::int32_t>::min();
  const auto size = static_cast<std::int32_t>(n);
  const std::int32_t ids[] = {-1,
                              size,
                              size + 1,
                              infinite_block(size),
                              31,
                              32,
                              33,
                              63,
                              64,
                              infinite_block(31),
                              infinite_block(32),
                              256,
                              257,
                              kMax,
                              kMin,
                              kMax - 1,
                              kMin + 1,
                              static_cast<std::int32_t>(random())};
  if (die(random, 2) == 0) return static_cast<std::int32_t>(die(random, n));
  return ids[die(random, std::size(ids))];
}

// Changes an id or some of every other row.
void forge(Ids& ids, std::int64_t n, std::mt19937_64& random) {
  const auto rows = static_cast<std::int64_t>(ids.size()) / n;
  for (std::int64_t r = 0; r < rows; r += 2) {
    std::int32_t* const row = ids.data() + r * n;
    const std::int64_t kind = die(random, 4);
    if (kind == 0) row[die(random, n)] = forged_id(n, random);
    if (kind == 1) std::fill(row, row + n, forged_id(n, random));
    if (kind == 2) {
      for (std::int64_t i = 0; i < n; ++i) row[i] = static_cast<std::int32_t>(die(random, n));
    }
    if (kind == 3) {
      const Ids other = ordered_ids(n, Blocks::any, random);
      std::copy(other.begin(), other.end(), row);
      if (n > 1) row[die(random, n)] = row[die(random, n)];
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE(
    "one operand's cotangent: forged ids make the rows NaN that they make so otherwise", T, float,
    double) {
  std::mt19937_64 random(80);
  std::int64_t invalid = 0, valid = 0;
  for (std::int64_t round = 0; round < 20 * kShortRow; ++round) {
    const std::int64_t n = 1 + round % kShortRow;
    const auto genuine = random_batch<T>(64, n, random);
    for_each_cotangent([&](auto regularization, bool of_z) {
      constexpr Regularization R = decltype(regularization)::value;
      auto batch = genuine;
      batch.w_sign = R == Regularization::kl ? 1.0 : -1.0;
      if (of_z || die(random, 2) == 0) {
        forge(batch.block_z, n, random);
      } else {
        forge(batch.block_w, n, random);
      }
      const auto found = cotangent<R>(batch, of_z, Way::one_operand);
      const auto general = cotangent<R>(batch, of_z, Way::general);
      CAPTURE(n);
      CAPTURE(static_cast<int>(R));
      CAPTURE(of_z);
      for (std::size_t i = 0; i < found.size(); ++i) {
        CHECK(std::isnan(found[i]) == std::isnan(general[i]));
        ++(std::isnan(found[i]) ? invalid : valid);
      }
    });
  }
  CHECK(invalid > valid / 10);
}

namespace {

// Which program a call of tiles goes to.
struct Chooser : HostExecutor {
  bool one_operand = false;

  template <Regularization R, class T>
  void for_each_tile(const char*, const CotangentTiles<R, T>&) {
    one_operand = true;
  }
  template <Regularization R>
  void for_each_tile(const char*, const DerivativeTiles<R>&) {
    one_operand = false;
  }
};

}  // namespace

TEST_CASE("one operand's cotangent: what goes this way") {
  const std::vector<std::int32_t> ids(5, 0);
  const std::vector<float> values(5, 1.0f);
  std::vector<float> out(5);
  double strength_out = 0.0;
  const FloatRows rows{values.data(), 5, true};
  const FloatOutput output{out.data(), true};
  const auto chosen = [&](auto regularization, bool z, bool w, bool strength, bool has_w = true) {
    LinearizedRows at{
        {1, 5},         1.0, 1.0, {}, rows, has_w ? rows : FloatRows{}, rows, {ids.data(), 5},
        {ids.data(), 5}};
    RowDirections along;
    along.cotangents.g = rows;
    if (z) along.cotangents.z = output;
    if (w) along.cotangents.w = output;
    if (strength) along.cotangents.strength = &strength_out;
    Chooser executor;
    run_linear_map<decltype(regularization)::value>(executor, "vjp", at, along, nullptr);
    return executor.one_operand;
  };
  for_each_cotangent([&](auto regularization, bool of_z) {
    CHECK(chosen(regularization, of_z, !of_z, false));
    CHECK(!chosen(regularization, of_z, !of_z, true));
    CHECK(!chosen(regularization, true, true, false));
    CHECK(!chosen(regularization, false, false, false));
    CHECK(!chosen(regularization, false, false, true));
  });
  using R = Regularization;
  CHECK(!chosen(std::integral_constant<R, R::kl>{}, false, true, false));
  CHECK(!chosen(std::integral_constant<R, R::log_kl>{}, true, false, false));
  CHECK(!chosen(std::integral_constant<R, R::log_kl>{}, false, true, false, false));
  CHECK(chosen(std::integral_constant<R, R::l2>{}, false, true, false, false));
}
