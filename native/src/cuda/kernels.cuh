// The kernels: programs and steps of diffsort/parallel_row, by the teams of teams.cuh. What they are is
// in executor.cuh, which launches them.
//
// A program that has `kRegularization` and `With<R>`, the same program of another regularization, shares
// its kernel with those.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>

#include "diffsort/parallel_row/short_rows/tile.h"
#include "diffsort/projection.h"
#include "teams.cuh"

namespace diffsort {

constexpr int kStepThreads = 256;  // of a step over all rows
constexpr int kWarpsPerBlock = 4;  // at most, each with a tile of its own
constexpr int kTileBlocks = 5;     // of four warps: what the registers of a multiprocessor are for

template <class F>
__global__ void __launch_bounds__(kStepThreads) step_kernel(std::int64_t count, F f) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kStepThreads;
#pragma unroll 1
  for (std::int64_t i = std::int64_t{blockIdx.x} * kStepThreads + threadIdx.x; i < count;
       i += stride) {
    f(i);
  }
}

// What a program of teams has in shared memory, if it is one.
struct NoShared {};
template <class Program, class = void>
struct SharedOfProgram {
  using Type = NoShared;
};
template <class Program>
struct SharedOfProgram<Program, std::void_t<typename Program::Shared>> {
  using Type = typename Program::Shared;
};
template <class Program>
using SharedOf = typename SharedOfProgram<Program>::Type;

// What a kernel has: a program alone,
template <class Program>
class OneProgram {
 public:
  using Shared = SharedOf<Program>;

  explicit OneProgram(const Program& program) : program_(program) {}

  template <class Run>
  __device__ void visit(const Run& run) const {
    run(program_);
  }

 private:
  Program program_;
};

// or that of one regularization beside those of the others. What they share, sorts above all, is in
// the library once then, instead of three times.
template <class L2>
class AnyRegularization {
 public:
  using Kl = typename L2::template With<Regularization::kl>;
  using LogKl = typename L2::template With<Regularization::log_kl>;

  union Shared {
    cub::Uninitialized<SharedOf<L2>> l2;
    cub::Uninitialized<SharedOf<Kl>> kl;
    cub::Uninitialized<SharedOf<LogKl>> log_kl;
  };

  template <class Program>
  explicit AnyRegularization(const Program& program) : regularization_(Program::kRegularization) {
    new (&program_) Program(program);
  }

  template <class Run>
  __device__ void visit(const Run& run) const {
    switch (regularization_) {
      case Regularization::l2:
        return run(program_.l2);
      case Regularization::kl:
        return run(program_.kl);
      case Regularization::log_kl:
        return run(program_.log_kl);
    }
  }

 private:
  union OneOf {
    OneOf() {}
    L2 l2;
    Kl kl;
    LogKl log_kl;
  };

  Regularization regularization_;
  OneOf program_;
};

template <class Program, class = void>
struct ProgramsBeside {
  using Type = OneProgram<Program>;
};
template <class Program>
struct ProgramsBeside<Program, std::void_t<decltype(Program::kRegularization)>> {
  using Type = AnyRegularization<typename Program::template With<Regularization::l2>>;
};
template <class Program>
using ProgramsOf = typename ProgramsBeside<Program>::Type;

// A block takes one team's or row's share, from the first one on. In a loop over several the compiler
// would compute what is the same for all of them beforehand, and keep it in local memory.
//
// Half of the threads that a multiprocessor takes, or more, are resident.
template <class Programs>
__global__ void __launch_bounds__(kTileThreads, 2)
    team_kernel(std::int64_t first, const __grid_constant__ Programs programs) {
  TileTeam team;
  programs.visit([&](const auto& program) {
    using Own = SharedOf<std::decay_t<decltype(program)>>;
    program(team, *reinterpret_cast<Own*>(memory_of_block()), first + blockIdx.x);
  });
}

template <class Programs>
__global__ void __launch_bounds__(kWarpSize* kWarpsPerBlock, kTileBlocks)
    tile_kernel(std::int64_t tiles, const __grid_constant__ Programs programs,
                std::size_t tile_bytes) {
  static_assert(kTileRows == kWarpSize);
  const auto warps = static_cast<int>(blockDim.x / kWarpSize);
  const auto warp = static_cast<int>(threadIdx.x / kWarpSize);
  char* const memory = memory_of_block() + warp * tile_bytes;
  WarpTeam team;
  const std::int64_t stride = std::int64_t{gridDim.x} * warps;
  programs.visit([&](const auto& program) {
    for (std::int64_t k = std::int64_t{blockIdx.x} * warps + warp; k < tiles; k += stride) {
      program(team, k, memory);
    }
  });
}

template <bool kLessCode, class Programs>
__global__ void __launch_bounds__(1024)
    block_rows_kernel(std::int64_t first, const __grid_constant__ Programs programs) {
  BlockTeam<kLessCode> team;
  programs.visit(
      [&](const auto& program) { program(team, first + blockIdx.x, memory_of_block()); });
}

}  // namespace diffsort
