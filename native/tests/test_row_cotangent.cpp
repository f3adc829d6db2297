// J^T g by one operand, of rows that a team holds: against its formulas in long double, and against
// the general way (team_rows/derivatives.h) where numbers are infinite or ids forged.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "diffsort/parallel_row/derivative_dispatch.h"
#include "host_executor.h"
#include "spmd_team.h"
#include "spmd_warps.h"

using namespace diffsort;
using namespace diffsort::testing;

namespace {

using Floats = std::vector<float>;
using Ids = std::vector<std::int32_t>;
using Real = long double;
using Sizes = std::vector<int>;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr HostTeam::Order kOrders[] = {HostTeam::Order::forward, HostTeam::Order::backward,
                                       HostTeam::Order::shuffled};

// Rows with blocks of any sizes, whatever projection might have left them.
struct Case {
  Regularization regularization;
  bool by_w;
  std::int64_t rows, n;
  double strength = 0.7, z_sign = 1.0, w_sign = 1.0;
  Floats g, result, w;
  Ids block_z, block_w;
  bool one_for_all = false;  // g and w of the first row

  std::size_t at(std::int64_t r, std::int64_t i) const { return std::size_t(r * n + i); }
  std::size_t shared(std::int64_t r, std::int64_t i) const { return at(one_for_all ? 0 : r, i); }

  LinearizedRows linearized() const {
    const std::int64_t stride = one_for_all ? 0 : n;
    return {{rows, n},
            z_sign,
            w_sign,
            DensePerRow{nullptr, 0, false, strength},
            {},
            {w.data(), stride, true},
            {result.data(), n, true},
            {block_z.data(), n},
            {block_w.data(), n}};
  }
  RowDirections along(Floats& out) const {
    RowDirections along;
    along.cotangents.g = {g.data(), one_for_all ? 0 : n, true};
    (by_w ? along.cotangents.w : along.cotangents.z) = {out.data(), true};
    return along;
  }
};

// The ids of a row whose blocks have these sizes, its elements in any order.
Ids ids_of(const Sizes& sizes, std::mt19937_64& random) {
  Ids ids;
  for (const int size : sizes) ids.insert(ids.end(), std::size_t(size), std::int32_t(ids.size()));
  std::shuffle(ids.begin(), ids.end(), random);
  return ids;
}

enum class Layout { one_block, alone, pairs, mixed, giant_and_singles, several };
constexpr Layout kLayouts[] = {Layout::one_block, Layout::alone,   Layout::pairs,
                               Layout::mixed,     Layout::several, Layout::giant_and_singles};

Sizes sizes_of(Layout layout, int n, std::mt19937_64& random) {
  Sizes sizes;
  for (int left = n; left > 0; left -= sizes.back()) {
    int size = 1;
    if (layout == Layout::one_block) size = n;
    if (layout == Layout::pairs) size = 2;
    if (layout == Layout::several) size = 1 + n / 5;
    if (layout == Layout::mixed) {
      size = 1 + int(random() % std::uint64_t(random() % 3 == 0 ? 1 + n / 4 : 3));
    }
    if (layout == Layout::giant_and_singles && left <= n - n / 6) size = std::max(1, left - n / 7);
    sizes.push_back(std::min(size, left));
  }
  return sizes;
}

enum class Numbers { plain, by_block, equal, denormal };
constexpr Numbers kNumbers[] = {Numbers::plain, Numbers::by_block, Numbers::equal,
                                Numbers::denormal};

// A cotangent for an element of the block that starts at `start`.
float cotangent(Numbers numbers, int start, std::mt19937_64& random) {
  const auto x = static_cast<float>(std::normal_distribution<double>()(random));
  switch (numbers) {
    case Numbers::by_block:
      return std::ldexp(x, start * 37 % 200 - 100);
    case Numbers::equal:
      return 0.1f * static_cast<float>(start + 1);
    case Numbers::denormal:
      return std::ldexp(x, -130 - start % 10);
    default:
      return x;
  }
}

struct Way {
  Regularization regularization;
  bool by_w;
};
constexpr Way kWays[] = {{Regularization::l2, false},
                         {Regularization::kl, false},
                         {Regularization::l2, true},
                         {Regularization::log_kl, true}};

Case case_of(const Way& way, std::int64_t rows, int n, Layout layout, Numbers numbers,
             std::mt19937_64& random) {
  Case c;
  c.regularization = way.regularization;
  c.by_w = way.by_w;
  c.rows = rows;
  c.n = n;
  c.z_sign = random() % 2 == 0 ? 1.0 : -1.0;
  c.w_sign = way.regularization != Regularization::kl && random() % 2 == 0 ? -1.0 : 1.0;
  std::normal_distribution<double> normal;
  for (std::int64_t r = 0; r < rows; ++r) {
    const Sizes sizes = sizes_of(layout, n, random);
    const Ids z = ids_of(sizes, random), w = ids_of(sizes, random);
    const bool has_infinite = random() % 2 == 0;  // a row of one block has its own way without
    const auto is_infinite = [&] { return has_infinite && random() % 16 == 0; };
    for (int i = 0; i < n; ++i) {
      const int start = z[std::size_t(i)];
      c.g.push_back(cotangent(numbers, start, random));
      c.result.push_back(static_cast<float>(std::exp(3.0 * normal(random))));
      c.w.push_back(static_cast<float>(4.0 * normal(random)));
      const std::int32_t start_w = w[std::size_t(i)];
      c.block_z.push_back(is_infinite() && !way.by_w ? infinite_block(start) : start);
      c.block_w.push_back(is_infinite() ? infinite_block(start_w) : start_w);
    }
  }
  return c;
}

// --- Ways

template <class Run>
Floats by_regularization(const Case& c, const Run& run) {
  Floats out(c.block_z.size(), -7.0f);
  const LinearizedRows at = c.linearized();
  const RowDirections along = c.along(out);
  switch (c.regularization) {
    case Regularization::l2:
      run(CotangentProgram<Regularization::l2>(at, along), at, along);
      break;
    case Regularization::kl:
      run(CotangentProgram<Regularization::kl>(at, along), at, along);
      break;
    case Regularization::log_kl:
      run(CotangentProgram<Regularization::log_kl>(at, along), at, along);
      break;
  }
  return out;
}

template <Regularization R>
DerivativeProgram<R> general_program(const CotangentProgram<R>&, const LinearizedRows& at,
                                     const RowDirections& along) {
  return {at, along};
}

HostExecutor executor(HostTeam::Order order) {
  HostExecutor executor;
  executor.order = order;
  executor.longest_short = -1;
  return executor;
}

Floats fast(const Case& c, HostTeam::Order order = HostTeam::Order::shuffled) {
  return by_regularization(c, [&](const auto& program, const auto& at, const auto& along) {
    CHECK(program.serves(at, along));
    executor(order).for_each_row("cotangent", c.rows, program);
  });
}

Floats general(const Case& c) {
  return by_regularization(c, [&](const auto& program, const auto& at, const auto& along) {
    executor(HostTeam::Order::forward)
        .for_each_row("derivative", c.rows, general_program(program, at, along));
  });
}

// Of l2 rows that no team holds.
template <class Executor>
Floats by_steps_of(const Case& c, Executor executor) {
  Floats out(c.block_z.size(), -7.0f);
  const LinearizedRows at = c.linearized();
  const RowDirections along = c.along(out);
  CHECK(LongCotangent::serves(c.regularization, at, along));
  std::vector<unsigned char> workspace(long_cotangent_workspace(executor, at, along), kRubbish);
  run_long_cotangent(executor, "cotangent", at, along, workspace.data());
  return out;
}

// In chunks of `chunk` elements or one row.
Floats by_steps(const Case& c, HostTeam::Order order = HostTeam::Order::shuffled,
                std::int64_t chunk = std::int64_t{1} << 27) {
  HostExecutor steps = executor(order);
  steps.chunk = chunk;
  return by_steps_of(c, steps);
}

// Teams of two warps of threads.
struct WarpsExecutor : SpmdExecutor {
  template <class Program>
  void for_each_team(const char*, std::int64_t count, const Program& program) {
    typename Program::Shared shared;
    run_warps(2, [&](WarpsTeam& team) {
      for (std::int64_t k = 0; k < count; ++k) program(team, shared, k);
    });
  }
};

// f(cotangent) of either way.
template <class F>
void for_each_way(const Case& c, const F& f) {
  f(fast(c));
  if (c.regularization == Regularization::l2) f(by_steps(c));
}

template <class RunTeam>
Floats on_team(const Case& c, const RunTeam& run_team) {
  return by_regularization(c, [&](const auto& program, const auto&, const auto&) {
    std::vector<unsigned char> memory(program.bytes(), kRubbish);
    run_team([&](auto& team) {
      for (std::int64_t r = 0; r < c.rows; ++r) program(team, r, memory.data());
    });
  });
}

bool same_bits(const Floats& a, const Floats& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// --- What is expected

struct Expected {
  Real value, allowed;
};

// Of a block, by its start.
struct Sums {
  Real count = 0, g = 0, largest_g = 0;
  Real result = 0, largest_result = 0, weighted = 0, largest_weighted = 0;
  Real parts = 0;
  double top = -std::numeric_limits<double>::infinity();
};

class Reference {
 public:
  Reference(const Case& c, std::int64_t r) : c_(c), r_(r), sums_(std::size_t(c.n)) {
    for (std::int64_t e = 0; e < c.n; ++e) add(of_z(e), g(e), c.result[c.at(r, e)]);
    if (!c.by_w) return;
    for (std::int64_t j = 0; j < c.n; ++j) of_w(j).top = std::max(of_w(j).top, w(j));
    for (std::int64_t j = 0; j < c.n; ++j) of_w(j).parts += part(j);
  }

  Expected operator()(std::int64_t i) const { return c_.by_w ? by_w(i) : by_z(i); }

 private:
  static void add(Sums& sums, Real g, Real result) {
    sums.count += 1;
    sums.g += g;
    sums.largest_g = std::max(sums.largest_g, std::abs(g));
    sums.result += result;
    sums.largest_result = std::max(sums.largest_result, result);
    sums.weighted += result * g;
    sums.largest_weighted = std::max(sums.largest_weighted, std::abs(result * g));
  }
  Real g(std::int64_t e) const { return c_.g[c_.shared(r_, e)]; }
  double w(std::int64_t j) const { return c_.w_sign * double(c_.w[c_.shared(r_, j)]); }
  Sums& of_z(std::int64_t e) { return sums_[std::size_t(block_start(c_.block_z[c_.at(r_, e)]))]; }
  Sums& of_w(std::int64_t j) { return sums_[std::size_t(block_start(c_.block_w[c_.at(r_, j)]))]; }
  const Sums& of_z(std::int64_t e) const { return const_cast<Reference*>(this)->of_z(e); }
  const Sums& of_w(std::int64_t j) const { return const_cast<Reference*>(this)->of_w(j); }
  Real part(std::int64_t j) const { return std::exp(Real(w(j)) - Real(of_w(j).top)); }

  // Sums are off by a unit per term; a result is rounded once, or a few times.
  Expected by_z(std::int64_t e) const {
    const Sums& sums = of_z(e);
    if (is_infinite_block(c_.block_z[c_.at(r_, e)]) || !(c_.strength > 0.0)) return {0, 0};
    if (sums.count == 1) return {0, 0};
    const Real scale = Real(c_.z_sign * c_.w_sign) / Real(c_.strength);
    Real centred = g(e) - sums.g / sums.count, error = sums.largest_g * 0x1p-40L;
    if (c_.regularization == Regularization::kl) {
      const Real result = c_.result[c_.at(r_, e)], mean = sums.weighted / sums.result;
      centred = result * (g(e) - mean);
      error = result *
              (sums.count * sums.largest_weighted * 0x1p-52L +
               std::abs(mean) * sums.count * sums.largest_result * 0x1p-40L) /
              sums.result;
    }
    return finite(scale * centred, std::abs(scale) * (error + std::abs(g(e)) * 0x1p-50L));
  }
  Expected by_w(std::int64_t j) const {
    const Sums& sums = of_w(j);
    if (c_.regularization == Regularization::l2) {
      return finite(sums.g / sums.count, sums.count == 1 ? 0 : sums.largest_g * 0x1p-40L);
    }
    const Real share = part(j) / sums.parts, value = share * sums.g;
    return finite(value, std::abs(value) * 0x1p-22L +
                             share * sums.count * sums.largest_g * 0x1p-40L +
                             std::abs(sums.g) * 0x1p-149L);
  }
  static Expected finite(Real value, Real error) {
    return {value, error + std::abs(value) * 0x1p-23L + 0x1p-149L};
  }

  const Case& c_;
  const std::int64_t r_;
  std::vector<Sums> sums_;
};

std::string complaint(const Case& c, const Floats& found) {
  for (std::int64_t r = 0; r < c.rows; ++r) {
    const Reference reference(c, r);
    for (std::int64_t i = 0; i < c.n; ++i) {
      const Expected expected = reference(i);
      const Real x = found[c.at(r, i)];
      const bool overflows = std::abs(expected.value) > Real(std::numeric_limits<float>::max());
      if (overflows ? std::isinf(x) : std::abs(x - expected.value) <= expected.allowed) continue;
      return "element " + std::to_string(i) + " of row " + std::to_string(r) + ": " +
             std::to_string(double(x)) + ", not " + std::to_string(double(expected.value)) +
             ", off by " + std::to_string(double((x - expected.value) / expected.allowed)) +
             " of what is allowed";
    }
  }
  return "";
}

// The same NaN and infinities as in the general way, and no others.
std::string complaint_of_special(const Case& c, const Floats& found) {
  const Floats expected = general(c);
  for (std::size_t i = 0; i < found.size(); ++i) {
    const bool special = !std::isfinite(expected[i]);
    const bool same = std::isnan(expected[i]) ? std::isnan(found[i]) : found[i] == expected[i];
    const float error = std::abs(found[i] - expected[i]);
    if (special ? same : error <= 1e-4f * (1.0f + std::abs(expected[i]))) continue;
    return "element " + std::to_string(i) + ": " + std::to_string(found[i]) + ", not " +
           std::to_string(expected[i]);
  }
  return "";
}

void check(const Case& c) {
  CAPTURE(c.n);
  CAPTURE(static_cast<int>(c.regularization));
  CAPTURE(c.by_w);
  const Floats found = fast(c);
  const std::string wrong = complaint(c, found);
  CHECK_MESSAGE(wrong.empty(), wrong);
  for (const HostTeam::Order order : kOrders) CHECK(same_bits(found, fast(c, order)));
  if (c.regularization != Regularization::l2) return;
  const Floats steps = by_steps(c);
  const std::string wrong_steps = complaint(c, steps);
  CHECK_MESSAGE(wrong_steps.empty(), wrong_steps);
  for (const HostTeam::Order order : kOrders) {
    CHECK(same_bits(steps, by_steps(c, order)));
    CHECK(same_bits(steps, by_steps(c, order, c.n)));
  }
}

template <class F>
void for_all_cases(const std::vector<int>& lengths, std::uint64_t seed, const F& f) {
  std::mt19937_64 random(seed);
  for (const Way& way : kWays) {
    for (const int n : lengths) {
      for (const Layout layout : kLayouts) {
        CAPTURE(static_cast<int>(layout));
        for (const Numbers numbers : kNumbers) {
          CAPTURE(static_cast<int>(numbers));
          f(case_of(way, 2, n, layout, numbers, random), random);
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("row cotangents agree with their formulas") {
  std::vector<int> lengths(70 - 33 + 1);
  std::iota(lengths.begin(), lengths.end(), 33);
  for (const int n : {2, 3, 8, 9, 31, 32, 127, 128, 129, 255, 256, 257}) lengths.push_back(n);
  for_all_cases(lengths, 71, [](const Case& c, auto&) { check(c); });
}

TEST_CASE("row cotangents of long rows") {
  for_all_cases({1023, 2048, 4097, 8191, 8192}, 72, [](Case c, auto&) {
    c.rows = 1;
    for_each_way(c, [&](const Floats& found) {
      const std::string wrong = complaint(c, found);
      CHECK_MESSAGE(wrong.empty(), wrong);
    });
  });
}

TEST_CASE("cotangents of rows that no team holds") {
  std::mt19937_64 random(81);
  for (const int n : {8193, 20'000, 300'001}) {
    for (const bool by_w : {false, true}) {
      for (const Layout layout : kLayouts) {
        CAPTURE(static_cast<int>(layout));
        const Numbers numbers = kNumbers[random() % std::size(kNumbers)];
        const Case c = case_of({Regularization::l2, by_w}, 2, n, layout, numbers, random);
        const Floats found = by_steps(c);
        const std::string wrong = complaint(c, found);
        CHECK_MESSAGE(wrong.empty(), wrong);
        CHECK(same_bits(found, by_steps(c, HostTeam::Order::backward, n)));
      }
    }
  }
}

// The mean of a block is little more than an n-th of its largest term, and small terms are a part of it. All
// but the rounding to float is in float64 or exact: what is found is off by half a unit in the last place.
TEST_CASE("cotangents of rows that no team holds: small terms beside a large one") {
  std::mt19937_64 random(83);
  for (const int n : {100'000, 2'000'001}) {
    for (const bool by_w : {false, true}) {
      Case c = case_of({Regularization::l2, by_w}, 1, n, Layout::one_block, Numbers::plain, random);
      const float sign = c.z_sign > 0.0 ? 1.0f : -1.0f;
      Real sum = 0;
      for (float& x : c.g) {
        x = sign * std::ldexp(std::abs(x) + 1.0f, -43);
        sum += x;
      }
      sum += sign - c.g[7];
      c.g[7] = sign;
      const Real mean = sum / n;
      const Floats found = by_steps(c);
      const std::string wrong = complaint(c, found);
      CHECK_MESSAGE(wrong.empty(), wrong);
      if (by_w) {
        CHECK(std::abs(found[0] - mean) <= std::abs(mean) * 0x1p-24L);
      } else if (!is_infinite_block(c.block_z[0])) {
        const Real expected = c.z_sign * c.w_sign / c.strength * (c.g[0] - mean);
        CHECK(std::abs(found[0] - expected) <= std::abs(expected) * 0x1p-24L);
      }
    }
  }
}

TEST_CASE("cotangents of rows that no team holds: by threads, and by warps of them") {
  std::mt19937_64 random(82);
  for (const int n : {70, 4200}) {
    for (const bool by_w : {false, true}) {
      for (const Layout layout : kLayouts) {
        CAPTURE(static_cast<int>(layout));
        const Case c = case_of({Regularization::l2, by_w}, 2, n, layout, Numbers::plain, random);
        const Floats found = by_steps(c);
        CHECK(same_bits(found, by_steps_of(c, SpmdExecutor{5})));
        CHECK(same_bits(found, by_steps_of(c, WarpsExecutor{{64}})));
      }
    }
  }
}

// Where one thread finds an id that cannot be one, the others go on with the step.
TEST_CASE("cotangents of rows that no team holds: forged ids, by threads, and by warps of them") {
  std::mt19937_64 random(86);
  const int n = 5000;
  for (const bool of_w : {false, true}) {
    Case c = case_of({Regularization::l2, true}, 2, n, Layout::alone, Numbers::plain, random);
    Ids& ids = of_w ? c.block_w : c.block_z;
    for (int k = 0; k < n; k += 5) ids[std::size_t(k)] = kNanRow;  // of the first row
    for (const Floats& found :
         {by_steps_of(c, SpmdExecutor{5}), by_steps_of(c, WarpsExecutor{{64}})}) {
      for (int k = 0; k < n; ++k) CHECK(std::isnan(found[std::size_t(k)]));
      CHECK(std::equal(found.begin() + n, found.end(), by_steps(c).begin() + n));
    }
  }
}

// What is added up, and in what order, depends on the row alone.
TEST_CASE("cotangents of rows that no team holds: the same however many rows there are") {
  std::mt19937_64 random(87);
  const int n = 9000;
  Case c = case_of({Regularization::l2, true}, 1, n, Layout::one_block, Numbers::plain, random);
  std::fill(c.block_z.begin(), c.block_z.end(), 0);
  std::fill(c.block_w.begin(), c.block_w.end(), 0);
  c.g[7] = 0x1p60f;  // so that the order shows
  c.g[8000] = -0x1p60f;
  const Floats alone = by_steps(c);
  Case many = c;
  many.rows = 600;
  many.one_for_all = true;
  for (int r = 1; r < many.rows; ++r) {
    many.block_z.insert(many.block_z.end(), c.block_z.begin(), c.block_z.end());
    many.block_w.insert(many.block_w.end(), c.block_w.begin(), c.block_w.end());
  }
  const Floats among_many = by_steps(many);
  CHECK(std::equal(alone.begin(), alone.end(), among_many.begin()));
  CHECK(std::equal(alone.begin(), alone.end(), among_many.end() - n));
}

// A row that is one block before one of several blocks and behind one.
Case one_block_among_others(const Way& way, int n, std::mt19937_64& random) {
  Case c = case_of(way, 3, n, Layout::one_block, Numbers::plain, random);
  const Case mixed = case_of(way, 1, n, Layout::mixed, Numbers::plain, random);
  std::fill(c.block_z.begin(), c.block_z.end(), 0);
  std::fill(c.block_w.begin(), c.block_w.end(), 0);
  std::copy(mixed.block_z.begin(), mixed.block_z.end(), c.block_z.begin() + n);
  std::copy(mixed.block_w.begin(), mixed.block_w.end(), c.block_w.begin() + n);
  return c;
}

// Those of kl too, though the others are sorted: nothing is added up for them there.
TEST_CASE("cotangents of rows that no team holds: one block among other rows, kl") {
  std::mt19937_64 random(86);
  const int n = 20'000;
  const Case c = one_block_among_others({Regularization::kl, false}, n, random);
  Floats found(c.block_z.size());
  const DerivativeProgram<Regularization::kl> program{c.linearized(), c.along(found)};
  HostExecutor steps = executor(HostTeam::Order::shuffled);
  std::vector<unsigned char> workspace(derivative_workspace(steps, program), kRubbish);
  run_derivative(steps, "cotangent", program, workspace.data());
  const std::string wrong = complaint(c, found);
  CHECK_MESSAGE(wrong.empty(), wrong);
  Arena arena(workspace.data());
  const double* const leaves = long_derivative_memory(arena, steps, program).tree;
  const auto nothing_added = [&](int r) {
    const double* const of_row = leaves + r * (n / 8);
    return std::all_of(of_row, of_row + n / 8, [](double sum) { return sum == 0.0; });
  };
  for (int r = 0; r < 3; ++r) CHECK(nothing_added(r) == (r != 1));
}

// Rows that are one block are written at once: of others' memory they have none.
TEST_CASE("cotangents of rows that no team holds: one block among other rows") {
  std::mt19937_64 random(84);
  for (const bool by_w : {false, true}) {
    const int n = 20'000;
    const Case c = one_block_among_others({Regularization::l2, by_w}, n, random);
    Floats found(c.block_z.size());
    const LinearizedRows at = c.linearized();
    const RowDirections along = c.along(found);
    HostExecutor steps = executor(HostTeam::Order::shuffled);
    std::vector<unsigned char> workspace(long_cotangent_workspace(steps, at, along), kRubbish);
    run_long_cotangent(steps, "cotangent", at, along, workspace.data());
    const std::string wrong = complaint(c, found);
    CHECK_MESSAGE(wrong.empty(), wrong);
    Arena arena(workspace.data());
    const LongCotangent memory(arena, at, along);
    const auto untouched = [&](const auto* of_rows, std::int64_t each, std::int64_t r) {
      const auto* const bytes = reinterpret_cast<const unsigned char*>(of_rows + r * each);
      return std::all_of(bytes, bytes + each * std::int64_t{sizeof *of_rows},
                         [](unsigned char byte) { return byte == kRubbish; });
    };
    for (std::int64_t r = 0; r < c.rows; ++r) {
      CHECK(memory.settled[r] == (r == 1 ? 0u : kSettled));
      CHECK(untouched(memory.marks, memory.mark_words(), r) == (r != 1));
      CHECK(untouched(memory.sums, memory.slots(), r) == (r != 1));
      CHECK(untouched(memory.counts, memory.slots(), r) == (r != 1));
    }
  }
}

// Where the first elements of every part are in the first block, and some behind them are not.
TEST_CASE("cotangents of rows that no team holds: a few elements that are not in the one block") {
  std::mt19937_64 random(85);
  for (const bool by_w : {false, true}) {
    const int n = 20'000;
    for (const int others : {1, 2, 10}) {
      Case c = case_of({Regularization::l2, by_w}, 1, n, Layout::one_block, Numbers::plain, random);
      std::fill(c.block_z.begin(), c.block_z.end(), 0);
      std::fill(c.block_w.begin(), c.block_w.end(), 0);
      for (int k = 0; k < others; ++k) {  // alone, behind the rest
        c.block_z[std::size_t(n - 1 - k)] = n - others + k;
        c.block_w[std::size_t(n - 1000 + k)] = n - others + k;
      }
      const std::string wrong = complaint(c, by_steps(c));
      CHECK_MESSAGE(wrong.empty(), wrong);
    }
  }
}

TEST_CASE("row cotangents: equal ones in a block have derivative 0, exactly") {
  std::mt19937_64 random(73);
  for (const Layout layout : kLayouts) {
    const Case c = case_of({Regularization::l2, false}, 2, 300, layout, Numbers::equal, random);
    for_each_way(c, [](const Floats& found) {
      for (const float x : found) CHECK(x == 0.0f);
    });
  }
}

TEST_CASE("row cotangents: NaN and infinite ones stay in their block") {
  const std::vector<int> lengths{33, 40, 100};
  for_all_cases(lengths, 74, [](Case c, auto& random) {
    const float specials[] = {kNan, kInf, -kInf, std::numeric_limits<float>::max()};
    if (c.regularization == Regularization::kl) c.result[random() % c.result.size()] = 0.0f;
    for (int k = 0; k < 4; ++k) {
      c.g[random() % c.g.size()] = specials[random() % 3];
      for_each_way(c, [&](const Floats& found) {
        const std::string wrong = complaint_of_special(c, found);
        CHECK_MESSAGE(wrong.empty(), wrong);
      });
      CHECK(same_bits(fast(c), fast(c, HostTeam::Order::forward)));
    }
  });
}

TEST_CASE("row cotangents: strengths, results without weight, and rows that serve all") {
  std::mt19937_64 random(75);
  for (const Way& way : kWays) {
    for (const Layout layout : kLayouts) {
      for (const double strength : {0.0, -1.0, 1e-3, 1e6}) {
        Case c = case_of(way, 3, 45, layout, Numbers::plain, random);
        c.strength = strength;
        check(c);
        c.one_for_all = true;
        check(c);
      }
      if (way.regularization != Regularization::kl) continue;
      Case c = case_of(way, 3, 45, layout, Numbers::plain, random);
      for (std::size_t i = 0; i < c.result.size(); ++i) {
        const int start = block_start(c.block_z[i]);
        if (start % 3 == 0) c.result[i] = 0.0f;
        if (start % 3 == 1) c.result[i] = -1.0f;
      }
      c.g[7] = kInf;
      const std::string wrong = complaint_of_special(c, fast(c));
      CHECK_MESSAGE(wrong.empty(), wrong);
    }
  }
}

TEST_CASE("row cotangents: infinite w share their block, or have all of it") {
  std::mt19937_64 random(76);
  for (const Layout layout : kLayouts) {
    Case c = case_of({Regularization::log_kl, true}, 3, 45, layout, Numbers::plain, random);
    for (std::size_t i = 0; i < c.w.size(); i += 7) c.w[i] = i % 2 == 0 ? kInf : -kInf;
    const std::string wrong = complaint_of_special(c, fast(c));
    CHECK_MESSAGE(wrong.empty(), wrong);
    // NaN in any block: no forward pass leaves such ids.
    c.w[40] = kNan;
    const Floats found = fast(c), expected = general(c);
    for (std::size_t i = 0; i < found.size(); ++i) {
      CHECK((std::isnan(found[i]) || !std::isnan(expected[i])));
    }
  }
}

namespace {

// Some ids of either operand become others, or those of other elements.
void forge(Case& c, std::mt19937_64& random) {
  const auto n = static_cast<std::int32_t>(c.n);
  Ids& ids = random() % 2 == 0 ? c.block_z : c.block_w;
  const std::int32_t bad[] = {n, -1, -2 - n, 1'000'000, INT32_MIN, INT32_MAX};
  for (std::uint64_t k = random() % 3; k < 3; ++k) {
    std::int32_t& id = ids[random() % ids.size()];
    switch (random() % 4) {
      case 0:
        id = bad[random() % std::size(bad)];
        break;
      case 1:
        id = std::int32_t(random() % std::uint64_t(n));
        break;
      case 2:
        id = infinite_block(std::int32_t(random() % std::uint64_t(n)));
        break;
      default:
        std::swap(id, ids[random() % ids.size()]);
    }
  }
}

}  // namespace

TEST_CASE("row cotangents: forged ids make NaN of the rows of which the general way makes it") {
  std::mt19937_64 random(77);
  int forged = 0, valid = 0;
  for (int turn = 0; turn < 4000; ++turn) {
    const auto n = static_cast<int>(2 + random() % 50);
    Case c = case_of(kWays[turn % 4], 1, n, kLayouts[random() % std::size(kLayouts)],
                     Numbers::plain, random);
    if (turn % 16 < 12) forge(c, random);
    if (turn % 16 == 12) std::fill(c.block_z.begin(), c.block_z.end(), kNanRow);
    if (turn % 16 == 13) std::fill(c.block_z.begin(), c.block_z.end(), n - 1);
    if (turn % 16 == 14) std::fill(c.block_w.begin(), c.block_w.end(), 0);
    if (turn % 16 == 15) std::iota(c.block_w.begin(), c.block_w.end(), 0);
    const Floats found = fast(c), expected = general(c);
    CAPTURE(turn);
    CHECK(std::isnan(found[0]) == std::isnan(expected[0]));
    for (const float x : found) CHECK(std::isnan(x) == std::isnan(found[0]));
    if (c.regularization == Regularization::l2) {
      const Floats steps = by_steps(c);
      for (const float x : steps) CHECK(std::isnan(x) == std::isnan(found[0]));
      if (!std::isnan(found[0])) CHECK(complaint(c, steps) == "");
    }
    ++(std::isnan(found[0]) ? forged : valid);
    if (std::isnan(found[0])) continue;
    const std::string wrong = complaint(c, found);
    CHECK_MESSAGE(wrong.empty(), wrong);
  }
  CHECK(forged > 1000);
  CHECK(valid > 500);
}

TEST_CASE("row cotangents: one thread of a step does not see what another keeps") {
  for_all_cases({33, 100}, 78, [](const Case& c, auto& random) {
    if (random() % 3 != 0) return;
    const auto on_threads = [](const auto& run) { run_spmd(5, run); };
    const Floats found = on_team(c, on_threads);
    const std::string wrong = complaint(c, found);
    CHECK_MESSAGE(wrong.empty(), wrong);
    CHECK(same_bits(found, on_team(c, on_threads)));
  });
}

TEST_CASE("row cotangents: lanes of warps tell each other what they need") {
  for_all_cases({50}, 79, [](const Case& c, auto& random) {
    if (random() % 8 != 0) return;
    const Floats found = on_team(c, [](const auto& run) { run_warps(2, run); });
    CHECK(same_bits(found, fast(c)));
  });
}

TEST_CASE("row cotangents: what is asked for decides the way") {
  std::mt19937_64 random(80);
  for (const Way& way : kWays) {
    Case c = case_of(way, 1, 40, Layout::mixed, Numbers::plain, random);
    Floats out(40);
    by_regularization(c, [&](const auto& program, const auto& at, const auto& along) {
      double strength = 0.0;
      CHECK(program.serves(at, along));
      RowDirections other = along;
      other.cotangents.strength = &strength;
      CHECK(!program.serves(at, other));
      other = along;
      other.cotangents.z = other.cotangents.w = {out.data(), true};
      CHECK(!program.serves(at, other));
      other = along;
      other.forward = true;
      CHECK(!program.serves(at, other));
      other = along;
      other.cotangents.g.is_float32 = false;
      CHECK(!program.serves(at, other));
    });
  }
}
