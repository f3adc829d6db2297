// Teams of CUDA threads (see parallel_row/team.h): a block, and a warp for the shortest rows.
//
// Sorting: BlockTeam by cub::BlockRadixSort, kThreads x kItems elements at most, in `scratch`, which
// the row's own memory may overlap; WarpTeam by counting smaller keys, 32 elements at most.
// Reductions combine in an order that the sizes alone decide, so they repeat bit for bit.
#pragma once

#include <cstdint>
#include <cub/block/block_radix_sort.cuh>
#include <cub/block/block_reduce.cuh>
#include <cub/util_ptx.cuh>
#include <cub/warp/warp_reduce.cuh>

namespace diffsort {

constexpr int kWarpSize = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

struct WarpLanes {
  template <class Predicate>
  __device__ std::uint32_t ballot(const Predicate& predicate) const {
    return __ballot_sync(kAllLanes, predicate(static_cast<int>(threadIdx.x % kWarpSize)));
  }
};

class WarpTeam {
 public:
  static constexpr int kCapacity = kWarpSize;  // of sort

  template <class Key>
  static constexpr std::size_t sort_bytes() {
    return 0;
  }

  __device__ explicit WarpTeam(void* /*scratch*/) {}

  template <class F>
  __device__ void for_each(std::int64_t n, const F& f) {
    for (std::int64_t i = lane(); i < n; i += kWarpSize) f(i);
    __syncwarp();
  }

  template <class F>
  __device__ void for_each_lanes(std::int64_t n, const F& f) {
    for (std::int64_t k = 0; k < n; ++k) f(WarpLanes{}, k);
    __syncwarp();
  }

  template <class V, class Map, class Combine>
  __device__ V reduce(std::int64_t n, V identity, const Map& map, const Combine& combine) {
    using Reduce = cub::WarpReduce<V>;  // by shuffles: its storage is empty
    typename Reduce::TempStorage storage;
    V mine = identity;
    for (std::int64_t i = lane(); i < n; i += kWarpSize) mine = combine(mine, map(i));
    return cub::ShuffleIndex<kWarpSize>(Reduce(storage).Reduce(mine, combine), 0, kAllLanes);
  }

  template <class Key, class Index>
  __device__ void sort(std::int64_t n, int bits, Key* keys, Index* index) {
    const bool mine = lane() < n;
    const Key key = mine ? keys[lane()] : Key{0};
    const Key digits = bits < static_cast<int>(8 * sizeof(Key)) ? (Key{1} << bits) - 1 : ~Key{0};
    int rank = 0;
    for (int j = 0; j < static_cast<int>(n); ++j) {
      const Key other = __shfl_sync(kAllLanes, key, j) & digits;
      rank += other < (key & digits) || (other == (key & digits) && j < lane());
    }
    __syncwarp();
    if (mine) {
      keys[rank] = key;
      index[rank] = static_cast<Index>(lane());
    }
    __syncwarp();
  }

 private:
  __device__ static int lane() { return static_cast<int>(threadIdx.x % kWarpSize); }
};

// kItems: a power of two.
template <int kThreads, int kItems>
class BlockTeam {
  template <class Key, int kEach>
  using Sort = cub::BlockRadixSort<Key, kThreads, kEach, std::uint16_t>;

 public:
  static constexpr int kCapacity = kThreads * kItems;

  // The scratch of sort, at most.
  template <class Key>
  static constexpr std::size_t sort_bytes() {
    return sizeof(typename Sort<Key, kItems>::TempStorage);
  }

  __device__ explicit BlockTeam(void* scratch) : scratch_(scratch) {}

  template <class F>
  __device__ void for_each(std::int64_t n, const F& f) {
    for (std::int64_t i = threadIdx.x; i < n; i += kThreads) f(i);
    __syncthreads();
  }

  template <class F>
  __device__ void for_each_lanes(std::int64_t n, const F& f) {
    for (std::int64_t k = threadIdx.x / kWarpSize; k < n; k += kThreads / kWarpSize) {
      f(WarpLanes{}, k);
    }
    __syncthreads();
  }

  template <class V, class Map, class Combine>
  __device__ V reduce(std::int64_t n, V identity, const Map& map, const Combine& combine) {
    using Reduce = cub::BlockReduce<V, kThreads>;
    __shared__ typename Reduce::TempStorage storage;
    __shared__ typename cub::Uninitialized<V> result;
    V mine = identity;
    for (std::int64_t i = threadIdx.x; i < n; i += kThreads) mine = combine(mine, map(i));
    const V all = Reduce(storage).Reduce(mine, combine);
    if (threadIdx.x == 0) result.Alias() = all;
    __syncthreads();
    const V answer = result.Alias();
    __syncthreads();  // before the next reduction writes
    return answer;
  }

  template <class Key, class Index>
  __device__ void sort(std::int64_t n, int bits, Key* keys, Index* index) {
    sort_items<kItems>(static_cast<int>(n), bits, keys, index);
  }

 private:
  // As few items per thread as hold n elements.
  template <int kEach, class Key, class Index>
  __device__ void sort_items(int n, int bits, Key* keys, Index* index) {
    if constexpr (kEach > 1) {
      if (n <= kThreads * kEach / 2) return sort_items<kEach / 2>(n, bits, keys, index);
    }
    static_assert(sizeof(typename Sort<Key, kEach>::TempStorage) <= sort_bytes<Key>());
    sort_tile<kEach>(n, bits, keys, index, scratch_);
  }

  // What fills up a tile is largest and comes last, also among equals.
  template <int kEach, class Key, class Index>
  __device__ __noinline__ static void sort_tile(int n, int bits, Key* keys, Index* index,
                                                void* scratch) {
    using Tile = Sort<Key, kEach>;
    Key key[kEach];
    std::uint16_t from[kEach];
    for (int k = 0; k < kEach; ++k) {
      const int i = static_cast<int>(threadIdx.x) * kEach + k;
      key[k] = i < n ? keys[i] : ~Key{0};
      from[k] = static_cast<std::uint16_t>(i);
    }
    __syncthreads();
    Tile(*static_cast<typename Tile::TempStorage*>(scratch))
        .SortBlockedToStriped(key, from, 0, bits);
    for (int k = 0; k < kEach; ++k) {
      const int i = static_cast<int>(threadIdx.x) + k * kThreads;
      if (i < n) {
        keys[i] = key[k];
        index[i] = static_cast<Index>(from[k]);
      }
    }
    __syncthreads();
  }

  void* scratch_;
};

}  // namespace diffsort
