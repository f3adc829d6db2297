// The linear maps as kernels take them, run on the CPU against the sequential ones.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "derivative_arguments.h"
#include "derivative_cases.h"
#include "diffsort/parallel_row/derivative_dispatch.h"
#include "diffsort/parallel_row/team/team.h"
#include "host_executor.h"
#include "spmd_team.h"
#include "support.h"

using namespace diffsort;
using namespace diffsort::testing;

namespace {

template <class T>
using Case = DerivativeCase<T>;

template <class Run>
void run_map(Regularization regularization, const LinearizedRows& at, const RowDirections& along,
             const Run& run) {
  switch (regularization) {
    case Regularization::l2:
      return run(std::integral_constant<Regularization, Regularization::l2>{}, at, along);
    case Regularization::kl:
      return run(std::integral_constant<Regularization, Regularization::kl>{}, at, along);
    case Regularization::log_kl:
      return run(std::integral_constant<Regularization, Regularization::log_kl>{}, at, along);
  }
}

// run(regularization, at, along) for vjp and jvp, from the arguments of the C interface.
template <class T, class Run>
Answer<T> parallel(const Case<T>& c, const Asked& asked, const Run& run) {
  Answer<T> answer(c);
  const DiffsortProblem problem = c_problem(c);
  const DiffsortLinearization at = c_linearization(c);
  const LinearizedRows rows = linearized_rows(problem, at);
  const DiffsortCotangents cotangents = c_cotangents(c, asked, answer);
  REQUIRE(check_vjp(problem, at, cotangents) == nullptr);
  run_map(c.regularization, rows, row_directions(problem, cotangents), run);

  const DiffsortTangents tangents = c_tangents(c, asked, answer);
  REQUIRE(check_jvp(problem, at, tangents) == nullptr);
  run_map(c.regularization, rows, row_directions(problem, tangents), run);
  return answer;
}

// With memory of exactly the size that is asked for, full of rubbish.
template <class Executor>
struct On {
  mutable Executor executor;

  template <class R>
  void operator()(R, const LinearizedRows& at, const RowDirections& along) const {
    const std::size_t bytes = linear_map_workspace<R::value>(executor, at, along);
    std::vector<unsigned char> workspace(bytes, kRubbish);
    run_linear_map<R::value>(executor, "derivative", at, along, workspace.data());
  }
};
using OnExecutor = On<HostExecutor>;

OnExecutor tiles(HostTeam::Order order) {
  OnExecutor run;
  run.executor.order = order;
  return run;
}

OnExecutor teams(HostTeam::Order order) {
  OnExecutor run = tiles(order);
  run.executor.longest_short = -1;
  return run;
}

OnExecutor long_rows(HostTeam::Order order, std::int64_t chunk = std::int64_t{1} << 27) {
  OnExecutor run = teams(order);
  run.executor.team_capacity = -1;
  run.executor.chunk = chunk;
  return run;
}

struct OnThreads {
  int threads;

  template <class R>
  void operator()(R, const LinearizedRows& at, const RowDirections& along) const {
    DerivativeProgram<R::value> program{at, along};
    program.place();
    for (std::int64_t r = 0; r < at.set.rows; ++r) {
      std::vector<unsigned char> memory(program.bytes(), kRubbish);
      run_spmd(threads, [&](SpmdTeam& team) { program(team, r, memory.data()); });
    }
  }
};

// The same of tiles.
struct OnTileThreads {
  int threads;

  template <class R>
  void operator()(R, const LinearizedRows& at, const RowDirections& along) const {
    const DerivativeTiles<R::value> program(at, along);
    std::vector<char> memory(program.bytes(), static_cast<char>(kRubbish));
    run_spmd(threads, [&](SpmdTeam& team) {
      for (std::int64_t k = 0; k < program.tiles(); ++k) program(team, k, memory.data());
    });
  }
};

constexpr HostTeam::Order kOrders[] = {HostTeam::Order::forward, HostTeam::Order::backward,
                                       HostTeam::Order::shuffled};

// Teams agree with each other to the bit, and so do tiles; both agree with the sequential maps to
// rounding.
template <class T>
void check(const Case<T>& c, const Asked& asked) {
  CAPTURE(c.n);
  CAPTURE(static_cast<int>(c.regularization));
  CAPTURE(asked.z);
  CAPTURE(asked.w);
  CAPTURE(asked.strength);
  const Answer<T> expected = sequential(c, asked);
  for (const auto& way : {tiles, teams}) {
    if (way == tiles && c.n > kShortRow) continue;
    const Answer<T> answer = parallel(c, asked, way(HostTeam::Order::forward));
    CHECK(mismatch(c, answer, expected) == "");
    for (const HostTeam::Order order : kOrders) {
      CHECK(same_bits(answer, parallel(c, asked, way(order))));
    }
  }
}

// As check, for rows that no team holds. Rows start elsewhere in their tree, so sums may round
// differently.
template <class T>
void check_long(const Case<T>& c, const Asked& asked) {
  CAPTURE(c.n);
  CAPTURE(static_cast<int>(c.regularization));
  const Answer<T> expected = sequential(c, asked);
  for (const std::int64_t chunk : {std::int64_t{1}, 5 * c.n, std::int64_t{1} << 27}) {
    const Answer<T> answer = parallel(c, asked, long_rows(HostTeam::Order::forward, chunk));
    CHECK(mismatch(c, answer, expected) == "");
    for (const HostTeam::Order order : kOrders) {
      CHECK(same_bits(answer, parallel(c, asked, long_rows(order, chunk))));
    }
  }
}

constexpr Operands kOperands[] = {Operands::z, Operands::w, Operands::both,
                                  Operands::one_w_for_all};

template <class T, class Check>
void for_all_lengths(std::uint64_t seed, const Check& check) {
  std::mt19937_64 random(seed);
  int turn = 0;
  const auto one = [&](std::int64_t n, Regularization regularization) {
    const Operands operands = kOperands[turn % 4];
    check(random_case<T>(n, regularization, operands, random), kAsked[turn++ % 5]);
  };
  for (const Regularization regularization : kRegularizations) {
    for (std::int64_t n = 0; n <= 70; ++n) one(n, regularization);
    for (const std::int64_t n : {127, 256, 511, 513}) one(n, regularization);
  }
}

}  // namespace

TEST_CASE("parallel derivatives agree with the sequential ones: float64") {
  for_all_lengths<double>(21, [](const auto& c, const Asked& asked) { check(c, asked); });
}

TEST_CASE("parallel derivatives agree with the sequential ones: float32") {
  for_all_lengths<float>(22, [](const auto& c, const Asked& asked) { check(c, asked); });
}

TEST_CASE("parallel derivatives: everything that can be asked for") {
  std::mt19937_64 random(23);
  for (const Regularization regularization : kRegularizations) {
    for (const Operands operands : kOperands) {
      const auto c = random_case<double>(37, regularization, operands, random);
      for (const Asked& asked : kAsked) check(c, asked);
    }
  }
}

TEST_CASE("parallel derivatives: rows that no team holds") {
  for_all_lengths<double>(24, [](const auto& c, const Asked& asked) {
    if (c.n > 0 && c.n % 3 == 0) check_long(c, asked);
  });
  for_all_lengths<float>(25, [](const auto& c, const Asked& asked) {
    if (c.n > 70 || c.n % 16 == 1) check_long(c, asked);
  });
}

namespace {

// A cotangent has the same bits whatever else is asked for, unless there is another way for it alone,
// as there is in tiles; those that are not wanted stay as they were.
template <class T>
void check_cotangents(const Case<T>& c, const OnExecutor& way, bool other_way = false) {
  CAPTURE(c.n);
  CAPTURE(sizeof(T));
  CAPTURE(static_cast<int>(c.regularization));
  CAPTURE(c.z.empty());
  const Answer<T> untouched(c), expected = parallel(c, {true, true, true}, way);
  CHECK(mismatch(c, expected, sequential(c, {true, true, true})) == "");
  for (int outputs = 0; outputs < 8; ++outputs) {
    const Asked asked{(outputs & 1) != 0, (outputs & 2) != 0, (outputs & 4) != 0};
    CAPTURE(outputs);
    const Answer<T> answer = parallel(c, asked, way);
    Answer<T> wanted = answer;
    wanted.z = (asked.z ? expected : untouched).z;
    wanted.w = (asked.w ? expected : untouched).w;
    wanted.strength = (asked.strength ? expected : untouched).strength;
    CHECK((other_way || c.n <= way.executor.longest_short ? mismatch(c, answer, wanted) == ""
                                                          : same_bits(answer, wanted)));
  }
}

template <class T>
void check_cotangents_of_all_ways(std::mt19937_64& random) {
  for (const Regularization regularization : kRegularizations) {
    for (const Operands operands : kOperands) {
      const auto any = HostTeam::Order::shuffled;
      check_cotangents(random_case<T>(23, regularization, operands, random), tiles(any));
      Case<T> c = random_case<T>(41, regularization, operands, random);
      check_cotangents(c, teams(any), std::is_same_v<T, float>);
      const bool other_way = std::is_same_v<T, float> && regularization != Regularization::log_kl;
      check_cotangents(c, long_rows(any, 5 * c.n), other_way);
      // Longer than a tile; rows in order, and others, in chunks of two and all at once.
      c = random_case<T>(4200, regularization, operands, random);
      c.rows = 6;
      check_cotangents(c, long_rows(any, 2 * c.n), other_way);
      check_cotangents(c, long_rows(any), other_way);
    }
  }
}

}  // namespace

TEST_CASE("parallel derivatives: any cotangents, beside others or alone") {
  std::mt19937_64 random(34);
  check_cotangents_of_all_ways<float>(random);
  check_cotangents_of_all_ways<double>(random);
}

TEST_CASE("parallel derivatives: long rows") {
  std::mt19937_64 random(26);
  for (const Regularization regularization : kRegularizations) {
    for (const std::int64_t n : {1024, 2047, 4097}) {
      for (const Operands operands : {Operands::both, Operands::z}) {
        const auto c = random_case<float>(n, regularization, operands, random);
        const Asked asked{true, operands == Operands::both, true};
        const Answer<float> expected = sequential(c, asked);
        CHECK(mismatch(c, parallel(c, asked, teams(HostTeam::Order::forward)), expected) == "");
        CHECK(mismatch(c, parallel(c, asked, long_rows(HostTeam::Order::shuffled)), expected) ==
              "");
      }
    }
  }
}

namespace {

// By dispatch, as the library goes: one launch without workspace, or steps.
template <class T>
void check_dispatch(std::int64_t n, bool one_team, std::mt19937_64& random) {
  for (const Regularization regularization : kRegularizations) {
    for (const Operands operands : {Operands::z, Operands::w, Operands::both}) {
      auto c = random_case<T>(n, regularization, operands, random);
      c.rows = 6;
      const Asked asked{true, operands != Operands::z, true};
      const OnExecutor way = tiles(HostTeam::Order::shuffled);
      CAPTURE(n);
      CHECK(mismatch(c, parallel(c, asked, way), sequential(c, asked)) == "");
      CHECK((way.executor.launches == 0) == one_team);
    }
  }
}

void check_random_derivatives(std::uint64_t count, double longest) {
  const auto check_seed = [&](auto type, std::uint64_t seed) {
    using T = decltype(type);
    std::mt19937_64 random(seed);
    const double digits = std::uniform_real_distribution<double>(0.0, std::log10(longest))(random);
    const auto n = static_cast<std::int64_t>(std::pow(10.0, digits));
    auto c = random_case<T>(n, kRegularizations[random() % 3], kOperands[random() % 4], random);
    c.rows = 1 + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(c.rows));
    const Asked asked = kAsked[random() % std::size(kAsked)];
    const std::int64_t chunks[] = {1, 2 * n, std::int64_t{1} << 27};
    const HostTeam::Order order = kOrders[random() % 3];
    CAPTURE(seed);
    const Answer<T> expected = sequential(c, asked);
    for (const OnExecutor& way :
         {tiles(order), teams(order), long_rows(order, chunks[random() % 3])}) {
      CHECK(mismatch(c, parallel(c, asked, way), expected) == "");
    }
  };
  for (std::uint64_t seed = 0; seed < count; ++seed) {
    if (seed % 2 == 0) {
      check_seed(0.0f, seed);
    } else {
      check_seed(0.0, seed);
    }
  }
}

}  // namespace

TEST_CASE("parallel derivatives: the longest row of a team, and a longer one") {
  std::mt19937_64 random(35);
  check_dispatch<float>(8192, true, random);
  check_dispatch<float>(8193, false, random);
  check_dispatch<double>(8192, true, random);
  check_dispatch<double>(8193, false, random);
}

TEST_CASE("parallel derivatives: random calls") {
  check_random_derivatives(100, 500.0);
}

TEST_CASE("parallel derivatives: 20,000 random calls" * doctest::skip()) {
  check_random_derivatives(20'000, 2000.0);
}

// Their sums take nodes of the levels that no tile has.
TEST_CASE("parallel derivatives: blocks of many tiles") {
  std::mt19937_64 random(33);
  for (const Regularization regularization : kRegularizations) {
    for (const double strength : {1e9, 0.02}) {
      Case<double> c;
      c.rows = 1;
      c.n = 100'000;
      c.regularization = regularization;
      c.strength = {strength};
      c.z = random_values<double>(c.size(), random);
      c.g = c.dz = c.dw = random_values<double>(c.size(), random);
      c.solved = solve<double>(c.problem(), c.z, {});
      const Asked asked{true, true, true};
      const Answer<double> answer = parallel(c, asked, long_rows(HostTeam::Order::forward));
      CHECK(mismatch(c, answer, sequential(c, asked)) == "");
    }
  }
}

TEST_CASE("parallel derivatives: one thread of a step does not see what another keeps") {
  std::mt19937_64 random(27);
  for (const Regularization regularization : kRegularizations) {
    for (const std::int64_t n : {1, 8, 45, 300}) {
      auto c = random_case<double>(n, regularization, Operands::both, random);
      c.rows = 9;
      const Asked asked{true, true, true};
      const Answer<double> expected = parallel(c, asked, teams(HostTeam::Order::forward));
      for (const int threads : {4, 7}) {
        CHECK(same_bits(expected, parallel(c, asked, OnThreads{threads})));
      }
    }
  }
}

TEST_CASE("parallel derivatives: threads of a tile") {
  std::mt19937_64 random(32);
  for (const Regularization regularization : kRegularizations) {
    for (const std::int64_t n : {1, 8, 31, 32}) {
      const auto c = random_case<double>(n, regularization, Operands::both, random);
      const Asked asked{true, true, true};
      const Answer<double> expected = parallel(c, asked, tiles(HostTeam::Order::forward));
      for (const int threads : {4, 7, 32}) {
        CHECK(same_bits(expected, parallel(c, asked, OnTileThreads{threads})));
      }
    }
  }
}

TEST_CASE("parallel derivatives: any number of short rows") {
  std::mt19937_64 random(33);
  for (const Regularization regularization : kRegularizations) {
    for (const Operands operands : kOperands) {
      auto c = random_case<float>(19, regularization, operands, random);
      for (const std::int64_t rows : {36, 33, 32, 31, 1, 0}) {
        c.rows = rows;
        check(c, {true, true, true});
      }
    }
  }
}

TEST_CASE("parallel derivatives: NaN and infinite directions stay in their block") {
  std::mt19937_64 random(28);
  for (const Regularization regularization : kRegularizations) {
    for (const std::int64_t n : {2, 9, 33, 100}) {
      auto c = random_case<double>(n, regularization, Operands::both, random);
      for (std::size_t i = 0; i < c.size(); i += 7) {
        const double special[] = {std::nan(""), kInf, -kInf};
        c.g[i] = special[i % 3];
        c.dz[(i + 3) % c.size()] = special[(i + 1) % 3];
        c.dw[(i + 5) % c.size()] = special[(i + 2) % 3];
      }
      for (const Asked& asked : kAsked) {
        check(c, asked);
        check_long(c, asked);
      }
    }
  }
}

// run(c, asked) on rows of n. All forgeries are within n >= 9.
template <class Run>
void check_forgeries(std::int64_t n, const std::vector<Run>& ways) {
  std::mt19937_64 random(29);
  const std::int64_t row = 7;
  const Asked asked{true, true, true};
  for (const Regularization regularization : kRegularizations) {
    const auto genuine = random_case<double>(n, regularization, Operands::both, random);
    const Answer<double> expected = parallel(genuine, asked, ways[0]);
    const auto check_forged = [&](const auto& forge) {
      auto c = genuine;
      forge(&c.solved.block_z[row * n], &c.solved.block_w[row * n]);
      for (const Run& run : ways) {
        Answer<double> answer = parallel(c, asked, run);
        for (std::int64_t i = row * n; i < (row + 1) * n; ++i) {
          CHECK(std::isnan(answer.z[std::size_t(i)]));
          CHECK(std::isnan(answer.w[std::size_t(i)]));
          CHECK(std::isnan(answer.tangent[std::size_t(i)]));
        }
        CHECK(std::isnan(answer.strength[std::size_t(row)]));
        const auto restore = [&](auto& values, const auto& from, std::int64_t begin,
                                 std::int64_t end) {
          std::copy(from.begin() + begin, from.begin() + end, values.begin() + begin);
        };
        restore(answer.z, expected.z, row * n, (row + 1) * n);
        restore(answer.w, expected.w, row * n, (row + 1) * n);
        restore(answer.tangent, expected.tangent, row * n, (row + 1) * n);
        restore(answer.strength, expected.strength, row, row + 1);
        CHECK(mismatch(c, answer, expected) == "");
      }
    };
    for (const std::int32_t id :
         {std::int32_t(n), 1000000, -1, std::int32_t(-2 - n), -1000000, INT32_MIN, INT32_MAX}) {
      check_forged([&](std::int32_t* z, std::int32_t*) { z[3] = id; });
      check_forged([&](std::int32_t*, std::int32_t* w) { w[n - 1] = id; });
    }
    check_forged([&](std::int32_t* z, std::int32_t*) { std::fill(z, z + n, 1); });
    check_forged([&](std::int32_t* z, std::int32_t*) { std::fill(z, z + n, std::int32_t(n - 1)); });
    check_forged([&](std::int32_t* z, std::int32_t*) {
      for (int i = 0; i < n; ++i) z[i] = std::int32_t(random() % n);
    });
    // Blocks that agree with themselves, but not with the other operand's.
    check_forged([&](std::int32_t* z, std::int32_t* w) {
      std::fill(z, z + n, 0);
      std::iota(w, w + n, 0);
    });
    check_forged([&](std::int32_t* z, std::int32_t* w) {
      for (int i = 0; i < n; ++i) {
        z[i] = i;
        w[i] = 0;
      }
      z[5] = 4;
      w[7] = 5;
    });
  }
}

TEST_CASE("parallel derivatives: forged block ids make their row NaN and no other") {
  const auto order = HostTeam::Order::shuffled;
  check_forgeries<OnExecutor>(41, {teams(order), long_rows(order)});
  check_forgeries<OnExecutor>(23, {tiles(order)});
}

TEST_CASE("parallel derivatives: an element alone in its block has derivative 0, exactly") {
  for (const Regularization regularization : kRegularizations) {
    Case<double> c;
    c.rows = 1;
    c.n = 40;
    c.regularization = regularization;
    c.strength = {1e-3};
    std::mt19937_64 random(30);
    c.z = random_values<double>(40, random);
    for (std::size_t i = 0; i < 40; ++i) c.z[i] = 0.1 * double(i * 7 % 40);
    c.g = c.dz = c.dw = random_values<double>(40, random);
    const auto solved = solve<double>(c.problem(), c.z, {});
    c.solved = solved;
    const Answer<double> answer = parallel(c, {true, true, true}, teams(HostTeam::Order::forward));
    CHECK(answer.z == Vector(40, 0.0));
    CHECK(answer.strength == Vector(1, 0.0));
  }
}

// At strength 1, with z and w the same, and nothing else that is read but ids of z.
LinearizedRows bare_rows(std::int64_t rows, std::int64_t n, const FloatRows& operand,
                         const DenseRows<const std::int32_t>& block_z) {
  DensePerRow strength;
  strength.value = 1.0;
  return {{rows, n}, 1.0, 1.0, strength, operand, operand, {}, block_z, {}};
}

// As docs/cuda.md counts them.
TEST_CASE("parallel derivatives: launches of long rows") {
  const std::int64_t n = 100'000;
  const std::vector<std::int32_t> ids(static_cast<std::size_t>(n), 0);
  const std::vector<float> g(ids.size(), 1.0f), result(ids.size(), 1.0f);
  std::vector<float> out;
  RowDirections along;
  along.cotangents.g = {g.data(), n, true};
  const auto launches = [&](Regularization regularization, bool by_w = false) {
    out.assign(ids.size(), -7.0f);
    along.cotangents.z = by_w ? FloatOutput{} : FloatOutput{out.data(), true};
    along.cotangents.w = by_w ? FloatOutput{out.data(), true} : FloatOutput{};
    LinearizedRows at = bare_rows(1, n, {}, {ids.data(), n});
    if (by_w) at.block_w = at.block_z;
    at.result = {result.data(), n, true};
    OnExecutor run;
    run_map(regularization, at, along, run);
    CHECK(out == std::vector<float>(out.size(), by_w ? 1.0f : 0.0f));
    return run.executor.launches;
  };
  CHECK(launches(Regularization::l2) == 8);
  CHECK(launches(Regularization::l2, true) == 9);
  CHECK(launches(Regularization::kl) == 17);
}

// Elements whose ids are in order are not sorted: their memory is left alone.
TEST_CASE("parallel derivatives: rows in order are listed as they are") {
  const std::int64_t rows = 4, n = 9000, count = rows * n;
  std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
  std::iota(ids.begin() + n, ids.begin() + 2 * n, 0);          // all alone, in order
  std::iota(ids.rbegin() + n, ids.rbegin() + 2 * n, 0);        // all alone, against it
  std::fill(ids.begin() + 3 * n, ids.end() - n / 3, n / 3);    // two blocks, the first one last
  const auto in_order = [](std::int64_t r) { return r < 2; };  // row 0 is one block
  HostExecutor executor;
  DeviceSteps<HostExecutor> steps(executor, "derivative");
  const LinearizedRows at = bare_rows(rows, n, {}, {ids.data(), n});
  Arena sizes;
  LongDerivativeMemory(sizes, rows, n, Wanted<Regularization::l2>{}, false);
  std::vector<unsigned char> workspace(sizes.bytes(), kRubbish);
  Arena arena(workspace.data());
  const LongDerivativeMemory memory(arena, rows, n, Wanted<Regularization::l2>{}, false);
  steps.for_each(rows, BeginRow<LinearizedRows, RowDirections>{at, {}, memory.states});
  const ChunkList list = memory.list(steps, at.set, at.block_z);
  for (std::int64_t r = 0; r < rows; ++r) {
    CAPTURE(r);
    CHECK(list.in_order[r] == (in_order(r) ? 1u : 0u));
    const auto untouched = [&](const std::uint32_t* values) {
      return std::all_of(values + r * n, values + (r + 1) * n,
                         [](std::uint32_t x) { return x == 0xabababab; });
    };
    CHECK(untouched(list.keys) == in_order(r));
    CHECK(untouched(list.index) == in_order(r));
    bool right = true;
    for (std::int64_t p = r * n; p < (r + 1) * n; ++p) {
      const std::int64_t e = list.element(p);
      right &= r * n <= e && e < (r + 1) * n && list.key(p) == r * n + ids[std::size_t(e)];
      if (p > r * n) right &= list.key(p - 1) <= list.key(p);
      if (in_order(r)) right &= e == p;
    }
    CHECK(right);
  }
}

TEST_CASE("parallel derivatives: long rows by threads, some of them in order") {
  std::mt19937_64 random(32);
  for (const Regularization regularization : kRegularizations) {
    for (const std::int64_t n : {40, 4200}) {
      auto c = random_case<double>(n, regularization, Operands::both, random);
      c.rows = 9;
      const Asked asked{true, true, true};
      const Answer<double> expected = parallel(c, asked, long_rows(HostTeam::Order::forward));
      CHECK(same_bits(expected, parallel(c, asked, On<SpmdExecutor>{{5}})));
    }
  }
}

// What a call asks for, in bytes per element, where a team holds no row longer than `capacity`.
double workspace_per_element(std::int64_t capacity, std::int64_t rows, std::int64_t n,
                             std::int32_t type, Regularization regularization,
                             const RowDirections& along) {
  static const float values[1] = {};
  const LinearizedRows at = bare_rows(rows, n, {values, 0, type == DIFFSORT_FLOAT32}, {});
  std::size_t bytes = 0;
  HostExecutor executor;
  executor.team_capacity = capacity;
  run_map(regularization, at, along, [&](auto r, const auto&, const auto&) {
    bytes = linear_map_workspace<decltype(r)::value>(executor, at, along);
  });
  return static_cast<double>(bytes) / static_cast<double>(rows * n);
}

// What is asked for, by outputs and directions that are there.
struct EveryDirection {
  float out[1];
  double strength_out[1];
  RowDirections all, strength_alone, along_w, along_z, of_z, of_w;

  EveryDirection() {
    of_z.cotangents.z = of_w.cotangents.w = {out, true};
    of_z.cotangents.g = of_w.cotangents.g = {out, 0, true};
    all.cotangents.z = all.cotangents.w = {out, true};
    all.cotangents.strength = strength_alone.cotangents.strength = strength_out;
    along_w.forward = along_z.forward = true;
    along_w.tangents.w = along_z.tangents.z = {out, 0, true};
    along_w.tangents.out = along_z.tangents.out = {out, true};
  }
};

// The table of docs/cuda.md, scratch of sorts included.
TEST_CASE("parallel derivatives: the workspace of long rows") {
  const EveryDirection along;
  for (const auto& [rows, n] :
       {std::pair{1, 8193}, std::pair{1, 10'000'000}, std::pair{128, 100'000}}) {
    for (const Regularization regularization : kRegularizations) {
      CAPTURE(n);
      CAPTURE(static_cast<int>(regularization));
      const auto per_element = [&, rows = rows, n = n](std::int32_t type,
                                                       const RowDirections& directions) {
        return workspace_per_element(8192, rows, n, type, regularization, directions);
      };
      const bool l2 = regularization == Regularization::l2,
                 log_kl = regularization == Regularization::log_kl;
      CHECK(per_element(DIFFSORT_FLOAT32, along.along_z) <= (l2 ? 12.9 : 15.3));
      CHECK(per_element(DIFFSORT_FLOAT32, along.all) <= (l2 ? 12.9 : 15.3));
      CHECK(per_element(DIFFSORT_FLOAT32, along.of_z) <= (l2 ? 10.2 : 15.3));
      CHECK(per_element(DIFFSORT_FLOAT32, along.of_w) <= (l2 ? 14.2 : log_kl ? 16.9 : 15.3));
      for (const RowDirections& without_room : {along.along_w, along.strength_alone}) {
        CHECK(per_element(DIFFSORT_FLOAT32, without_room) <= 16.9);
        CHECK(per_element(DIFFSORT_FLOAT64, without_room) <= (l2 ? 16.9 : 17.3));
      }
      CHECK(per_element(DIFFSORT_FLOAT64, along.all) <= (l2 ? 13.3 : 17.3));
    }
  }
}

// What XLA plans for before it knows the device, and for rows that it will split
// (backends/jax/lowering.py).
TEST_CASE("parallel derivatives: the workspace on any device, and of a part of the rows") {
  const EveryDirection along;
  for (const std::int64_t n : {1025, 1500, 2048, 4096, 4097, 8193, 100'000, 10'000'000}) {
    for (const Regularization regularization : kRegularizations) {
      for (const RowDirections& directions : {along.all, along.strength_alone, along.along_w,
                                              along.along_z, along.of_z, along.of_w}) {
        for (const std::int32_t type : {DIFFSORT_FLOAT32, DIFFSORT_FLOAT64}) {
          const auto of_rows = [&](std::int64_t rows) {
            return workspace_per_element(1024, rows, n, type, regularization, directions);
          };
          CAPTURE(n);
          CHECK(of_rows(1) > 0.0);
          CHECK(of_rows(1) <= 20.0);
          for (const std::int64_t rows : {2, 3, 31, 1000, 100'000}) {
            CHECK(of_rows(rows) <= of_rows(1));
          }
        }
      }
    }
  }
}

TEST_CASE("parallel derivatives: arguments that do not fit together") {
  std::mt19937_64 random(31);
  const auto c = random_case<float>(5, Regularization::kl, Operands::both, random);
  const DiffsortProblem problem = c_problem(c);
  std::vector<float> out(c.size());
  DiffsortCotangents cotangents{};
  cotangents.g = rows_of(c.g, c.n);
  cotangents.w_out = out.data();
  DiffsortTangents tangents{};
  tangents.w = rows_of(c.dw, c.n);
  tangents.out = out.data();
  const auto refuses = [&](const auto& change) {
    DiffsortLinearization at = c_linearization(c);
    DiffsortCotangents backward = cotangents;
    DiffsortTangents forward = tangents;
    change(at, backward, forward);
    return std::make_pair(check_vjp(problem, at, backward) != nullptr,
                          check_jvp(problem, at, forward) != nullptr);
  };
  using A = DiffsortLinearization;
  using C = DiffsortCotangents;
  using D = DiffsortTangents;
  const auto neither = std::make_pair(false, false), both = std::make_pair(true, true);
  CHECK(refuses([](A&, C&, D&) {}) == neither);
  CHECK(refuses([](A& at, C&, D&) { at.block_z.data = nullptr; }) == both);
  CHECK(refuses([](A& at, C&, D&) { at.block_w.data = nullptr; }) == both);
  CHECK(refuses([](A& at, C&, D&) { at.result.data = nullptr; }) == both);
  CHECK(refuses([](A& at, C&, D&) { at.z.stride = 4; }) == both);
  CHECK(refuses([](A&, C& backward, D& forward) {
          backward.g.data = nullptr;
          forward.out = nullptr;
        }) == both);
  CHECK(refuses([](A&, C& backward, D& forward) { backward.g.stride = forward.w.stride = 1; }) ==
        both);
  CHECK(refuses([&](A&, C&, D& forward) {
          forward.has_strength = 1;
          forward.strength = {out.data(), 2, DIFFSORT_FLOAT32, 0.0};
        }) == std::make_pair(false, true));
}
