// Teams: how one algorithm runs as a CUDA kernel and, in the tests, on the CPU.
//
// An algorithm for a row is a list of steps. A step calls a function for every index, in any order,
// and ends with a barrier; what one call writes no other call of the same step may read. The team
// decides what a step is: threads of a block with __syncthreads (BlockTeam), lanes of a warp with
// __syncwarp (WarpTeam), or a loop on the CPU (HostTeam), which runs in whatever order a test asks
// for, so that a dependence within a step shows as a wrong result.
//
// Branches around steps depend only on what is the same for all: arguments and results of reduce and any.
//
//     team.for_each(n, f)        f(i) for 0 <= i < n
//     team.any(n, p)             whether p(i) for any 0 <= i < n, of at most 32, by what was written in
//                                earlier steps
//     team.for_each_lanes(n, f)  f(lanes, k) for 0 <= k < n, on 32 lanes together
//     team.reduce(n, identity, map, combine)
//                                combine over map(i), the same for every thread and every run;
//                                combine is associative, but for rounding, and commutative
//     team.reduce_few(...)       the same, of about as many elements as threads
//     team.sort_words(n, words)  sorts words[0..n) ascending, of which no two are equal; there is room
//                                for room_to_sort(n) of them, aligned to 16 bytes
//     team.prefix_sums(n, value, sums)
//                                sums[i] = value(0) + ... + value(i - 1) for 0 <= i <= n, of integers
//     team.stream(n, load, use)  use(i, load(i)) for 0 <= i < n; what one call uses no other may load
//     team.hold(n, load)         load(i) for 0 <= i < n, each kept by one thread, or loaded again and
//                                again; of no more elements than the team sorts. Not a step: no barrier
//     team.any_held(held, p)     whether p(value) of any of them
//     team.reduce_held(held, identity, map, combine)
//                                reduce over map(value)
//     team.for_each_held(held, f)
//                                f(i, value); like the two above a step
//     team.split<bits>(n, load, digit, begin, write)
//                                the n <= kTile elements load(i), each a KeyedPlace, in the order
//                                of digit(key), stable: those of digit d < 2^bits, for every d, come
//                                at [first, last) where begin(d, first, last) says, and then write(p,
//                                element) is called for every position p
//     lanes.ballot(p)            bit l of the result is p(l), for l = 0..31; for the 32 lanes this is
//                                a barrier too: what one wrote before or in p, all may read after
//     lanes.for_each(f)          f(l) for l = 0..31, and a barrier
//     lanes.absorb_while(total, load, combine, holds)
//                                total = combine(total, load(l)) for l = 0, 1, ... as long as
//                                holds(total, load(l)); how many l those were. combine is associative:
//                                lanes find all totals together
//     lanes.each<V>()            v[l] is a V of lane l's own
//     lanes.sort(words)          of an each<LaneWords<4>>, the words of all lanes ascending: the first four are
//                                lane 0's then, and so on
//     lanes.gather<how>(some, same, value, use)
//                                use(l, value(l)) for the lanes l of `some`; of those that are in
//                                `same` too one may stand for all, with their combined LaneWords
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "diffsort/arithmetic.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/team/keyed_place.h"
#include "diffsort/parallel_row/team/lane_words.h"

namespace diffsort {

// One thread that does the work of 32 lanes: for pieces too small to share.
struct SerialLanes {
  template <class Predicate>
  DIFFSORT_HD std::uint32_t ballot(const Predicate& predicate) const {
    std::uint32_t mask = 0;
    for (int lane = 0; lane < 32; ++lane) {
      mask |= predicate(lane) ? std::uint32_t{1} << lane : std::uint32_t{0};
    }
    return mask;
  }

  template <class F>
  DIFFSORT_HD void for_each(const F& f) const {
    for (int lane = 0; lane < 32; ++lane) f(lane);
  }

  template <class V, class Load, class Combine, class Holds>
  DIFFSORT_HD int absorb_while(V& total, const Load& load, const Combine& combine,
                               const Holds& holds) const {
    for (int lane = 0; lane < 32; ++lane) {
      const V next = load(lane);
      if (!holds(total, next)) return lane;
      total = combine(total, next);
    }
    return 32;
  }

  template <class V>
  struct Each {
    V of[32];
    DIFFSORT_HD V& operator[](int lane) { return of[lane]; }
  };
  template <class V>
  DIFFSORT_HD Each<V> each() const {
    return {};
  }

  DIFFSORT_HD void sort(Each<LaneWords<4>>& words) const {
    std::uint32_t* const first = words.of[0].word;
    for (int end = 1; end < 128; ++end) {
      const std::uint32_t word = first[end];
      int to = end;
      for (; to > 0 && first[to - 1] > word; --to) first[to] = first[to - 1];
      first[to] = word;
    }
  }

  template <Gather kHow, class Value, class Use>
  DIFFSORT_HD void gather(std::uint32_t some, std::uint32_t same, const Value& value,
                          const Use& use) const {
    decltype(value(0)) gathered{};
    for (int lane = 0; lane < 32; ++lane) {
      if (!has_lane(some, lane)) continue;
      const auto own = value(lane);
      if (!has_lane(same, lane)) {
        use(lane, own);
        continue;
      }
      int k = 0;
      for (auto& word : gathered.word) word = gather_words<kHow>(word, own.word[k++]);
    }
    if ((some & same) != 0) use(lowest_bit(some & same), gathered);
  }
};

// One thread with a short row of its own.
struct SerialTeam {
  template <class F>
  DIFFSORT_HD void for_each(int n, const F& f) const {
    DIFFSORT_UNROLLED_BY(2)
    for (int i = 0; i < n; ++i) f(i);
  }

  template <class V, class Map, class Combine>
  DIFFSORT_HD V reduce(int n, V identity, const Map& map, const Combine& combine) const {
    V result = identity;
    DIFFSORT_UNROLLED_BY(2)
    for (int i = 0; i < n; ++i) result = combine(result, map(i));
    return result;
  }
};

#ifndef __CUDA_ARCH__

// The team of the tests: one thread that takes the calls of a step in a given order.
class HostTeam {
 public:
  enum class Order { forward, backward, shuffled };

  explicit HostTeam(Order order = Order::shuffled, std::uint64_t seed = 1)
      : order_(order), state_(seed) {}

  template <class F>
  void for_each(std::int64_t n, const F& f) {
    std::vector<std::int64_t> indices(static_cast<std::size_t>(n));
    std::iota(indices.begin(), indices.end(), std::int64_t{0});
    arrange(indices);
    for (const std::int64_t i : indices) f(i);
  }

  template <class Predicate>
  bool any(std::int64_t n, const Predicate& predicate) {
    bool found = false;
    for_each(n, [&](std::int64_t i) { found = predicate(static_cast<int>(i)) || found; });
    return found;
  }

  template <class F>
  void for_each_lanes(std::int64_t n, const F& f) {
    for_each(n, [&](std::int64_t k) { f(SerialLanes{}, k); });
  }

  template <class V, class Map, class Combine>
  V reduce(std::int64_t n, V identity, const Map& map, const Combine& combine) {
    V result = identity;
    for (std::int64_t i = 0; i < n; ++i) result = combine(result, map(i));
    return result;
  }

  template <class V, class Map, class Combine>
  V reduce_few(std::int64_t n, V identity, const Map& map, const Combine& combine) {
    return reduce(n, identity, map, combine);
  }

  template <class Value>
  void prefix_sums(std::int64_t n, const Value& value, std::int64_t* sums) {
    sums[0] = 0;
    for (std::int64_t i = 0; i < n; ++i)
      sums[i + 1] = sums[i] + value(static_cast<std::int32_t>(i));
  }

  // What fills up the room is the team's.
  void sort_words(std::int64_t n, std::uint32_t* words) {
    std::fill(words + n, words + room_to_sort(n), ~std::uint32_t{0});
    std::sort(words, words + n);
  }

  template <class Load, class Use>
  void stream(std::int64_t n, const Load& load, const Use& use) {
    for_each(n, [&](std::int64_t i) { use(i, load(i)); });
  }

  template <class Load>
  auto hold(int n, const Load& load) {
    std::vector<decltype(load(n))> held(static_cast<std::size_t>(n));
    for_each(
        n, [&](std::int64_t i) { held[static_cast<std::size_t>(i)] = load(static_cast<int>(i)); });
    return held;
  }

  template <class V, class Predicate>
  bool any_held(const std::vector<V>& held, const Predicate& predicate) {
    return std::any_of(held.begin(), held.end(), predicate);
  }

  template <class H, class V, class Map, class Combine>
  V reduce_held(const std::vector<H>& held, V identity, const Map& map, const Combine& combine) {
    return reduce(
        static_cast<std::int64_t>(held.size()), identity,
        [&](std::int64_t i) { return map(held[static_cast<std::size_t>(i)]); }, combine);
  }

  template <class V, class F>
  void for_each_held(const std::vector<V>& held, const F& f) {
    for_each(static_cast<std::int64_t>(held.size()),
             [&](std::int64_t i) { f(static_cast<int>(i), held[static_cast<std::size_t>(i)]); });
  }

  template <int kDigitBits, class Load, class Digit, class Begin, class Write>
  void split(int n, const Load& load, const Digit& digit, const Begin& begin, const Write& write) {
    std::vector<KeyedPlace> elements(static_cast<std::size_t>(n));
    for_each(n, [&](std::int64_t i) {
      elements[static_cast<std::size_t>(i)] = load(static_cast<int>(i));
    });
    std::stable_sort(elements.begin(), elements.end(),
                     [&](const auto& a, const auto& b) { return digit(a.key) < digit(b.key); });
    std::vector<int> first((std::size_t{1} << kDigitBits) + 1);
    for (const KeyedPlace& element : elements) ++first[digit(element.key) + 1];
    std::partial_sum(first.begin(), first.end(), first.begin());
    for_each(std::int64_t{1} << kDigitBits, [&](std::int64_t d) {
      const int* const of_digit = first.data() + d;
      begin(static_cast<std::uint32_t>(d), of_digit[0], of_digit[1]);
    });
    for_each(n, [&](std::int64_t p) {
      write(static_cast<int>(p), elements[static_cast<std::size_t>(p)]);
    });
  }

 private:
  void arrange(std::vector<std::int64_t>& indices) {
    if (order_ == Order::backward) std::reverse(indices.begin(), indices.end());
    if (order_ != Order::shuffled) return;
    for (std::size_t i = indices.size(); i > 1; --i) {
      state_ = state_ * 6364136223846793005u + 1442695040888963407u;
      std::swap(indices[i - 1], indices[(state_ >> 33) % i]);
    }
  }

  Order order_;
  std::uint64_t state_;
};

#endif

}  // namespace diffsort
