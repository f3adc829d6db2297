// Which way derivatives go, the workspace they take, and the way of rows that no team holds: the
// steps of derivatives_row.h, each a launch over all rows of a chunk.
//
// The rows of a chunk are grouped by one sort: their starts are numbered from the chunk's first
// element on, so that no two rows share one.
//
// Launches: for each operand that is grouped a sort and 3 + log_32(chunk), then 1 + log_8(chunk)
// for every number of a block. Workspace: two keys and two indices per element, 16 bytes, and 1/8
// for the starts. One index lasts; the other three arrays take up the numbers of blocks when
// grouping is done, and the tree where it still fits (l2), else that is another 8/7 bytes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "diffsort/parallel_row/arena.h"
#include "diffsort/parallel_row/derivatives_row.h"
#include "diffsort/parallel_row/double_buffer.h"

namespace diffsort {

// An executor as a team of the whole device.
template <class Executor>
class DeviceSteps {
 public:
  DeviceSteps(Executor& executor, const char* name) : executor_(executor), name_(name) {}

  template <class F>
  void for_each(std::int64_t count, const F& f) {
    executor_.for_each(name_, count, f);
  }
  template <class F>
  void for_each_lanes(std::int64_t count, const F& f) {
    executor_.for_each_lanes(name_, count, f);
  }
  void sort(DoubleBuffer<std::uint32_t>& keys, DoubleBuffer<std::uint32_t>& values,
            std::int64_t count, int bits, void* scratch, std::size_t scratch_bytes) {
    executor_.sort(name_, keys, values, count, 0, bits, scratch, scratch_bytes);
  }

 private:
  Executor& executor_;
  const char* name_;
};

// As DerivativeMemory, for `rows` rows of n.
class LongDerivativeMemory {
 public:
  using Index = std::uint32_t;

  template <class Executor>
  LongDerivativeMemory(Arena& arena, Executor& executor, std::int64_t rows, std::int64_t n,
                       std::int64_t doubles)
      : size_((rows * n + 3) / 4 * 4), doubles_(doubles) {
    const std::int64_t nodes = tree_nodes(rows * n);
    memory_ = arena.take<Index>(4 * size_);
    if (8 * (doubles + nodes) > 12 * size_) own_tree_ = arena.take<double>(nodes);
    starts = arena.take<std::uint32_t>(StartBits::words(rows * n));
    states.strength = arena.take<double>(rows);
    states.dstrength = arena.take<double>(rows);
    states.invalid = arena.take<std::uint32_t>(rows);
    sort_bytes_ = executor.template sort_bytes<Index, Index>(rows * n);
    sort_scratch_ = arena.take<char>(static_cast<std::int64_t>(sort_bytes_));
  }

  // Index, key, key, index: whichever index the sort leaves its result in, the other three arrays
  // are neighbours.
  void begin_grouping() {
    keys_ = {memory_ + size_, memory_ + 2 * size_};
    index_ = {memory_, memory_ + 3 * size_};
  }
  Index* keys() const { return keys_.current; }
  Index* index() const { return index_.current; }

  template <class Steps>
  void sort(Steps& steps, std::int64_t count, int bits) {
    steps.sort(keys_, index_, count, std::max(bits, 1), sort_scratch_, sort_bytes_);
    Index* const free = index_.current == memory_ ? memory_ + size_ : memory_;
    numbers_ = reinterpret_cast<double*>(free);
    tree = own_tree_ != nullptr ? own_tree_ : numbers_ + doubles_;
  }
  double* numbers() const { return numbers_; }

  double* tree = nullptr;
  std::uint32_t* starts;
  RowStates states;

 private:
  std::int64_t size_, doubles_;
  Index* memory_;
  double *own_tree_ = nullptr, *numbers_ = nullptr;
  DoubleBuffer<Index> keys_, index_;
  void* sort_scratch_;
  std::size_t sort_bytes_;
};

// Rows of a chunk. The positions in a chunk are below 2^31.
template <class Executor, class Program>
std::int64_t derivative_chunk(Executor& executor, const Program& program) {
  return std::clamp(executor.chunk_elements() / program.length(), std::int64_t{1},
                    program.at.set.rows);
}

template <class Executor, class Program>
LongDerivativeMemory long_derivative_memory(Arena& arena, Executor& executor,
                                            const Program& program) {
  const std::int64_t rows = derivative_chunk(executor, program), n = program.length();
  return {arena, executor, rows, n, program.doubles(rows * n)};
}

// Depends on shapes and on what is wanted, never on numbers.
template <class Executor, class Program>
std::size_t derivative_workspace(Executor& executor, const Program& program) {
  if (program.at.set.rows == 0 || executor.fits(program)) return 0;
  Arena arena;
  long_derivative_memory(arena, executor, program);
  return arena.bytes();
}

template <class Executor, class Program>
void run_derivative(Executor& executor, const char* name, const Program& program, void* workspace) {
  const std::int64_t rows = program.at.set.rows;
  if (rows == 0) return;
  if (executor.fits(program)) return executor.for_each_row(name, rows, program);
  Arena arena(workspace);
  LongDerivativeMemory memory = long_derivative_memory(arena, executor, program);
  DeviceSteps<Executor> steps(executor, name);
  const std::int64_t chunk = derivative_chunk(executor, program);
  for (std::int64_t r = 0; r < rows; r += chunk) {
    program.run(steps, memory, r, std::min(chunk, rows - r));
  }
}

}  // namespace diffsort
