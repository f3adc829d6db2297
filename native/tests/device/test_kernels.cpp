// libdiffsort_cuda itself, through its interface, on the device of runtime.h: its launches, and its
// kernels instruction by instruction, against the sequential solver.
//
// Every array is allowed to the byte, workspaces are as small as they may be and full of rubbish, and
// threads that use the same memory without a barrier between them are an error, as are lanes that do
// not come to a barrier. Half of the calls go in order and half shuffled. Sums over threads differ from
// device to device only in the instructions that older ones lack; rows that one device sorts in shared
// memory go as long ones on another.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "../derivative_cases.h"
#include "../projection_cases.h"
#include "library_call.h"

using namespace diffsort;
using namespace diffsort::testing;

namespace {

using device::Allowed;
using device::call_library;

DiffsortProblem part_of(DiffsortProblem problem, std::int64_t rows) {
  if (rows > 0) problem.rows = rows;
  return problem;
}

void set_machine(bool shuffled, std::uint64_t seed) {
  device::machine().settings = {shuffled, true, seed};
}

// With the scratch memory of so many rows; 0: of all.
template <class T>
Solved<T> solve_on_device(const ProjectionCase<T>& c, std::int64_t scratch_rows = 0) {
  Solved<T> solved = rubbish<T>(c.size());
  const Allowed allowed(c.z, c.w, c.strength, solved.result, solved.block_z, solved.block_w);
  const DiffsortProblem problem = c_problem(c), part = part_of(problem, scratch_rows);
  const DiffsortProjection arrays = c_projection(c, solved);
  call_library(
      [&](const DiffsortCall* call, std::size_t* bytes) {
        return diffsort_cuda_project_workspace(&part, &arrays, call, bytes);
      },
      [&](const DiffsortCall* call) { return diffsort_cuda_project(&problem, &arrays, call); });
  return solved;
}

template <class T>
Answer<T> differentiate_on_device(const DerivativeCase<T>& c, const Asked& asked,
                                  std::int64_t scratch_rows = 0) {
  Answer<T> answer(c);
  const Allowed allowed(c.z, c.w, c.strength, c.solved.result, c.solved.block_z, c.solved.block_w,
                        c.g, c.dz, c.dw, answer.z, answer.w, answer.tangent, answer.strength);
  const DiffsortProblem problem = c_problem(c), part = part_of(problem, scratch_rows);
  const DiffsortLinearization at = c_linearization(c);
  const DiffsortCotangents cotangents = c_cotangents(c, asked, answer);
  const DiffsortTangents tangents = c_tangents(c, asked, answer);
  call_library(
      [&](const DiffsortCall* call, std::size_t* bytes) {
        return diffsort_cuda_vjp_workspace(&part, &at, &cotangents, call, bytes);
      },
      [&](const DiffsortCall* call) {
        return diffsort_cuda_vjp(&problem, &at, &cotangents, call);
      });
  call_library(
      [&](const DiffsortCall* call, std::size_t* bytes) {
        return diffsort_cuda_jvp_workspace(&part, &at, &tangents, call, bytes);
      },
      [&](const DiffsortCall* call) { return diffsort_cuda_jvp(&problem, &at, &tangents, call); });
  return answer;
}

// All families as the rows of one array, with strengths that differ from row to row.
template <class T>
ProjectionCase<T> random_projection(std::int64_t n, Regularization regularization, int operands,
                                    std::mt19937_64& random) {
  ProjectionCase<T> c{0, n, regularization, {}, {}, {}};
  for (const Vector& row : families(n, random)) {
    ++c.rows;
    for (const double x : row) {
      if (operands & 1) c.z.push_back(static_cast<T>(x));
      if (operands & 2) c.w.push_back(static_cast<T>(std::abs(x)));
    }
    const double power = std::uniform_real_distribution<double>(-3, 3)(random);
    c.strength.push_back(c.rows % 5 == 4 ? T(0) : static_cast<T>(std::pow(10.0, power)));
  }
  c.z_sign = random() % 2 ? 1.0 : -1.0;
  if (regularization != Regularization::kl) c.w_sign = random() % 2 ? 1.0 : -1.0;
  return c;
}

template <class T>
void check_projection(std::int64_t n, int operands, std::mt19937_64& random) {
  for (const Regularization regularization : kRegularizations) {
    const auto c = random_projection<T>(n, regularization, operands, random);
    const Solved<T> expected = solve_sequentially(c);
    set_machine(random() % 2 == 0, random());
    compare(c, solve_on_device(c), expected);
  }
}

template <class T>
void check_derivatives(std::int64_t n, Operands operands, const Asked& asked,
                       std::mt19937_64& random) {
  for (const Regularization regularization : kRegularizations) {
    CAPTURE(n);
    CAPTURE(static_cast<int>(regularization));
    const auto c = random_case<T>(n, regularization, operands, random);
    const Answer<T> expected = sequential(c, asked);
    set_machine(random() % 2 == 0, random());
    CHECK(mismatch(c, differentiate_on_device(c, asked), expected) == "");
  }
}

template <class T>
struct Ranked {
  Solved<T> solved;
  std::vector<T> gradient;
};

// Ranks and their cotangent, of arrays that all begin `by` elements behind where memory does.
template <class T>
Ranked<T> rank_displaced(const ProjectionCase<T>& c, const std::vector<T>& g, std::size_t by) {
  const auto displaced = [by](const auto& values) {
    auto copy = values;
    copy.insert(copy.begin(), by, typename std::decay_t<decltype(values)>::value_type(77));
    return copy;
  };
  const auto put_back = [by](auto& values) {
    values.erase(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(by));
  };
  const std::vector<T> z = displaced(c.z), cotangent = displaced(g);
  Ranked<T> ranked{rubbish<T>(by + c.size()), std::vector<T>(by + c.size())};
  std::vector<T>&result = ranked.solved.result, &gradient = ranked.gradient;
  std::vector<std::int32_t>& block = ranked.solved.block_z;
  const Allowed allowed(z, c.strength, cotangent, result, block, gradient);
  const DiffsortProblem problem = c_problem(c);
  const DiffsortProjection arrays{
      {z.data() + by, c.n}, {}, result.data() + by, block.data() + by, nullptr};
  const DiffsortLinearization at{
      {z.data() + by, c.n}, {}, {result.data() + by, c.n}, {block.data() + by, c.n}, {}};
  const DiffsortCotangents cotangents{
      {cotangent.data() + by, c.n}, gradient.data() + by, nullptr, nullptr};
  const auto no_workspace = [](const DiffsortCall*, std::size_t* bytes) {
    *bytes = 0;
    return 0;
  };
  call_library(no_workspace, [&](const DiffsortCall* call) {
    return diffsort_cuda_project(&problem, &arrays, call);
  });
  call_library(no_workspace, [&](const DiffsortCall* call) {
    return diffsort_cuda_vjp(&problem, &at, &cotangents, call);
  });
  put_back(result);
  put_back(block);
  put_back(gradient);
  return ranked;
}

constexpr Operands kOperands[] = {Operands::z, Operands::w, Operands::both,
                                  Operands::one_w_for_all};

// What is asked for at random, and the cotangents that have ways of their own.
void check_ways(std::int64_t n, std::mt19937_64& random) {
  for (const Operands operands : kOperands) {
    const Asked& asked = kAsked[random() % std::size(kAsked)];
    check_derivatives<float>(n, operands, asked, random);
    check_derivatives<double>(n, operands, asked, random);
  }
  check_derivatives<float>(n, Operands::z, {true, false, false}, random);
  check_derivatives<float>(n, Operands::w, {false, true, false}, random);
}

// Two rows of zeros.
ProjectionCase<float> zeros(std::int64_t n) {
  return {2, n, Regularization::l2, std::vector<float>(std::size_t(2 * n)), {}, {1}};
}

}  // namespace

TEST_CASE("kernels: projections of short rows") {
  std::mt19937_64 random(51);
  for (const auto& device : {device::kTuring, device::kHopper}) {
    device::become(device);
    for (std::int64_t n = 0; n <= 34; ++n) {
      for (const int operands : {1, 2, 3}) {
        check_projection<float>(n, operands, random);
        check_projection<double>(n, operands, random);
      }
    }
  }
}

// What is aligned is accessed by fours.
TEST_CASE_TEMPLATE("kernels: projections of short rows, and cotangents, anywhere in memory", T,
                   float, double) {
  std::mt19937_64 random(58);
  device::become(device::kHopper);
  for (const std::int64_t n : {4, 7, 10, 16, 32}) {
    for (const double strength : {1e-3, 1.0, 1e3}) {
      CAPTURE(n);
      const ProjectionCase<T> c{69,
                                n,
                                Regularization::l2,
                                random_values<T>(69 * std::size_t(n), random),
                                {},
                                {static_cast<T>(strength)}};
      const std::vector<T> g = random_values<T>(c.size(), random);
      set_machine(random() % 2 == 0, random());
      const Ranked<T> expected = rank_displaced(c, g, 0);
      CHECK(expected.solved.block_z == solve_sequentially(c).block_z);
      for (const std::size_t by : {1, 2, 3}) {
        const Ranked<T> found = rank_displaced(c, g, by);
        CHECK(found.solved.result == expected.solved.result);
        CHECK(found.solved.block_z == expected.solved.block_z);
        CHECK(found.gradient == expected.gradient);
      }
    }
  }
}

TEST_CASE("kernels: projections of rows of a block") {
  std::mt19937_64 random(52);
  for (const auto& device : {device::kTuring, device::kHopper}) {
    device::become(device);
    for (const std::int64_t n : {63, 64, 65, 127, 128, 129, 300, 700, 1024, 1025}) {
      for (const int operands : {1, 2, 3}) {
        check_projection<float>(n, operands, random);
        check_projection<double>(n, operands, random);
      }
    }
    check_projection<float>(4096, 1, random);
    check_projection<float>(4097, 2, random);
    check_projection<double>(4097, 1, random);
  }
}

TEST_CASE("kernels: projections of long rows") {
  std::mt19937_64 random(53);
  device::become(device::kHopper);
  check_projection<float>(8192, 1, random);
  check_projection<float>(8193, 1, random);
  check_projection<float>(8193, 2, random);
  check_projection<double>(9000, 1, random);
  check_projection<float>(9000, 3, random);
  check_projection<float>(40000, 1, random);
}

TEST_CASE_TEMPLATE("kernels: projections of rows with NaN of either sign", T, float, double) {
  std::mt19937_64 random(59);
  for (const auto& device : {device::kTuring, device::kHopper}) {
    device::become(device);
    for (const std::int64_t n : {20, 300, 9000}) {
      for (const double sign : {1.0, -1.0}) {
        ProjectionCase<T> c{4, n, Regularization::l2, {}, {}, {T(0.1)}};
        c.z = random_values<T>(c.size(), random);
        c.z_sign = sign;
        for (std::size_t r = 0; r < 3; ++r) {  // the last row has a projection
          const std::size_t at = r * static_cast<std::size_t>(n) + random() % std::size_t(n);
          c.z[at] = std::copysign(std::numeric_limits<T>::quiet_NaN(), r == 1 ? T(-1) : T(1));
        }
        set_machine(random() % 2 == 0, random());
        compare(c, solve_on_device(c), solve_sequentially(c));
      }
    }
  }
}

TEST_CASE("kernels: derivatives of short rows") {
  std::mt19937_64 random(54);
  for (const auto& device : {device::kTuring, device::kHopper}) {
    device::become(device);
    for (const std::int64_t n : {1, 2, 3, 5, 8, 15, 16, 17, 30, 31, 32}) {
      check_ways(n, random);
    }
  }
}

TEST_CASE("kernels: derivatives of rows of a block") {
  std::mt19937_64 random(55);
  for (const auto& device : {device::kTuring, device::kHopper}) {
    device::become(device);
    for (const std::int64_t n : {33, 64, 129, 700, 1025}) {
      check_ways(n, random);
    }
  }
}

TEST_CASE("kernels: derivatives of long rows") {
  std::mt19937_64 random(56);
  device::become(device::kHopper);
  check_derivatives<float>(8200, Operands::z, {true, false, false}, random);
  check_derivatives<float>(8200, Operands::w, {false, true, false}, random);
  check_derivatives<float>(8200, Operands::both, {true, true, true}, random);
  check_derivatives<double>(8200, Operands::z, {true, false, true}, random);
}

TEST_CASE("kernels: rows of a million elements") {
  std::mt19937_64 random(57);
  device::become(device::kHopper);
  device::machine().settings = {};
  for (const double strength : {1e3, 1e-3, 1e-6}) {
    DerivativeCase<float> c;
    c.rows = 1;
    c.n = 1000000;
    c.regularization = Regularization::l2;
    c.strength = {static_cast<float>(strength)};
    c.z = random_values<float>(c.size(), random);
    c.g = random_values<float>(c.size(), random);
    const ProjectionCase<float> projection{1, c.n, c.regularization, c.z, {}, c.strength};
    c.solved = solve_sequentially(projection);
    compare(projection, solve_on_device(projection), c.solved);
    const Asked asked{true, false, false};
    CHECK(mismatch(c, differentiate_on_device(c, asked), sequential(c, asked)) == "");
  }
}

TEST_CASE("kernels: the same bits whatever the order of threads") {
  std::mt19937_64 random(58);
  device::become(device::kHopper);
  for (const std::int64_t n : {20, 300, 8200}) {
    for (const Regularization regularization : kRegularizations) {
      if (n > 8000 && regularization != Regularization::l2) continue;
      const auto c = random_case<float>(n, regularization, Operands::z, random);
      const ProjectionCase<float> projection{c.rows, n, regularization, c.z, {}, c.strength};
      const Asked asked{true, false, n < 1000};
      set_machine(false, 0);
      const Solved<float> solved = solve_on_device(projection);
      const Answer<float> answer = differentiate_on_device(c, asked);
      for (const std::uint64_t seed : {1, 2}) {
        set_machine(true, seed);
        CHECK(same_bits(solve_on_device(projection).result, solved.result));
        CHECK(same_bits(differentiate_on_device(c, asked), answer));
      }
    }
  }
}

TEST_CASE("kernels: with less scratch memory rows go by fewer at a time, down to one") {
  device::become(device::kHopper);
  std::mt19937_64 random(76);
  set_machine(true, 5);
  const std::int64_t n = 8300, rows = 3;
  const auto keep = [&](auto&... vectors) {
    (vectors.resize(std::min(vectors.size(), std::size_t(rows * n))), ...);
  };
  for (const Regularization regularization : {Regularization::l2, Regularization::kl}) {
    auto projection = random_projection<float>(n, regularization, 1, random);
    projection.rows = rows;
    keep(projection.z);
    const Solved<float> solved = solve_on_device(projection);
    auto c = random_case<float>(n, regularization, Operands::z, random);
    c.rows = rows;
    keep(c.z, c.g, c.dz, c.solved.result, c.solved.block_z, c.solved.block_w);
    for (const std::int64_t scratch_rows : {1, 2}) {
      const Solved<float> found = solve_on_device(projection, scratch_rows);
      CHECK(same_bits(found.result, solved.result));
      CHECK(found.block_z == solved.block_z);
      for (const Asked& asked : {Asked{true, false, false}, Asked{true, false, true}}) {
        // Trees of sums stand over all rows that go together.
        CHECK(mismatch(c, differentiate_on_device(c, asked, scratch_rows), sequential(c, asked)) ==
              "");
      }
    }
  }
  ProjectionCase<float> c{2, 9000, Regularization::l2, std::vector<float>(18000), {}, {1}};
  Solved<float> solved = rubbish<float>(c.size());
  const DiffsortProblem problem = c_problem(c), one = part_of(problem, 1);
  const DiffsortProjection arrays = c_projection(c, solved);
  char message[1000] = "";
  DiffsortCall call{-1, nullptr, nullptr, 0, message, sizeof message};
  REQUIRE(diffsort_cuda_project_workspace(&one, &arrays, &call, &call.workspace_bytes) == 0);
  call.workspace_bytes -= 1;
  CHECK(diffsort_cuda_project(&problem, &arrays, &call) == DIFFSORT_SMALL_WORKSPACE);
  CHECK(std::string(message) == "project: the workspace is too small for a row");
}

// What XLA plans for before it knows the device (backends/jax/lowering.py): nothing for rows of up to
// 1024 elements, and at most 20 bytes for each element of longer ones.
TEST_CASE("kernels: scratch memory on the device that has least shared memory") {
  device::become(device::kTuring);
  for (const std::int64_t n : {33, 1000, 1024, 1025, 2000, 4096, 8192}) {
    for (const std::int32_t type : {DIFFSORT_FLOAT32, DIFFSORT_FLOAT64}) {
      for (const std::int32_t regularization : {0, 1, 2}) {
        CAPTURE(n);
        CAPTURE(type);
        CAPTURE(regularization);
        double somewhere = 0.0;
        std::int32_t ids = 0;
        const DiffsortRows rows{&somewhere, n}, blocks{&ids, n};
        const DiffsortProblem problem{
            1, n, type, regularization, 1.0, 1.0, {&somewhere, 1, DIFFSORT_FLOAT64, 0.0}};
        const DiffsortLinearization at{rows, rows, rows, blocks, blocks};
        const DiffsortTangents tangents{rows, rows, problem.strength, 1, &somewhere};
        const DiffsortCotangents cotangents{rows, &somewhere, &somewhere, &somewhere};
        const DiffsortCall call{-1, nullptr, nullptr, 0, nullptr, 0};
        const auto check = [&](int status, std::size_t bytes) {
          CHECK(status == 0);
          CHECK(bytes <= (n <= 1024 ? 0 : 20 * static_cast<std::size_t>(n)));
        };
        std::size_t bytes = 0;
        int status = 0;
        for (const bool both : {true, false}) {
          const DiffsortProjection arrays{rows, both ? rows : DiffsortRows{}, &somewhere, &ids,
                                          &ids};
          status = diffsort_cuda_project_workspace(&problem, &arrays, &call, &bytes);
          check(status, bytes);
        }
        status = diffsort_cuda_jvp_workspace(&problem, &at, &tangents, &call, &bytes);
        check(status, bytes);
        status = diffsort_cuda_vjp_workspace(&problem, &at, &cotangents, &call, &bytes);
        check(status, bytes);
      }
    }
  }
}

TEST_CASE(
    "kernels: what fails on the device is reported, with kernel and shape, and then forgotten") {
  device::become(device::kHopper);
  for (const std::int64_t n : {10, 100, 9000}) {
    const ProjectionCase<float> c = zeros(n);
    Solved<float> solved = rubbish<float>(c.size());
    const DiffsortProblem problem = c_problem(c);
    const DiffsortProjection arrays = c_projection(c, solved);
    std::vector<unsigned char> workspace(1 << 20);
    char message[1000] = "";
    const DiffsortCall call{-1,      nullptr,       workspace.data(), workspace.size(),
                            message, sizeof message};
    const Allowed some(c.z, c.strength, solved.result, solved.block_w, workspace);
    CHECK(diffsort_cuda_project(&problem, &arrays, &call) == 719);
    const std::string text = message;
    CHECK(text.find("project: ") == 0);
    CHECK(text.find(" failed on 2 rows of " + std::to_string(n)) != std::string::npos);
    CHECK(text.find("outside of global memory") != std::string::npos);
    const Allowed rest(solved.block_z);
    CHECK(diffsort_cuda_project(&problem, &arrays, &call) == 0);
  }
}

TEST_CASE("devices: kernels are there for those that machine code or PTX is for") {
  const auto supports = [](int compute_capability) {
    device::become({compute_capability, 64 * 1024});
    return diffsort_cuda_supports(1);
  };
  CHECK(supports(75) == 1);  // by machine code, as far as the library knows
  CHECK(supports(76) == 1);
  CHECK(supports(70) == 0);
  CHECK(supports(80) == 0);
  CHECK(supports(89) == 0);
  CHECK(supports(90) == 1);
  CHECK(supports(121) == 1);                             // by PTX
  CHECK(diffsort_cuda_supports(device::kDevices) == 1);  // cannot be asked: a call will tell
  CHECK(device::take_made_current().empty());
  device::become(device::kHopper);
}

TEST_CASE("devices: a call's is current while kernels are launched, and else left alone") {
  using Current = std::vector<int>;
  device::become(device::kHopper);
  for (const std::int64_t n : {10, 100, 9000}) {
    const ProjectionCase<float> c = zeros(n);
    Solved<float> solved = rubbish<float>(c.size());
    const DiffsortProblem problem = c_problem(c);
    const DiffsortProjection arrays = c_projection(c, solved);
    std::vector<unsigned char> workspace(1 << 20);
    const Allowed allowed(c.z, c.strength, solved.result, solved.block_z, solved.block_w,
                          workspace);
    char message[1000] = "";
    DiffsortCall call{1, nullptr, workspace.data(), workspace.size(), message, sizeof message};
    std::size_t bytes = 0;
    CHECK(diffsort_cuda_project_workspace(&problem, &arrays, &call, &bytes) == 0);
    CHECK(device::take_made_current().empty());
    CHECK(diffsort_cuda_project(&problem, &arrays, &call) == 0);
    CHECK(device::device_of_last_launch() == 1);
    CHECK(device::take_made_current() == Current{1, 0});
    for (const int current : {0, -1}) {
      call.device = current;
      CHECK(diffsort_cuda_project(&problem, &arrays, &call) == 0);
      CHECK(device::device_of_last_launch() == 0);
      CHECK(device::take_made_current().empty());
    }
    call.device = device::kDevices;
    CHECK(diffsort_cuda_project(&problem, &arrays, &call) != 0);
    CHECK(std::string(message).find("project: cudaDeviceGetAttribute failed on ") == 0);
    CHECK(std::string(message).find("invalid device ordinal") != std::string::npos);
    CHECK(device::take_made_current().empty());
  }
}
