// The kernels' projection, run on the CPU, against the sequential solver.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

#include "projection_cases.h"
#include "spmd_team.h"
#include "support.h"

using namespace diffsort;
using namespace diffsort::testing;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

template <class T>
using Case = ProjectionCase<T>;

// All ways, and the steps of each in one of three orders.
template <class T>
void check_paths(const Case<T>& c) {
  using Order = HostTeam::Order;
  static int calls = 0;
  const Solved<T> expected = solve_sequentially(c);
  for (HostExecutor executor : {HostExecutor{}, team_path(), long_path()}) {
    executor.order = std::array{Order::shuffled, Order::forward, Order::backward}[calls++ % 3];
    compare(c, solve_in_parallel(c, executor), expected);
  }
}

// All families as the rows of one array; for w of kl without negative numbers.
template <class T>
std::vector<T> family_rows(std::int64_t n, std::mt19937_64& random, bool nonnegative = false) {
  std::vector<T> values;
  for (const Vector& row : families(n, random)) {
    for (const double x : row) values.push_back(static_cast<T>(nonnegative ? std::abs(x) : x));
  }
  return values;
}

constexpr std::int64_t kFamilies = 9;

// Every choice of sorted operands, signs, and strengths that differ from row to row.
template <class T>
void check_length(std::int64_t n, std::mt19937_64& random) {
  for (const Regularization regularization : kRegularizations) {
    for (int operands = 0; operands < 4; ++operands) {
      Case<T> c{kFamilies, n, regularization, {}, {}, {}};
      if (operands & 1) c.z = family_rows<T>(n, random);
      if (operands & 2) {
        c.w = family_rows<T>(n, random, regularization == Regularization::kl);
        std::rotate(c.w.begin(), c.w.begin() + static_cast<std::ptrdiff_t>(c.w.size() / 3),
                    c.w.end());
      }
      for (std::int64_t r = 0; r < c.rows; ++r) {
        const double power = std::uniform_real_distribution<double>(-3, 3)(random);
        c.strength.push_back(r % 5 == 4 ? T(0) : static_cast<T>(std::pow(10.0, power)));
      }
      c.z_sign = random() % 2 ? 1.0 : -1.0;
      if (regularization != Regularization::kl) c.w_sign = random() % 2 ? 1.0 : -1.0;
      check_paths(c);
    }
  }
}

}  // namespace

TEST_CASE("kernels' projection: every short length") {
  std::mt19937_64 random(11);
  for (std::int64_t n = 0; n <= 70; ++n) {
    check_length<double>(n, random);
    check_length<float>(n, random);
  }
}

TEST_CASE("kernels' projection: lengths around those of the teams") {
  std::mt19937_64 random(12);
  for (const std::int64_t boundary : {128, 256, 512, 1024, 2048}) {
    for (const std::int64_t n : {boundary - 1, boundary, boundary + 1}) {
      check_length<double>(n, random);
      check_length<float>(n, random);
    }
  }
}

TEST_CASE("kernels' projection: the longest row of a team, and a longer one") {
  std::mt19937_64 random(13);
  for (const std::int64_t n : {8192, 8193, 40000}) {
    for (const Regularization regularization : kRegularizations) {
      Case<float> c{kFamilies, n, regularization, family_rows<float>(n, random), {}, {0.01f}};
      const Solved<float> expected = solve_sequentially(c);
      compare(c, solve_in_parallel(c, HostExecutor{}), expected);
    }
  }
}

// The ids of a tile of such rows are all 0, unless elements are infinite.
TEST_CASE("kernels' projection: tiles of rows that are one block, of which some are infinite") {
  for (const std::int64_t n : {1, 2, 7, 32}) {
    for (const Regularization regularization : {Regularization::l2, Regularization::kl}) {
      Case<float> c{96, n, regularization, {}, {}, {1.0f}};
      c.z.assign(c.size(), 0.25f);
      for (const std::int64_t r : {3, 95}) {  // of the first tile and the last
        std::fill_n(c.z.begin() + static_cast<std::ptrdiff_t>(r * n), n, static_cast<float>(kInf));
      }
      const Solved<float> expected = solve_sequentially(c);
      CHECK(expected.block_z[0] == 0);
      CHECK(is_infinite_block(expected.block_z[static_cast<std::size_t>(3 * n)]));
      check_paths(c);
    }
  }
}

TEST_CASE_TEMPLATE("kernels' projection: infinities, NaN, zeros and strengths of every kind", T,
                   float, double) {
  const double strengths[] = {0.0, -0.0, -1.0, kNan, kInf, 1e-3, 0.5, 1.0, 100.0, 1e6};
  std::mt19937_64 random(14);
  std::normal_distribution<double> normal;
  // Rows differ in how many of their elements are special; a few have a NaN. What is huge in z and in
  // w must not be equal once z is divided: in their difference rounding would decide what pools.
  const auto values = [&](std::int64_t rows, std::int64_t n, double huge, bool nonnegative) {
    const double specials[] = {kInf, -kInf, 0.0, -0.0, 1.0, -1.0, 2.0, huge, -huge};
    std::vector<T> x;
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::uint64_t share = random() % 5, nan_at = random() % 8 == 0 ? random() : ~0ull;
      for (std::int64_t i = 0; i < n; ++i) {
        double value =
            random() % 4 < share ? specials[random() % std::size(specials)] : normal(random);
        if (nonnegative && r % 7 != 0) value = std::abs(value);
        x.push_back(static_cast<T>(nan_at % static_cast<std::uint64_t>(n) ==
                                               static_cast<std::uint64_t>(i) &&
                                           nan_at != ~0ull
                                       ? kNan
                                       : value));
      }
    }
    return x;
  };
  for (const std::int64_t n : {1, 2, 3, 7, 20, 33, 70, 300}) {
    for (const Regularization regularization : kRegularizations) {
      for (int operands = 1; operands < 4; ++operands) {
        Case<T> c{60, n, regularization, {}, {}, {}};
        if (operands & 1) c.z = values(c.rows, n, 1e30, false);
        if (operands & 2) c.w = values(c.rows, n, 1e20, regularization == Regularization::kl);
        for (std::int64_t r = 0; r < c.rows; ++r) {
          c.strength.push_back(static_cast<T>(strengths[random() % std::size(strengths)]));
        }
        check_paths(c);
      }
    }
  }
}

namespace {

template <class T>
void check_chunks(const Case<T>& c) {
  const Solved<T> expected = solve_sequentially(c);
  HostExecutor in_chunks = long_path();
  for (const std::int64_t chunk : {1, 150, 999}) {
    in_chunks.chunk = chunk;
    compare(c, solve_in_parallel(c, in_chunks), expected);
  }
}

}  // namespace

TEST_CASE("kernels' projection: any number of rows, in chunks, and one row for all") {
  std::mt19937_64 random(15);
  std::normal_distribution<double> normal;
  const auto values = [&](std::int64_t count) {
    std::vector<double> x;
    for (std::int64_t i = 0; i < count; ++i) x.push_back(std::abs(normal(random)));
    return x;
  };
  for (const std::int64_t rows : {0, 1, 2, 7, 31, 32, 33, 64, 65, 100}) {
    for (const std::int64_t n : {1, 8, 9, 31, 32, 33, 37, 64}) {
      if (rows % 32 < 2 && rows > 2 && n > 33) continue;
      for (const Regularization regularization : kRegularizations) {
        Case<double> c{rows, n, regularization, values(n), values(rows * n), {0.3}};
        for (int swap = 0; swap < 2; ++swap) {
          check_paths(c);
          if (regularization == Regularization::l2 || n == 33) check_chunks(c);
          c.z.swap(c.w);
        }
      }
    }
  }
}

namespace {

// Ranks, where every second row is one block, which is written before others are sorted.
template <class T>
Case<T> every_second_settled(std::int64_t rows, std::int64_t n, Regularization regularization,
                             std::mt19937_64& random) {
  Case<T> c{rows, n, regularization, {}, {}, {}};
  std::normal_distribution<double> normal;
  for (std::size_t i = 0; i < c.size(); ++i) c.z.push_back(static_cast<T>(normal(random)));
  for (std::int64_t r = 0; r < rows; ++r) c.strength.push_back(r % 2 == 0 ? T(1e3) : T(1e-4));
  return c;
}

template <class V>
bool same_bits(const std::vector<V>& a, const std::vector<V>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(V)) == 0;
}

// Whatever else is asked for, an output has the same bits; those that are not wanted stay as they
// were.
template <class T>
void check_outputs(const Case<T>& c, const HostExecutor& executor) {
  const Solved<T> untouched = rubbish<T>(c.size()), expected = solve_in_parallel(c, executor);
  compare(c, expected, solve_sequentially(c));
  for (int outputs = 0; outputs < 8; ++outputs) {
    CAPTURE(c.n);
    CAPTURE(sizeof(T));
    CAPTURE(outputs);
    Solved<T> solved = rubbish<T>(c.size());
    ProjectionRows<T> rows = rows_of(c, solved);
    if (!(outputs & 1)) rows.result = {};
    if (!(outputs & 2)) rows.block_z = {};
    if (!(outputs & 4)) rows.block_w = {};
    HostExecutor way = executor;
    run(way, c.regularization, rows);
    CHECK(same_bits(solved.result, (outputs & 1 ? expected : untouched).result));
    CHECK(same_bits(solved.block_z, (outputs & 2 ? expected : untouched).block_z));
    CHECK(same_bits(solved.block_w, (outputs & 4 ? expected : untouched).block_w));
  }
}

template <class T>
void check_outputs_of_all_ways(std::mt19937_64& random) {
  constexpr Regularization l2 = Regularization::l2, kl = Regularization::kl;
  for (const std::int64_t n : {20, 50}) {
    for (const Regularization regularization : {l2, kl}) {
      check_outputs(every_second_settled<T>(9, n, regularization, random), {});
    }
  }
  for (const std::int64_t n : {51, 9000}) {
    const Case<T> ranks = every_second_settled<T>(6, n, l2, random);
    for (const std::int64_t rows_at_once : {2, 6}) {
      HostExecutor executor = long_path();
      executor.chunk = rows_at_once * n;
      for (const Regularization regularization : {l2, kl}) {
        Case<T> c = ranks;
        c.regularization = regularization;
        check_outputs(c, executor);
      }
    }
    Case<T> sorts = ranks;
    sorts.z.swap(sorts.w);
    check_outputs(sorts, long_path());
    sorts.z = ranks.z;
    for (const Regularization regularization : {l2, Regularization::log_kl}) {
      sorts.regularization = regularization;
      check_outputs(sorts, long_path());
    }
  }
}

}  // namespace

TEST_CASE("kernels' projection: any outputs, beside others or alone") {
  std::mt19937_64 random(16);
  check_outputs_of_all_ways<float>(random);
  check_outputs_of_all_ways<double>(random);
}

namespace {

// Ranks of all families, `factor` times the strength from which on their rows are one block.
template <class T>
Case<T> around_one_block(std::int64_t n, Regularization regularization, double factor,
                         std::mt19937_64& random) {
  Case<T> c{kFamilies, n, regularization, family_rows<T>(n, random), {}, {}};
  const double widest =
      regularization == Regularization::l2 ? 0.5 * static_cast<double>(n) : std::log(2.0);
  for (auto row = c.z.begin(); row != c.z.end(); row += n) {
    const auto [low, high] = std::minmax_element(row, row + n);
    const double range = static_cast<double>(*high) - static_cast<double>(*low);
    c.strength.push_back(static_cast<T>(range > 0.0 ? factor * range / widest : factor));
  }
  return c;
}

// The ranks of row r, found without a sort, or none.
template <Regularization R, class T>
std::vector<T> unsorted_ranks(const Case<T>& c, std::int64_t r) {
  HostTeam team;
  const T* const z = c.z.data() + r * c.n;
  std::vector<T> ranks(static_cast<std::size_t>(c.n), static_cast<T>(kNan));
  const HeldValues<HostTeam, T> values(team, static_cast<int>(c.n), z, 1.0);
  const bool found =
      rank_in_one_block(R, values, spread_of(values), c.strength[static_cast<std::size_t>(r)],
                        [&](std::int64_t i, double rank) {
                          ranks[static_cast<std::size_t>(i)] = static_cast<T>(rank);
                        });
  return found ? ranks : std::vector<T>();
}

template <Regularization R>
void check_around_one_block(std::int64_t n, std::mt19937_64& random) {
  for (const double factor : {1.0 + 1e-6, 1.0 - 1e-6, 2.0, 0.5, 1e6}) {
    const Case<double> c = around_one_block<double>(n, R, factor, random);
    CAPTURE(n);
    CAPTURE(factor);
    check_paths(c);
    const Solved<double> expected = solve_sequentially(c);
    for (std::int64_t r = 0; r < c.rows; ++r) {
      const double* const z = c.z.data() + r * n;
      const bool equal = std::equal(z + 1, z + n, z);
      const std::vector<double> ranks = unsorted_ranks<R>(c, r);
      CHECK(ranks.empty() == (factor < 1.0 && !equal));
      for (std::size_t i = 0; i < ranks.size(); ++i) {
        const std::size_t at = static_cast<std::size_t>(r * n) + i;
        CHECK(expected.block_z[at] == 0);
        CHECK(std::abs(ranks[i] - expected.result[at]) <= 1e-14 * static_cast<double>(n));
      }
    }
    check_paths(around_one_block<float>(n, R, factor, random));
  }
}

}  // namespace

TEST_CASE("kernels' projection: ranks on both sides of where rows become one block") {
  std::mt19937_64 random(19);
  for (const std::int64_t n : {1, 2, 3, 10, 32, 33, 300}) {
    check_around_one_block<Regularization::l2>(n, random);
    check_around_one_block<Regularization::kl>(n, random);
  }
}

// Where a range is a few units in the last place, and where the middle of a range is none of them.
TEST_CASE("kernels' projection: ranks in one block far from zero") {
  std::mt19937_64 random(20);
  for (const double offset : {0x1p53, -0x1p53, 0x1.fffffffffffffp1000}) {
    const double unit = std::nextafter(std::abs(offset), kInf) - std::abs(offset);
    for (std::int64_t range = 0; range < 8; ++range) {
      const std::int64_t n = 5;
      Vector steps(n);
      for (double& step : steps) step = static_cast<double>(random() % 8) * unit;
      steps[0] = 0.0;
      steps[1] = static_cast<double>(range) * unit;
      for (double& step : steps) step = std::min(step, steps[1]);
      const double strength = range == 0 ? 1.0 : steps[1] / std::log(2.0) * (1.0 + 1e-12);
      Case<double> near{1, n, Regularization::kl, steps, {}, {strength}}, far = near;
      for (double& z : far.z) z += offset;
      check_paths(far);
      const Vector expected = solve_sequentially(near).result;
      const Vector of_cpu = solve_sequentially(far).result;
      const Vector ranks = unsorted_ranks<Regularization::kl>(far, 0);
      if (strength > 1e100) continue;  // not for here
      REQUIRE(ranks.size() == expected.size());
      // An exponential, a sum of five and two products, of numbers up to 15: 10 roundings of 2^-53 each.
      for (std::size_t i = 0; i < ranks.size(); ++i) {
        CHECK(std::abs(ranks[i] - expected[i]) <= 150 * 0x1p-53);
        CHECK(std::abs(of_cpu[i] - expected[i]) <= 150 * 0x1p-53);
      }
    }
  }
}

TEST_CASE("kernels' projection: ranks of values whose differences overflow") {
  constexpr double most = std::numeric_limits<double>::max();
  for (const Regularization regularization : {Regularization::l2, Regularization::kl}) {
    for (const double strength : {most, most / 2, 1e300, 1.0, 1e-300}) {
      check_paths<double>({1, 4, regularization, {0.0, most, -most, 0.0}, {}, {strength}});
      check_paths<double>({1, 4, regularization, {most, most, most, most / 2}, {}, {strength}});
    }
  }
}

// Half of one, or log 2 of one, is rounded to a whole one.
TEST_CASE("kernels' projection: ranks by a strength that is the least number there is") {
  constexpr double least = std::numeric_limits<double>::denorm_min();
  for (const Regularization regularization : {Regularization::l2, Regularization::kl}) {
    check_paths<double>({1, 3, regularization, {2 * least, 0.0, 0.0}, {}, {least}});
    check_paths<double>({1, 2, regularization, {least, 0.0}, {}, {least}});
  }
}

// What one thread knows another one does not: see spmd_team.h.
TEST_CASE_TEMPLATE("kernels' projection: threads", T, float, double) {
  std::mt19937_64 random(17);
  for (const int threads : {4, 7}) {
    for (const std::int64_t n : {5, 32, 33, 100, 700}) {
      for (const Regularization regularization : kRegularizations) {
        for (const T strength : {T(0), T(0.2), T(1e4)}) {
          Case<T> c{kFamilies, n, regularization, family_rows<T>(n, random), {}, {strength}};
          if (n % 2 == 0) c.w = family_rows<T>(n, random, true);
          Solved<T> solved = rubbish<T>(c.size());
          const ProjectionRows<T> arrays = rows_of(c, solved);
          with_regularization(regularization, [&](auto r) {
            ProjectRows<T, decltype(r)::value> program(arrays);
            program.place();
            std::vector<unsigned char> memory(program.bytes(), kRubbish);
            run_spmd(threads, [&](SpmdTeam& team) {
              for (std::int64_t row = 0; row < c.rows; ++row) {
                program(team, row, memory.data());
                team.for_each(0, [](int) {});  // all have read what the next row writes over
              }
            });
          });
          compare(c, solved, solve_sequentially(c));
        }
      }
    }
  }
}

TEST_CASE("kernels' projection: threads of a tile") {
  std::mt19937_64 random(18);
  for (const int threads : {4, 7, 32}) {
    for (const std::int64_t n : {5, 32}) {
      for (const Regularization regularization : kRegularizations) {
        Case<double> c{5 * kFamilies, n, regularization, {}, {}, {}};
        for (int k = 0; k < 5; ++k) {
          for (const double x : family_rows<double>(n, random)) c.z.push_back(x);
        }
        for (std::int64_t r = 0; r < c.rows; ++r) c.strength.push_back(r % 3 == 0 ? 0.0 : 0.2);
        if (n % 2 == 0) {
          c.w = c.z;
          for (double& x : c.w) x = std::abs(x);
        }
        Solved<double> solved = rubbish<double>(c.size());
        const ProjectionRows<double> arrays = rows_of(c, solved);
        with_regularization(regularization, [&](auto r) {
          const ProjectTiles<double, decltype(r)::value> program(arrays);
          std::vector<char> memory(program.bytes(), static_cast<char>(kRubbish));
          run_spmd(threads, [&](SpmdTeam& team) {
            for (std::int64_t k = 0; k < program.tiles(); ++k) program(team, k, memory.data());
          });
        });
        compare(c, solved, solve_sequentially(c));
      }
    }
  }
}

TEST_CASE("arguments of the CUDA library that do not fit together") {
  DiffsortProblem problem{};
  problem.rows = 3;
  problem.n = 4;
  problem.z_sign = problem.w_sign = 1.0;
  problem.strength.value = 1.0;
  float values[12];
  DiffsortProjection arrays{};
  arrays.z = {values, 4};
  CHECK(check_projection(problem, arrays) == nullptr);

  const auto refuses = [&](const auto& change) {
    DiffsortProblem other = problem;
    DiffsortProjection other_arrays = arrays;
    change(other, other_arrays);
    return check_projection(other, other_arrays) != nullptr;
  };
  using P = DiffsortProblem;
  using A = DiffsortProjection;
  CHECK(refuses([](P& p, A&) { p.rows = -1; }));
  CHECK(refuses([](P& p, A&) { p.n = -1; }));
  CHECK(refuses([](P& p, A& a) { a.z.stride = p.n = (std::int64_t{1} << 31) - 2; }));
  CHECK(!refuses([](P& p, A& a) { a.z.stride = p.n = (std::int64_t{1} << 31) - 3; }));
  CHECK(refuses([](P& p, A&) { p.rows = std::int64_t{1} << 62; }));
  CHECK(!refuses([](P& p, A&) { p.rows = std::int64_t{1} << 40; }));
  CHECK(refuses([](P& p, A&) { p.type = 2; }));
  CHECK(refuses([](P& p, A&) { p.regularization = 3; }));
  CHECK(refuses([](P& p, A&) { p.z_sign = 0.5; }));
  CHECK(refuses([](P& p, A&) { p.w_sign = kNan; }));
  CHECK(refuses([&](P& p, A&) { p.strength = {values, 2, DIFFSORT_FLOAT32, 0.0}; }));
  CHECK(refuses([&](P& p, A&) { p.strength = {values, 1, 7, 0.0}; }));
  CHECK(refuses([](P&, A& a) { a.z.stride = 5; }));
  CHECK(refuses([&](P&, A& a) { a.w = {values, 1}; }));
  CHECK(!refuses([](P&, A& a) { a.z.stride = 0; }));
}

namespace {

// Rows of ranks of every kind: one block, many, a NaN, an infinity, in order, of equal keys, with
// strengths that are 0 and invalid.
template <class T>
Case<T> mixed_rows(std::int64_t n, Regularization regularization, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  const double strengths[] = {1e3, 1e-4, 1.0, 1e-3, 1e3, 1e-4, 0.0, -1.0, 1e9, 1e-4};
  Case<T> c{10, n, regularization, {}, {}, {}};
  for (std::int64_t r = 0; r < c.rows; ++r) {
    for (std::int64_t i = 0; i < n; ++i) {
      const double order = static_cast<double>(i) / static_cast<double>(n);
      c.z.push_back(static_cast<T>(r == 4   ? 3.0
                                   : r == 5 ? std::floor(4.0 * normal(random))
                                   : r == 9 ? -order
                                            : normal(random)));
    }
    c.strength.push_back(static_cast<T>(strengths[r]));
  }
  c.z[static_cast<std::size_t>(2 * n + n / 2)] = static_cast<T>(kNan);
  c.z[static_cast<std::size_t>(8 * n)] = static_cast<T>(kInf);
  return c;
}

bool is_untouched(const void* memory, std::size_t bytes) {
  const auto* const first = static_cast<const unsigned char*>(memory);
  return std::all_of(first, first + bytes, [](unsigned char x) { return x == kRubbish; });
}

}  // namespace

TEST_CASE("long rows: every kind in one batch, around tiles and parts") {
  std::mt19937_64 random(61);
  for (const std::int64_t n : {4095, 4096, 4097, 8191, 8192, 8193, 12288, 12289}) {
    for (const Regularization regularization : kRegularizations) {
      for (const double z_sign : {1.0, -1.0}) {
        auto narrow = mixed_rows<float>(n, regularization, random);
        narrow.z_sign = z_sign;
        compare(narrow, solve_in_parallel(narrow, long_path()), solve_sequentially(narrow));
      }
      const auto wide = mixed_rows<double>(n, regularization, random);
      compare(wide, solve_in_parallel(wide, long_path()), solve_sequentially(wide));
    }
  }
}

// Beyond 32 tiles joins take a second launch.
TEST_CASE("long rows: joins of joins") {
  std::mt19937_64 random(62);
  for (const std::int64_t n : {131'072, 131'073, 200'000}) {
    for (const Regularization regularization : kRegularizations) {
      Case<float> c = mixed_rows<float>(n, regularization, random);
      c.rows = 2;
      c.z.resize(c.size());
      c.strength = {n % 2 == 0 ? 0.5f : 1e-4f};
      compare(c, solve_in_parallel(c, HostExecutor{}), solve_sequentially(c));
    }
  }
}

// As docs/cuda.md counts them.
TEST_CASE("long rows: launches") {
  std::mt19937_64 random(65);
  const auto launches = [&](Regularization regularization, std::int64_t n) {
    Case<float> c{1, n, Regularization::l2, {}, {}, {1e9f}};
    for (std::int64_t i = 0; i < n; ++i) c.z.push_back(static_cast<float>(random() % 1000));
    Solved<float> solved = rubbish<float>(c.size());
    HostExecutor executor;
    run(executor, regularization, rows_of(c, solved));
    return executor.launches;
  };
  CHECK(launches(Regularization::l2, 100'000) == 14);
  CHECK(launches(Regularization::kl, 100'000) == 15);
  CHECK(launches(Regularization::l2, 10'000'000) == 16);
}

namespace {

// Rows that are one block are not sorted, pooled or written again: their memory is left alone.
template <Regularization R>
void check_settled_rows(std::int64_t n, std::mt19937_64& random) {
  const Case<float> c = mixed_rows<float>(n, R, random);
  Solved<float> solved = rubbish<float>(c.size());
  const ProjectionRows<float> arrays = rows_of(c, solved);
  HostExecutor executor = long_path();
  std::vector<unsigned char> workspace(projection_workspace<R>(executor, arrays), kRubbish);
  run_projection<R>(executor, arrays, workspace.data());
  Arena arena(workspace.data());
  const auto memory = long_memory<float, R>(arena, executor, arrays);
  for (std::int64_t r = 0; r < c.rows; ++r) {
    const bool one_block = r == 0 || r == 4;  // 2 has a NaN, 7 and 8 have no value
    CAPTURE(r);
    CHECK(memory.settled[r] == (one_block ? 1u : 0u));
    const std::size_t bytes = 4 * static_cast<std::size_t>(n);
    CHECK(is_untouched(memory.keys + r * n, bytes) == one_block);
    CHECK(is_untouched(memory.z_places + r * n, bytes) == one_block);
    CHECK(is_untouched(memory.states + r, sizeof *memory.states) == one_block);
  }
  compare(c, solved, solve_sequentially(c));
}

}  // namespace

TEST_CASE("long rows: what is settled costs no more") {
  std::mt19937_64 random(63);
  for (const std::int64_t n : {5000, 9000}) {
    check_settled_rows<Regularization::l2>(n, random);
    check_settled_rows<Regularization::kl>(n, random);
  }
}

TEST_CASE("long rows: threads") {
  std::mt19937_64 random(64);
  for (const Regularization regularization : kRegularizations) {
    for (const std::int64_t n : {50, 4500, 8200}) {
      Case<double> c = mixed_rows<double>(n, regularization, random);
      c.rows = 6;
      c.z.resize(c.size());
      c.strength.resize(6);
      Solved<double> solved = rubbish<double>(c.size());
      const ProjectionRows<double> arrays = rows_of(c, solved);
      with_regularization(regularization, [&](auto r) {
        SpmdExecutor executor{5};
        constexpr Regularization R = decltype(r)::value;
        std::vector<unsigned char> workspace(projection_workspace<R>(executor, arrays), kRubbish);
        run_projection<R>(executor, arrays, workspace.data());
      });
      compare(c, solved, solve_sequentially(c));
    }
  }
}

// Where both operands have an element far from all others, ranges say nothing of these.
TEST_CASE("kernels' projection: an outlier of both operands") {
  std::mt19937_64 random(31);
  for (const std::int64_t n : {40, 1024, 9000}) {
    for (const float far : {1e6f, 1e9f, 1e12f, 1e30f}) {
      Case<float> c{1, n, Regularization::l2, {}, {}, {1e-4f}};
      std::uniform_real_distribution<float> z(-0.1f, 0.1f), w(-1.0f, 1.0f);
      for (std::int64_t i = 0; i < n; ++i) {
        c.z.push_back(z(random));
        c.w.push_back(w(random));
      }
      c.z[5] = c.w[7] = far;
      const Solved<float> expected = solve_sequentially(c);
      compare(c, solve_in_parallel(c, HostExecutor{}), expected);
    }
  }
}

// Pairs far from all others, apart in z by as much as they pool at, give or take what exponentials are
// rounded by, and some more.
TEST_CASE("kernels' projection: pairs at the edge of pooling") {
  std::mt19937_64 random(32);
  const double factors[] = {0.0, 1e-12, -1e-12, 1e-9, -1e-9, 1e-3, -1e-3};
  for (const Regularization regularization : {Regularization::kl, Regularization::log_kl}) {
    for (const std::int64_t n : {16, 32, 200, 9000}) {
      const std::int64_t rows = n < 100 ? 64 : 3;
      Case<double> c{rows, n, regularization, {}, {}, {1.0}};
      for (std::int64_t r = 0; r < rows; ++r) {
        double z = 0.0, w = 1.0;
        for (std::int64_t i = 0; i < n; ++i) {
          const double before = w;
          w -= i == 0 ? 0.0 : std::ldexp(1.0, -21 - static_cast<int>(random() % 25));
          const double apart =
              regularization == Regularization::kl ? std::log1p((before - w) / w) : before - w;
          const double rounding = (static_cast<double>(random() % 9) - 4.0) * 0x1p-53;
          z -= i % 2 == 0 ? 1e-5 : apart * (1.0 + factors[random() % 7]) + rounding;
          c.z.push_back(z);
          c.w.push_back(w);
        }
      }
      compare(c, solve_in_parallel(c, HostExecutor{}), solve_sequentially(c));
    }
  }
}

// Where weights have few digits, their products may round so that they pool.
TEST_CASE("kernels' projection: weights of kl next to zero") {
  for (const double weight : {5e-324, 1e-316, 3e-315, 1e-310, 1e-300}) {
    for (const double strength : {2.0, 1e-3, 1e7}) {
      Case<double> c{1, 2, Regularization::kl, {}, {weight, weight}, {strength}};
      compare(c, solve_in_parallel(c, HostExecutor{}), solve_sequentially(c));
      c.z = {0.1, 0.2};
      compare(c, solve_in_parallel(c, HostExecutor{}), solve_sequentially(c));
    }
  }
}

struct Shape {
  std::int64_t rows, n;
};

// Of rows of which a team holds none that are longer than `capacity`.
template <class T>
double workspace_per_element(T, std::int64_t capacity, Regularization regularization, Shape shape,
                             bool has_z, bool has_w) {
  static T values[1] = {};
  HostExecutor executor;
  executor.team_capacity = capacity;
  ProjectionRows<T> arrays{};
  arrays.rows = shape.rows;
  arrays.n = shape.n;
  arrays.result = {values, 0};
  if (has_z) arrays.z = {values, 0};
  if (has_w) arrays.w = {values, 0};
  const std::size_t bytes = with_regularization(regularization, [&](auto r) {
    return projection_workspace<decltype(r)::value>(executor, arrays);
  });
  return static_cast<double>(bytes) / static_cast<double>(shape.rows * shape.n);
}

// The table of docs/cuda.md, scratch of sorts included: bytes per element.
TEST_CASE("the workspace of long rows") {
  const auto per_element = [](auto type, Regularization regularization, Shape shape, bool has_z,
                              bool has_w) {
    return workspace_per_element(type, 8192, regularization, shape, has_z, has_w);
  };
  for (const Shape shape : {Shape{1, 8193}, Shape{1, 10'000'000}, Shape{128, 100'000}}) {
    CAPTURE(shape.n);
    for (const Regularization regularization : kRegularizations) {
      const bool l2 = regularization == Regularization::l2;
      for (const bool ranks : {true, false}) {
        CHECK(per_element(0.0f, regularization, shape, ranks, !ranks) <= (l2 ? 12.41 : 15.41));
        CHECK(per_element(0.0, regularization, shape, ranks, !ranks) <= 12.41);
      }
      CHECK(per_element(0.0f, regularization, shape, true, true) <= 16.41);
      CHECK(per_element(0.0, regularization, shape, true, true) <= 16.41);
    }
  }
}

// What XLA plans for before it knows the device, and for rows that it will split
// (backends/jax/lowering.py).
TEST_CASE("the workspace of long rows: on any device, and of a part of the rows") {
  for (const std::int64_t n : {1025, 1500, 2048, 4096, 4097, 8193, 100'000, 10'000'000}) {
    for (const Regularization regularization : kRegularizations) {
      for (const auto& [has_z, has_w] : {std::pair{true, false}, {false, true}, {true, true}}) {
        const auto of_rows = [&, z = has_z, w = has_w](auto type, std::int64_t rows) {
          return workspace_per_element(type, 1024, regularization, {rows, n}, z, w);
        };
        CAPTURE(n);
        CHECK(of_rows(0.0f, 1) > 0.0);
        CHECK(of_rows(0.0f, 1) <= 20.0);
        CHECK(of_rows(0.0, 1) <= 20.0);
        for (const std::int64_t rows : {2, 3, 31, 1000, 100'000}) {
          CHECK(of_rows(0.0f, rows) <= of_rows(0.0f, 1));
          CHECK(of_rows(0.0, rows) <= of_rows(0.0, 1));
        }
      }
    }
  }
}
