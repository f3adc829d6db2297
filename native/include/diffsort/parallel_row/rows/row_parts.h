// Long rows in parts, so that many teams work on few rows and one team on each of many.
//
// A team takes a part tile by tile: what it holds at a time. Cutting depends on shapes alone, so
// what is summed up part by part is the same in every run.
#pragma once

#include <algorithm>
#include <cstdint>

#include "diffsort/host_device.h"

namespace diffsort {

// Elements that a team of the long rows holds at a time.
constexpr std::int64_t kTile = 4096;

// How many teams are worth keeping busy, whatever the device, and in how many parts a row is cut at
// most: each of its teams looks at what all of them have counted.
constexpr std::int64_t kTeamsOfDevice = 1024, kMostParts = 256;

struct RowParts {
  std::int64_t n, length, count;  // of a row; of a part, but for the last one; of parts

  RowParts(std::int64_t rows, std::int64_t n) : n(n) {
    const std::int64_t tiles = (n + kTile - 1) / kTile;
    const std::int64_t wanted = std::clamp(kTeamsOfDevice / rows, std::int64_t{1}, kMostParts);
    length = (tiles + wanted - 1) / wanted * kTile;
    count = (n + length - 1) / length;
  }
};

// How many rows a chunk of some `elements` has: at least one, and at most all.
inline std::int64_t rows_per_chunk(std::int64_t elements, std::int64_t rows, std::int64_t n) {
  return std::clamp(elements / n, std::int64_t{1}, rows);
}

// The k-th part of all rows, which stand one after another; both numbers are below 2^31.
struct Part {
  std::int64_t row, index, first, last;  // of the row's elements [first, last)

  DIFFSORT_HD Part(const RowParts& parts, std::int64_t k) {
    const auto quotient = static_cast<std::uint32_t>(k) / static_cast<std::uint32_t>(parts.count);
    row = quotient;
    index = k - row * parts.count;
    first = index * parts.length;
    last = first + parts.length < parts.n ? first + parts.length : parts.n;
  }

  DIFFSORT_HD std::int64_t size() const { return last - first; }
};

}  // namespace diffsort
