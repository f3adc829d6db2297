// Teams of CUDA threads (see parallel_row/team.h): a block for a row, a block for a part of a long
// row, and a warp for a tile of short rows, which has no need to sort or reduce together.
//
// Sorting: BlockTeam by cub::BlockRadixSort in `scratch`, which the row's own memory may overlap;
// TileTeam splits tiles by cub::BlockRadixRankMatch. Reductions combine in an order that the sizes
// alone decide, so they repeat bit for bit.
// Code size: one kernel serves blocks of every size, because a program that is compiled once for
// each is too large for the instruction caches and for the library; only sorts know their sizes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cub/block/block_radix_rank.cuh>
#include <cub/block/block_radix_sort.cuh>
#include <cub/util_ptx.cuh>
#include <cub/util_type.cuh>
#include <cub/warp/warp_reduce.cuh>

#include "diffsort/parallel_row/keyed_place.h"
#include "diffsort/parallel_row/row_parts.h"

namespace diffsort {

constexpr int kWarpSize = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

__device__ inline int lane_of_thread() {
  return static_cast<int>(threadIdx.x % kWarpSize);
}

struct WarpLanes {
  template <class Predicate>
  __device__ std::uint32_t ballot(const Predicate& predicate) const {
    const bool vote = predicate(lane_of_thread());
    __syncwarp();  // what lanes have written, here too, is there for all of them after
    return __ballot_sync(kAllLanes, vote);
  }
};

// Of one value per lane, the same for all lanes.
template <class V, class Combine>
__device__ V reduce_warp(const V& mine, const Combine& combine) {
  using Reduce = cub::WarpReduce<V>;  // by shuffles: its storage is empty
  typename Reduce::TempStorage storage;
  return cub::ShuffleIndex<kWarpSize>(Reduce(storage).Reduce(mine, combine), 0, kAllLanes);
}

class WarpTeam {
 public:
  template <class F>
  __device__ void for_each(int n, const F& f) {
#pragma unroll 1
    for (int i = lane_of_thread(); i < n; i += kWarpSize) f(i);
    __syncwarp();
  }
};

// Sorts n <= kThreads * kItems elements by the threads of a block.
template <int kThreads, int kItems>
struct SortTile {
  static constexpr int threads = kThreads;

  template <class Key>
  using Sort = cub::BlockRadixSort<Key, kThreads, kItems, std::uint16_t>;

  template <class Key>
  static constexpr std::size_t bytes() {
    return sizeof(typename Sort<Key>::TempStorage);
  }

  // What fills up a tile is largest and comes last, also among equals.
  template <class Key, class Index>
  __device__ __noinline__ static void sort(int n, int bits, Key* keys, Index* index,
                                           void* scratch) {
    Key key[kItems];
    std::uint16_t from[kItems];
    for (int k = 0; k < kItems; ++k) {
      const int i = static_cast<int>(threadIdx.x) * kItems + k;
      key[k] = i < n ? keys[i] : ~Key{0};
      from[k] = static_cast<std::uint16_t>(i);
    }
    __syncthreads();
    Sort<Key>(*static_cast<typename Sort<Key>::TempStorage*>(scratch))
        .SortBlockedToStriped(key, from, 0, bits);
    for (int k = 0; k < kItems; ++k) {
      const int i = static_cast<int>(threadIdx.x) + k * kThreads;
      if (i < n) {
        keys[i] = key[k];
        index[i] = static_cast<Index>(from[k]);
      }
    }
    __syncthreads();
  }
};

// visit(the tile for n elements); at most 64 registers per thread let half the threads that a
// multiprocessor takes, or more, sort at once.
template <class Visit>
constexpr auto visit_tile(std::int64_t n, const Visit& visit) {
  if (n <= 128) return visit(SortTile<128, 1>{});
  if (n <= 256) return visit(SortTile<128, 2>{});
  if (n <= 512) return visit(SortTile<128, 4>{});
  if (n <= 1024) return visit(SortTile<256, 4>{});
  if (n <= 2048) return visit(SortTile<256, 8>{});
  if (n <= 4096) return visit(SortTile<512, 8>{});
  return visit(SortTile<1024, 8>{});
}

// Rows of at most kCapacity elements, by a block of any size; to sort n elements, of threads_for(n).
class BlockTeam {
 public:
  static constexpr std::int64_t kCapacity = 8192;

  static int threads_for(std::int64_t n) {
    return visit_tile(n, [](auto tile) { return tile.threads; });
  }

  // The scratch of a sort of n keys.
  template <class Key>
  static std::size_t sort_bytes(std::int64_t n) {
    return visit_tile(n, [](auto tile) { return tile.template bytes<Key>(); });
  }

  __device__ explicit BlockTeam(void* scratch) : scratch_(scratch) {}

  template <class F>
  __device__ void for_each(std::int64_t n, const F& f) {
#pragma unroll 1
    for (std::int64_t i = threadIdx.x; i < n; i += blockDim.x) f(i);
    __syncthreads();
  }

  template <class F>
  __device__ void for_each_lanes(std::int64_t n, const F& f) {
#pragma unroll 1
    for (std::int64_t k = threadIdx.x / kWarpSize; k < n; k += blockDim.x / kWarpSize) {
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

  template <class Key, class Index>
  __device__ void sort(std::int64_t n, int bits, Key* keys, Index* index) {
    visit_tile(n, [&](auto tile) { tile.sort(static_cast<int>(n), bits, keys, index, scratch_); });
  }

 protected:
  template <class V, class Combine>
  __device__ static V combine_threads(V mine, const Combine& combine) {
    __shared__ cub::Uninitialized<V> of_warps[kWarpSize];
    mine = reduce_warp(mine, combine);
    if (lane_of_thread() == 0) of_warps[threadIdx.x / kWarpSize].Alias() = mine;
    __syncthreads();
    V all = of_warps[0].Alias();
#pragma unroll 1
    for (unsigned k = 1; k < blockDim.x / kWarpSize; ++k) all = combine(all, of_warps[k].Alias());
    __syncthreads();  // before the next reduction writes
    return all;
  }

 private:
  void* scratch_;
};

constexpr int kTileThreads = 512;

// A part of a long row, in global memory: what waits for it asks for several elements at once.
class TileTeam : public BlockTeam {
 public:
  __device__ TileTeam() : BlockTeam(nullptr) {}

  template <class Load, class Use>
  __device__ void stream(std::int64_t n, const Load& load, const Use& use) {
    using V = decltype(load(n));
    for (std::int64_t first = threadIdx.x; first < n; first += kAtOnce * kTileThreads) {
      V loaded[kAtOnce];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        const std::int64_t i = first + k * kTileThreads;
        loaded[k] = i < n ? load(i) : V{};
      }
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        const std::int64_t i = first + k * kTileThreads;
        if (i < n) use(i, loaded[k]);
      }
    }
    __syncthreads();
  }

  template <class V, class Map, class Combine>
  __device__ V reduce(std::int64_t n, V identity, const Map& map, const Combine& combine) {
    V mine = identity;
#pragma unroll 8
    for (std::int64_t i = threadIdx.x; i < n; i += kTileThreads) mine = combine(mine, map(i));
    return combine_threads(mine, combine);
  }

  // Nobody has several elements to ask for.
  template <class V, class Map, class Combine>
  __device__ V reduce_few(std::int64_t n, V identity, const Map& map, const Combine& combine) {
    return BlockTeam::reduce(n, identity, map, combine);
  }

  // Ranks by digit in registers, and brings elements into order by shared memory.
  template <int kDigitBits, class Key, class Load, class Digit, class Begin, class Write>
  __device__ void split(int n, const Load& load, const Digit& digit, const Begin& begin,
                        const Write& write) {
    using Rank = cub::BlockRadixRankMatch<kTileThreads, kDigitBits, false>;
    constexpr int kDigits = 1 << kDigitBits;
    static_assert(kDigits <= kTileThreads);
    __shared__ union {
      typename Rank::TempStorage rank;
      Key keys[kTile];
      std::uint32_t places[kTile];
    } shared;
    const int thread = static_cast<int>(threadIdx.x);

    // Warps take neighbouring runs, in order, so that ranks are stable. What fills up a tile has the
    // largest digit and comes last.
    KeyedPlace<Key> element[kItems];
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
    for (int k = 0; k < kItems; ++k) shared.keys[rank[k]] = element[k].key;
    __syncthreads();
    KeyedPlace<Key> sorted[kItems];
#pragma unroll
    for (int k = 0; k < kItems; ++k) sorted[k].key = shared.keys[thread + k * kTileThreads];
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kItems; ++k) shared.places[rank[k]] = element[k].place;
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kItems; ++k) {
      const int p = thread + k * kTileThreads;
      sorted[k].place = shared.places[p];
      if (p < n) write(p, sorted[k]);
    }
    __syncthreads();
  }

 private:
  static constexpr int kAtOnce = 8, kItems = static_cast<int>(kTile / kTileThreads);

  struct Extract {
    __device__ std::uint32_t Digit(std::uint32_t digit) const { return digit; }
  };
};

}  // namespace diffsort
