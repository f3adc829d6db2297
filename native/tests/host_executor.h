// The executor of the tests: the launches of parallel_row/dispatch.h as loops on the CPU.
//
// A team's memory is as long as was asked for, to the byte, and full of rubbish beforehand, so that
// the address sanitizer sees what goes beyond and a test what was never set.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#include "diffsort/parallel_row/double_buffer.h"
#include "diffsort/parallel_row/team.h"
#include "diffsort/parallel_row/tile.h"

namespace diffsort::testing {

constexpr unsigned char kRubbish = 0xab;

// A team whose sort scribbles over its scratch.
class ScratchTeam : public HostTeam {
 public:
  ScratchTeam(Order order, void* scratch, std::size_t bytes)
      : HostTeam(order), scratch_(scratch), bytes_(bytes) {}

  template <class Key, class Index>
  void sort(std::int64_t n, int bits, Key* keys, Index* index) {
    std::memset(scratch_, kRubbish, bytes_);
    HostTeam::sort(n, bits, keys, index);
  }

 private:
  void* scratch_;
  std::size_t bytes_;
};

class HostExecutor {
 public:
  HostTeam::Order order = HostTeam::Order::shuffled;
  std::int64_t longest_short = kShortRow;  // longer rows do not go by tiles
  std::int64_t team_capacity = 8192;       // longer rows are not for one team
  std::int64_t chunk = std::int64_t{1} << 27;

  std::int64_t chunk_elements() const { return chunk; }

  template <class Program>
  bool fits_tile(const Program& program) const {
    return program.length() <= longest_short;
  }

  template <class Program>
  void for_each_tile(const char*, const Program& program) {
    std::vector<char> memory(program.bytes(), static_cast<char>(kRubbish));
    HostTeam team(order);
    HostTeam(order).for_each(program.tiles(),
                             [&](std::int64_t k) { program(team, k, memory.data()); });
  }

  template <class Program>
  bool fits(const Program& program) const {
    return program.length() <= team_capacity;
  }

  template <class Program>
  void for_each_row(const char*, std::int64_t rows, const Program& program) {
    const std::size_t sort_bytes =
        sizeof(typename Program::SortKey) * static_cast<std::size_t>(program.length()) + 40;
    std::vector<unsigned char> memory(program.bytes(sort_bytes), kRubbish);
    HostTeam(order).for_each(rows, [&](std::int64_t r) {
      ScratchTeam team(order, memory.data(), sort_bytes);
      program(team, r, memory.data(), sort_bytes);
    });
  }

  template <class Program>
  void for_each_team(const char*, std::int64_t count, const Program& program) {
    HostTeam(order).for_each(count, [&](std::int64_t k) {
      HostTeam team(order);
      program(team, k);
    });
  }

  template <class F>
  void for_each(const char*, std::int64_t count, const F& f) {
    HostTeam(order).for_each(count, f);
  }

  template <class F>
  void for_each_lanes(const char*, std::int64_t count, const F& f) {
    HostTeam(order).for_each_lanes(count, f);
  }

  template <class Key, class Value>
  std::size_t sort_bytes(std::int64_t count) {
    return static_cast<std::size_t>(count) + sizeof(Key);
  }

  // As many passes over the two buffers as a radix sort of 8 bits takes: the result lies in either.
  template <class Key, class Value>
  void sort(const char*, DoubleBuffer<Key>& keys, DoubleBuffer<Value>& values, std::int64_t count,
            int begin_bit, int end_bit, void* scratch, std::size_t scratch_bytes) {
    std::memset(scratch, kRubbish, scratch_bytes);
    for (int bit = begin_bit; bit < end_bit; bit += 8) {
      const int width = std::min(8, end_bit - bit);
      std::vector<std::int64_t> order(static_cast<std::size_t>(count));
      std::iota(order.begin(), order.end(), std::int64_t{0});
      const auto digit = [&](std::int64_t i) {
        return (keys.current[i] >> bit) & ((Key{1} << width) - 1);
      };
      std::stable_sort(order.begin(), order.end(),
                       [&](std::int64_t a, std::int64_t b) { return digit(a) < digit(b); });
      for (std::int64_t i = 0; i < count; ++i) {
        keys.other[i] = keys.current[order[static_cast<std::size_t>(i)]];
        values.other[i] = values.current[order[static_cast<std::size_t>(i)]];
      }
      std::swap(keys.current, keys.other);
      std::swap(values.current, values.other);
    }
  }
};

}  // namespace diffsort::testing
