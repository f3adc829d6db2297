// The executor of the tests: the launches of parallel_row/projection_dispatch.h as loops on the CPU.
//
// A team's memory is as long as was asked for, to the byte, and full of rubbish beforehand, so that
// the address sanitizer sees what goes beyond and a test what was never set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "diffsort/parallel_row/short_rows/tile.h"
#include "diffsort/parallel_row/team/team.h"

namespace diffsort::testing {

constexpr unsigned char kRubbish = 0xab;

class HostExecutor {
 public:
  HostTeam::Order order = HostTeam::Order::shuffled;
  std::int64_t longest_short = kShortRow;  // longer rows do not go by tiles
  std::int64_t team_capacity = 8192;       // longer rows are not for one team
  std::int64_t chunk = std::int64_t{1} << 27;
  int launches = 0;

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
    Program placed = program;
    placed.place();
    std::vector<unsigned char> memory(placed.bytes(), kRubbish);
    HostTeam(order).for_each(rows, [&](std::int64_t r) {
      HostTeam team(order);
      placed(team, r, memory.data());
    });
  }

  template <class Program>
  void for_each_team(const char*, std::int64_t count, const Program& program) {
    using Shared = typename Program::Shared;
    ++launches;
    HostTeam(order).for_each(count, [&](std::int64_t k) {
      std::vector<unsigned char> memory(sizeof(Shared), kRubbish);
      HostTeam team(order);
      program(team, *reinterpret_cast<Shared*>(memory.data()), k);
    });
  }

  template <class F>
  void for_each(const char*, std::int64_t count, const F& f) {
    ++launches;
    HostTeam(order).for_each(count, f);
  }
};

}  // namespace diffsort::testing
