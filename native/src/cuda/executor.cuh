// How the CUDA library launches: on the caller's device and stream, every launch checked.
//
//     executor.fits_tile(program)              do the program's rows go by tiles?
//     executor.for_each_tile(name, program)    program(team, k, memory), 32 threads for each tile
//     executor.fits(program)                   can one team hold a row of the program's?
//     executor.for_each_row(name, rows, program)
//                                              program(team, row, memory), a team a row
//     executor.for_each_team(name, count, program)
//                                              program(team, shared, k), a team each, with a
//                                              Program::Shared that is all its own
//     executor.for_each(name, count, f)        f(i) for 0 <= i < count, in any order
//
// A program of tiles has `length()`, of its rows, `tiles()`, how many there are, and `bytes()`, the
// memory that each takes.
// A program of rows has `length()`, `place()`, which lays out the memory that a row takes, `bytes()` of
// it then, and `kLessCode`, where it need not be fast.
// A program that has `kRegularization` and `With<R>`, the same program of another regularization, shares
// its kernel with those.
// After a failed launch nothing more is launched, and status() says what failed.
// Counts are 64-bit; what is beyond the grids that the hardware takes goes round in a loop, or by
// further launches.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <new>
#include <type_traits>

#include "diffsort/cuda.h"
#include "diffsort/parallel_row/team_pointer.h"
#include "diffsort/parallel_row/tile.h"
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

class CudaExecutor {
 public:
  explicit CudaExecutor(const DiffsortCall& call, const char* function, std::int64_t rows,
                        std::int64_t n)
      : call_(call), function_(function), rows_(rows), n_(n) {
    int device = call.device;
    check("cudaGetDevice", cudaGetDevice(&previous_device_));
    if (ok() && device < 0) device = device_of_stream();
    if (ok() && device != previous_device_) {
      check("cudaSetDevice", cudaSetDevice(device));
      switched_ = ok();
    }
    if (ok()) {
      check(
          "cudaDeviceGetAttribute",
          cudaDeviceGetAttribute(&shared_bytes_, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    }
  }

  ~CudaExecutor() {
    if (switched_) cudaSetDevice(previous_device_);
  }

  CudaExecutor(const CudaExecutor&) = delete;
  CudaExecutor& operator=(const CudaExecutor&) = delete;

  bool ok() const { return status_ == cudaSuccess; }
  int status() const { return static_cast<int>(status_); }

  // How many elements a chunk of long rows has, unless it is one row.
  std::int64_t chunk_elements() const { return chunk_elements_; }

  // Makes chunks so small that needed() bytes are no more than what is given; false if one row needs more.
  template <class Needed>
  bool fit_chunks(std::size_t given, const Needed& needed) {
    while (needed() > given) {
      if (chunk_elements_ <= n_) return false;
      chunk_elements_ /= 2;
    }
    return true;
  }

  template <class Program>
  bool fits_tile(const Program& program) const {
    return program.length() <= kShortRow &&
           program.bytes() + kStaticBytes <= static_cast<std::size_t>(shared_bytes_);
  }

  // As many tiles to a block as need no more shared memory than every device gives.
  template <class Program>
  void for_each_tile(const char* name, const Program& program) {
    const std::size_t bytes = program.bytes();
    int warps = kWarpsPerBlock;
    while (warps > 1 && warps * bytes > kDefaultSharedBytes) warps /= 2;
    launch(name, tile_kernel<ProgramsOf<Program>>, blocks_for(program.tiles(), warps),
           warps * kWarpSize, warps * bytes, program.tiles(), ProgramsOf<Program>(program), bytes);
  }

  template <class Program>
  bool fits(const Program& program) const {
    return program.length() <= BlockTeam<Program::kLessCode>::kCapacity &&
           placed(program).bytes() + kStaticBytes <= static_cast<std::size_t>(shared_bytes_);
  }

  template <class Program>
  void for_each_row(const char* name, std::int64_t rows, const Program& program) {
    const Program ready = placed(program);
    for (std::int64_t first = 0; first < rows; first += kMaxBlocks) {
      launch(name, block_rows_kernel<Program::kLessCode, ProgramsOf<Program>>,
             std::min(rows - first, kMaxBlocks),
             BlockTeam<Program::kLessCode>::threads_for(program.length()), ready.bytes(), first,
             ProgramsOf<Program>(ready));
    }
  }

  template <class Program>
  void for_each_team(const char* name, std::int64_t count, const Program& program) {
    for (std::int64_t first = 0; first < count; first += kMaxBlocks) {
      launch(name, team_kernel<ProgramsOf<Program>>, std::min(count - first, kMaxBlocks),
             kTileThreads, shared_bytes<ProgramsOf<Program>>(), first,
             ProgramsOf<Program>(program));
    }
  }

  template <class F>
  void for_each(const char* name, std::int64_t count, const F& f) {
    launch(name, step_kernel<F>, blocks_for(count, kStepThreads), kStepThreads, 0, count, f);
  }

 private:
  static constexpr std::size_t kStaticBytes = 1024;  // at most, for reductions
  static constexpr std::int64_t kMaxBlocks = (std::int64_t{1} << 31) - 1;

  template <class Programs>
  static constexpr std::size_t shared_bytes() {
    using Shared = typename Programs::Shared;
    return std::is_empty_v<Shared> ? 0 : sizeof(Shared);
  }

  template <class Program>
  static Program placed(Program program) {
    program.place();
    return program;
  }

  // The device of the caller's stream, as far as the runtime tells, and else the current one.
  int device_of_stream() const {
    int device = previous_device_;
#if CUDART_VERSION >= 12080
    if (cudaStreamGetDevice(static_cast<cudaStream_t>(call_.stream), &device) != cudaSuccess) {
      cudaGetLastError();
      device = previous_device_;
    }
#endif
    return device;
  }

  static std::int64_t blocks_for(std::int64_t count, int per_block) {
    return std::min((count + per_block - 1) / per_block, kMaxBlocks);
  }

  template <class... Parameters, class... Arguments>
  void launch(const char* name, void (*kernel)(Parameters...), std::int64_t blocks, int threads,
              std::size_t shared, const Arguments&... arguments) {
    if (!ok() || blocks == 0) return;
    const void* function = reinterpret_cast<const void*>(kernel);
    // Beyond the default, which the kernel's static shared memory is part of, one has to ask. Always
    // for the same: what is set holds for all threads that launch this kernel.
    if (shared + kStaticBytes > kDefaultSharedBytes) {
      check(name, cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       shared_bytes_ - static_cast<int>(kStaticBytes)));
    }
    if (!ok()) return;
    void* pointers[] = {const_cast<void*>(static_cast<const void*>(&arguments))...};
    check(name, cudaLaunchKernel(function, dim3(static_cast<unsigned>(blocks)), dim3(threads),
                                 pointers, shared, static_cast<cudaStream_t>(call_.stream)));
  }

  void check(const char* what, cudaError_t status) {
    if (status == cudaSuccess || !ok()) return;
    status_ = status;
    cudaGetLastError();  // what failed here is reported here, and not left for the next caller
    if (call_.message == nullptr || call_.message_bytes == 0) return;
    std::snprintf(call_.message, call_.message_bytes, "%s: %s failed on %lld rows of %lld: %s",
                  function_, what, static_cast<long long>(rows_), static_cast<long long>(n_),
                  cudaGetErrorString(status));
  }

  static constexpr std::size_t kDefaultSharedBytes = 48 * 1024;

  const DiffsortCall& call_;
  const char* function_;
  std::int64_t rows_, n_;
  std::int64_t chunk_elements_ = std::int64_t{1} << 27;
  cudaError_t status_ = cudaSuccess;
  int previous_device_ = 0, shared_bytes_ = 0;
  bool switched_ = false;
};

}  // namespace diffsort
