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
// After a failed launch nothing more is launched, and status() says what failed.
// Counts are 64-bit; what is beyond the grids that the hardware takes goes round in a loop, or by
// further launches.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <type_traits>

#include "diffsort/cuda.h"
#include "diffsort/parallel_row/short_rows/tile.h"
#include "kernels.cuh"
#include "teams.cuh"

namespace diffsort {

class CudaExecutor {
 public:
  explicit CudaExecutor(const DiffsortCall& call, const char* function, std::int64_t rows,
                        std::int64_t n)
      : call_(call), function_(function), rows_(rows), n_(n) {
    check("cudaGetDevice", cudaGetDevice(&previous_device_));
    if (!ok()) return;
    device_ = call.device < 0 ? device_of_stream() : call.device;
    check("cudaDeviceGetAttribute",
          cudaDeviceGetAttribute(&shared_bytes_, cudaDevAttrMaxSharedMemoryPerBlockOptin, device_));
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

  // Makes the call's device the current one until it ends. Only to launch: where the thread has used no
  // device yet, to make it current, or the former one again, is to create its context.
  void switch_device() {
    if (!ok() || switched_ || device_ == previous_device_) return;
    check("cudaSetDevice", cudaSetDevice(device_));
    switched_ = ok();
  }

  static std::int64_t blocks_for(std::int64_t count, int per_block) {
    return std::min((count + per_block - 1) / per_block, kMaxBlocks);
  }

  template <class... Parameters, class... Arguments>
  void launch(const char* name, void (*kernel)(Parameters...), std::int64_t blocks, int threads,
              std::size_t shared, const Arguments&... arguments) {
    if (blocks == 0) return;
    switch_device();
    if (!ok()) return;
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
  int previous_device_ = 0, device_ = 0, shared_bytes_ = 0;
  bool switched_ = false;
};

}  // namespace diffsort
