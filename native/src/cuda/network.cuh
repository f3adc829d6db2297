// Batcher's bitonic network for the words of a warp or of a block, kWords to a thread: the first ones
// are thread 0's, and so on. What a thread has is sorted; then, again and again, two neighbouring runs
// of threads become one. Each word is exchanged with the one at its place from the other end, and
// then the runs are halved until they are a thread's.
//
// No step depends on the words, so none of them diverges, and five sixths of the words that threads
// exchange for n <= 2048 go through registers (shuffles), without a barrier.
#pragma once

#include <cstdint>

#include "diffsort/parallel_row/team/lane_words.h"
#include "diffsort/parallel_row/team/team_pointer.h"

namespace diffsort {

constexpr int kWarpSize = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

__device__ inline void exchange(std::uint32_t& a, std::uint32_t& b) {
  const std::uint32_t least = min(a, b);
  b = max(a, b);
  a = least;
}

// A thread's own words, by Batcher's odd-even merges (Knuth, The Art of Computer Programming 3,
// algorithm 5.2.2M).
template <int kWords>
__device__ inline void sort_own(std::uint32_t (&word)[kWords]) {
#pragma unroll
  for (int run = 1; run < kWords; run *= 2) {
#pragma unroll
    for (int step = run; step > 0; step /= 2) {
#pragma unroll
      for (int i = step % run; i + step < kWords; ++i) {
        const bool lower = (i - step % run) / step % 2 == 0;
        if (lower && i / (2 * run) == (i + step) / (2 * run)) exchange(word[i], word[i + step]);
      }
    }
  }
}

template <int kWords>
__device__ inline void halve_own(std::uint32_t (&word)[kWords]) {
#pragma unroll
  for (int step = kWords / 2; step > 0; step /= 2) {
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      if ((i & step) == 0) exchange(word[i], word[i + step]);
    }
  }
}

// With the words of another thread: what is less stays, or what is not.
template <bool kBackwards, int kWords>
__device__ inline void keep(std::uint32_t (&word)[kWords], const std::uint32_t (&other)[kWords],
                            bool keeps_less) {
#pragma unroll
  for (int k = 0; k < kWords; ++k) {
    const std::uint32_t partner = other[kBackwards ? kWords - 1 - k : k];
    word[k] = keeps_less ? min(word[k], partner) : max(word[k], partner);
  }
}

// With the lane whose number differs in these bits; of the two, that without `upper` keeps what is less.
template <bool kBackwards, int kWords>
__device__ inline void exchange_lanes(std::uint32_t (&word)[kWords], int bits, int upper) {
  std::uint32_t other[kWords];
#pragma unroll
  for (int k = 0; k < kWords; ++k) other[k] = __shfl_xor_sync(kAllLanes, word[k], bits);
  keep<kBackwards>(word, other, (static_cast<int>(threadIdx.x) & upper) == 0);
}

// Of all lanes.
template <int kWords>
__device__ inline void sort_lanes(std::uint32_t (&word)[kWords]) {
  sort_own(word);
#pragma unroll
  for (int run = 1; run < kWarpSize; run *= 2) {
    exchange_lanes<true>(word, 2 * run - 1, run);
#pragma unroll
    for (int step = run / 2; step > 0; step /= 2) exchange_lanes<false>(word, step, step);
    halve_own(word);
  }
}

// Sorts n words in shared memory by the threads of a block, with room_to_sort(n) aligned to 16 bytes.
class BlockNetwork {
 public:
  static constexpr int kWords = kSortedByThread;

  __device__ __noinline__ static void sort(int n, TeamPointer<std::uint32_t> words) {
    const BlockNetwork network(n, words);
    std::uint32_t word[kWords];
    network.load(static_cast<int>(threadIdx.x), word);
#pragma unroll
    for (int k = 0; k < kWords; ++k) {
      // What fills up the last thread's stays there: it is the largest.
      if (network.first() + k >= n) word[k] = ~std::uint32_t{0};
    }
    sort_own(word);
#pragma unroll 1
    for (int run = 1; run * kWords < n; run *= 2) {
      network.exchange_threads<true>(word, 2 * run - 1, run);
#pragma unroll 1
      for (int step = run / 2; step > 0; step /= 2) {
        network.exchange_threads<false>(word, step, step);
      }
      halve_own(word);
    }
    network.store(word);
    __syncthreads();
  }

 private:
  __device__ BlockNetwork(int n, std::uint32_t* words)
      : n_(n), words_(reinterpret_cast<uint4*>(words)) {}

  __device__ static int first() { return static_cast<int>(threadIdx.x) * kWords; }

  static_assert(kWords == 8);
  __device__ void load(int thread, std::uint32_t (&word)[kWords]) const {
    uint4 low = {~0u, ~0u, ~0u, ~0u}, high = low;
    if (thread * kWords < n_) {
      low = words_[2 * thread];
      high = words_[2 * thread + 1];
    }
    word[0] = low.x, word[1] = low.y, word[2] = low.z, word[3] = low.w;
    word[4] = high.x, word[5] = high.y, word[6] = high.z, word[7] = high.w;
  }
  __device__ void store(const std::uint32_t (&word)[kWords]) const {
    if (first() >= n_) return;
    words_[2 * threadIdx.x] = {word[0], word[1], word[2], word[3]};
    words_[2 * threadIdx.x + 1] = {word[4], word[5], word[6], word[7]};
  }

  // As exchange_lanes, with a thread of another warp too.
  template <bool kBackwards>
  __device__ void exchange_threads(std::uint32_t (&word)[kWords], int bits, int upper) const {
    if (bits < kWarpSize) return exchange_lanes<kBackwards>(word, bits, upper);
    std::uint32_t other[kWords];
    store(word);
    __syncthreads();
    load(static_cast<int>(threadIdx.x) ^ bits, other);
    __syncthreads();
    keep<kBackwards>(word, other, (static_cast<int>(threadIdx.x) & upper) == 0);
  }

  int n_;
  TeamPointer<uint4> words_;
};

}  // namespace diffsort
