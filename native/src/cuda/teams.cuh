// Teams of CUDA threads (see parallel_row/team/team.h): a block for a row, a block for a part of a long
// row, and a warp for a tile of short rows, which has no need to sort or reduce together.
//
// Sorting: BlockTeam by the network of network.cuh; TileTeam splits tiles by cub::BlockRadixRankMatch.
// Reductions combine in an order that the sizes alone decide, so they repeat bit for bit.
// Code size: one kernel serves blocks of every size, because a program that is compiled once for
// each is too large for the instruction caches and for the library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cub/block/block_radix_rank.cuh>
#include <cub/util_ptx.cuh>
#include <cub/util_type.cuh>
#include <utility>

#include "diffsort/parallel_row/rows/row_parts.h"
#include "diffsort/parallel_row/team/keyed_place.h"
#include "diffsort/parallel_row/team/lane_words.h"
#include "network.cuh"

namespace diffsort {

__device__ inline int lane_of_thread() {
  return static_cast<int>(threadIdx.x % kWarpSize);
}

// Of all lanes, for all lanes.
template <Gather kHow>
__device__ inline std::uint32_t gather_lanes(std::uint32_t word) {
#if __CUDA_ARCH__ >= 800
  return kHow == Gather::sum ? __reduce_add_sync(kAllLanes, word)
                             : __reduce_max_sync(kAllLanes, word);
#else
#pragma unroll 1
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
    word = gather_words<kHow>(word, __shfl_xor_sync(kAllLanes, word, distance));
  }
  return word;
#endif
}

class WarpLanes {
 public:
  template <class Predicate>
  __device__ std::uint32_t ballot(const Predicate& predicate) const {
    const bool vote = predicate(lane_of_thread());
    __syncwarp();  // what lanes have written, here too, is there for all of them after
    return __ballot_sync(kAllLanes, vote);
  }

  template <class F>
  __device__ void for_each(const F& f) const {
    f(lane_of_thread());
    __syncwarp();
  }

  // By a scan: lane l combines those before and its own, and then all of these with the total.
  template <class V, class Load, class Combine, class Holds>
  __device__ int absorb_while(V& total, const Load& load, const Combine& combine,
                              const Holds& holds) const {
    const int lane = lane_of_thread();
    const V mine = load(lane);
    __syncwarp();  // what is written after has been read
    V all = mine;
#pragma unroll 1
    for (int step = 1; step < kWarpSize; step *= 2) {
      const V before = cub::ShuffleUp<kWarpSize>(all, step, 0, kAllLanes);
      if (lane >= step) all = combine(before, all);
    }
    all = combine(total, all);
    V before = cub::ShuffleUp<kWarpSize>(all, 1, 0, kAllLanes);
    if (lane == 0) before = total;
    const std::uint32_t stays = __ballot_sync(kAllLanes, !holds(before, mine));
    const int count = stays == 0 ? kWarpSize : lowest_bit(stays);
    if (count > 0) total = cub::ShuffleIndex<kWarpSize>(all, count - 1, kAllLanes);
    return count;
  }

  template <class V>
  __device__ OwnValue<V> each() const {
    return {};
  }

  __device__ void sort(OwnValue<LaneWords<4>>& words) const { sort_lanes(words.own.word); }

  template <Gather kHow, class Value, class Use>
  __device__ void gather(std::uint32_t some, std::uint32_t same, const Value& value,
                         const Use& use) const {
    const int lane = lane_of_thread();
    decltype(value(lane)) own{};
    if (has_lane(some, lane)) own = value(lane);
    same &= some;
    if (worth_gathering(same)) {
      for (auto& word : own.word) {
        const std::uint32_t all = gather_lanes<kHow>(has_lane(same, lane) ? word : 0);
        if (has_lane(same, lane)) word = all;
      }
      some &= ~(same & (same - 1));
    }
    if (has_lane(some, lane)) use(lane, own);
  }
};

// What two lanes have together, the same for both.
template <class V, class Combine>
__device__ V combine_lanes(const V& mine, int distance, const Combine& combine) {
  const int partner = lane_of_thread() ^ distance;
  return combine(mine, cub::ShuffleIndex<kWarpSize>(mine, partner, kAllLanes));
}

class WarpTeam {
 public:
  template <class F>
  __device__ void for_each(int n, const F& f) {
#pragma unroll 1
    for (int i = lane_of_thread(); i < n; i += kWarpSize) f(i);
    __syncwarp();
  }

  template <class Predicate>
  __device__ bool any(int n, const Predicate& predicate) {
    const int i = lane_of_thread();
    return __ballot_sync(kAllLanes, i < n && predicate(i)) != 0;
  }
};

constexpr int kMostHeld = kSortedByThread;  // elements that a thread holds, or sorts

// What a thread has of n elements, in registers: at most kMostHeld, each blockDim.x behind the one before.
template <class Load>
class Held {
 public:
  // Without a branch for each, so that all are asked for before the first is there.
  __device__ Held(int n, const Load& load) : n_(n) {
#pragma unroll
    for (int k = 0; k < kMostHeld; ++k) {
      if (is_half(k)) return;
      values_[k] = load(min(index(k), n - 1));
    }
  }

  template <class F>
  __device__ void for_each(const F& f) const {
    visit(values_, f);
  }

 private:
  using V = decltype(std::declval<Load>()(0));

  template <class Values, class F>
  __device__ void visit(Values& values, const F& f) const {
#pragma unroll
    for (int k = 0; k < kMostHeld; ++k) {
      if (is_half(k)) return;
      const int i = index(k);
      if (i < n_) f(i, values[k]);
    }
  }

  __device__ static int index(int k) { return static_cast<int>(threadIdx.x + k * blockDim.x); }
  // Asked in the middle: whether the row has no elements from k on, which spares rows of up to half the
  // capacity of the block the rest.
  __device__ bool is_half(int k) const {
    return k == kMostHeld / 2 && n_ <= k * static_cast<int>(blockDim.x);
  }

  int n_;
  V values_[kMostHeld];
};

// The same elements, asked for whenever they are wanted, which takes less code.
template <class Load>
struct LoadedAgain {
  int n;
  Load load;

  template <class F>
  __device__ void for_each(const F& f) const {
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) {
      f(i, load(i));
    }
  }
};

// Rows of at most kCapacity elements, by a block of any size; to sort or to hold n elements, of
// threads_for(n).
template <bool kLessCode>
class BlockTeam {
 public:
  static constexpr std::int64_t kCapacity = 8192;

  // Few threads with several elements each: what every thread has to do for its row, and steps that
  // few of them have work in, cost less so.
  static int threads_for(std::int64_t n) {
    int threads = kWarpSize;
    while (threads * kMostHeld < n) threads *= 2;
    return threads;
  }

  template <class Count, class F>
  __device__ void for_each(Count n, const F& f) {
#pragma unroll 1
    for (Count i = threadIdx.x; i < n; i += blockDim.x) f(i);
    __syncthreads();
  }

  // Asks for several elements at once, without a branch for each.
  template <class Count, class Load, class Use>
  __device__ void stream(Count n, const Load& load, const Use& use) {
    constexpr int kAtOnce = 4;
    const Count step = blockDim.x;
#pragma unroll 1
    for (Count first = threadIdx.x; first < n; first += kAtOnce * step) {
      decltype(load(n)) loaded[kAtOnce];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        loaded[k] = load(first + k * step < n ? first + k * step : first);
      }
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        if (first + k * step < n) use(first + k * step, loaded[k]);
      }
    }
    __syncthreads();
  }

  template <class Load>
  __device__ auto hold(int n, const Load& load) {
    if constexpr (kLessCode) {
      return LoadedAgain<Load>{n, load};
    } else {
      return Held<Load>(n, load);
    }
  }

  template <class Held, class Predicate>
  __device__ bool any_held(const Held& held, const Predicate& predicate) {
    bool any = false;
    held.for_each([&](int, const auto& value) { any = any | predicate(value); });
    return __syncthreads_or(any ? 1 : 0) != 0;
  }

  template <class Held, class V, class Map, class Combine>
  __device__ V reduce_held(const Held& held, V identity, const Map& map, const Combine& combine) {
    V mine = identity;
    held.for_each([&](int, const auto& value) { mine = combine(mine, map(value)); });
    return combine_threads(mine, combine);
  }

  template <class Held, class F>
  __device__ void for_each_held(const Held& held, const F& f) {
    held.for_each(f);
    __syncthreads();
  }

  template <class Count, class F>
  __device__ void for_each_lanes(Count n, const F& f) {
#pragma unroll 1
    for (Count k = threadIdx.x / kWarpSize; k < n; k += blockDim.x / kWarpSize) {
      f(WarpLanes{}, k);
    }
    __syncthreads();
  }

  template <class V, class Map, class Combine>
  __device__ V reduce(std::int64_t n, V identity, const Map& map, const Combine& combine) {
    V mine = identity;
#pragma unroll 1
    for (std::int64_t i = threadIdx.x; i < n; i += blockDim.x) mine = combine(mine, map(i));
    return combine_threads(mine, combine);
  }

  // A warp sums up neighbouring runs, two elements to a lane, and adds what the warps before have.
  template <class Value>
  __device__ void prefix_sums(std::int64_t n, const Value& value, std::int64_t* sums) {
    std::int64_t* const totals = totals_of_warps();
    const int lane = lane_of_thread(), warp = static_cast<int>(threadIdx.x) / kWarpSize;
    const int warps = static_cast<int>(blockDim.x) / kWarpSize, size = static_cast<int>(n);
    constexpr int kRun = 2 * kWarpSize;
    const int runs = (size + kRun - 1) / kRun;
    const int share = (runs + warps - 1) / warps * kRun;
    const int first = warp * share, last = min(first + share, size);
    std::int64_t total = 0;
#pragma unroll 1
    for (int run = first; run < last; run += kRun) {
      const int i = run + 2 * lane;
      std::int64_t one = 0, other = 0;
#pragma unroll 1
      for (int k = 0; k < 2; ++k) {  // so that the code of value is there once
        one = other;
        other = i + k < last ? value(i + k) : 0;
      }
      std::int64_t sum = one + other;
#pragma unroll
      for (int step = 1; step < kWarpSize; step *= 2) {
        const std::int64_t before = __shfl_up_sync(kAllLanes, sum, step);
        if (lane >= step) sum += before;
      }
      sum += total;
      if (i < last) sums[i + 1] = sum - other;
      if (i + 1 < last) sums[i + 2] = sum;
      total = __shfl_sync(kAllLanes, sum, kWarpSize - 1);
    }
    if (lane == 0) totals[warp] = total;
    if (threadIdx.x == 0) sums[0] = 0;
    __syncthreads();
    std::int64_t before = 0;
#pragma unroll 1
    for (int k = 0; k < warp; ++k) before += totals[k];
#pragma unroll 4
    for (int i = first + lane; i < last; i += kWarpSize) sums[i + 1] += before;
    __syncthreads();
  }

  __device__ void sort_words(std::int64_t n, std::uint32_t* words) {
    BlockNetwork::sort(static_cast<int>(n), words);
  }

 protected:
  template <class V, class Combine>
  __device__ static V combine_threads(V mine, const Combine& combine) {
    __shared__ cub::Uninitialized<V> of_warps[kWarpSize];
#pragma unroll(kLessCode ? 1 : 5)
    for (int step = 1; step < kWarpSize; step *= 2) mine = combine_lanes(mine, step, combine);
    const int warps = static_cast<int>(blockDim.x / kWarpSize);  // a power of two
    if (warps > 1) {
      if (lane_of_thread() == 0) of_warps[threadIdx.x / kWarpSize].Alias() = mine;
      __syncthreads();
      mine = of_warps[lane_of_thread() & (warps - 1)].Alias();
#pragma unroll 1
      for (int step = 1; step < warps; step *= 2) mine = combine_lanes(mine, step, combine);
    }
    __syncthreads();  // before the next reduction writes
    return mine;
  }

 private:
  // Once, however many kinds of values are summed up.
  __device__ static std::int64_t* totals_of_warps() {
    __shared__ std::int64_t totals[kWarpSize];
    return totals;
  }
};

constexpr int kTileThreads = 512;

// A part of a long row, in global memory.
class TileTeam : public BlockTeam<true> {
 public:
  template <class V, class Map, class Combine>
  __device__ V reduce(std::int64_t n, V identity, const Map& map, const Combine& combine) {
    V mine = identity;
#pragma unroll 4
    for (std::int64_t i = threadIdx.x; i < n; i += kTileThreads) mine = combine(mine, map(i));
    return combine_threads(mine, combine);
  }

  // Nobody has several elements to ask for.
  template <class V, class Map, class Combine>
  __device__ V reduce_few(std::int64_t n, V identity, const Map& map, const Combine& combine) {
    return BlockTeam<true>::reduce(n, identity, map, combine);
  }

  // Ranks by digit in registers, and brings elements into order by shared memory.
  template <int kDigitBits, class Load, class Digit, class Begin, class Write>
  __device__ void split(int n, const Load& load, const Digit& digit, const Begin& begin,
                        const Write& write) {
    using Rank = cub::BlockRadixRankMatch<kTileThreads, kDigitBits, false>;
    constexpr int kDigits = 1 << kDigitBits;
    static_assert(kDigits <= kTileThreads);
    __shared__ union {
      typename Rank::TempStorage rank;
      KeyedPlace elements[kTile];
    } shared;
    const int thread = static_cast<int>(threadIdx.x);

    // Warps take neighbouring runs, in order, so that ranks are stable. What fills up a tile has the
    // largest digit and comes last.
    KeyedPlace element[kItems];
    std::uint32_t digits[kItems];
    const int first = thread / kWarpSize * kWarpSize * kItems + thread % kWarpSize;
#pragma unroll
    for (int k = 0; k < kItems; ++k) {
      const int i = first + k * kWarpSize;
      if (i < n) element[k] = load(i);
      digits[k] = i < n ? digit(element[k].key) : kDigits - 1;
    }
    int rank[kItems], prefix[1], size = 0;
    Rank(shared.rank).RankKeys(digits, rank, Extract{}, prefix, [&](int (&sizes)[1]) {
      size = sizes[0];
    });
    if (thread < kDigits) {
      const int end = prefix[0] + size;
      begin(static_cast<std::uint32_t>(thread), min(prefix[0], n), min(end, n));
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kItems; ++k) shared.elements[rank[k]] = element[k];
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kItems; ++k) {
      const int p = thread + k * kTileThreads;
      if (p < n) write(p, shared.elements[p]);
    }
    __syncthreads();
  }

 private:
  static constexpr int kItems = static_cast<int>(kTile / kTileThreads);

  struct Extract {
    __device__ std::uint32_t Digit(std::uint32_t digit) const { return digit; }
  };
};

}  // namespace diffsort
