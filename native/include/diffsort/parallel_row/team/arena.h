// Pieces of one allocation, in the order in which they are asked for.
//
// The same function lays memory out twice: without memory, to learn how many bytes it takes, and
// with it, to get the pointers. Where all rows have theirs laid out alike, the host keeps the places
// (PlacingArena), and threads ask for them (PlacedArena): to find them is hundreds of instructions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "diffsort/host_device.h"

namespace diffsort {

class Arena {
 public:
  static constexpr std::size_t kAlignment = 16;

  DIFFSORT_HD explicit Arena(void* memory = nullptr) : memory_(static_cast<char*>(memory)) {}

  template <class V>
  DIFFSORT_HD V* take(std::int64_t count) {
    char* piece = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += static_cast<std::size_t>(count) * sizeof(V);
    used_ = (used_ + kAlignment - 1) / kAlignment * kAlignment;
    if (used_ > peak_) peak_ = used_;
    return reinterpret_cast<V*>(piece);
  }

  // Two tenants of the same memory, one after the other: mark() before the first, rewind(mark)
  // before the second.
  DIFFSORT_HD std::size_t mark() const { return used_; }
  DIFFSORT_HD void rewind(std::size_t mark) { used_ = mark; }

  DIFFSORT_HD std::size_t bytes() const { return peak_; }

 private:
  char* memory_;
  std::size_t used_ = 0, peak_ = 0;
};

// Of pieces, in the order in which they are asked for: at most kMost.
struct Places {
  static constexpr int kMost = 32;

  std::uint32_t offsets[kMost] = {};
};

// An arena without memory that notes the places.
class PlacingArena : public Arena {
 public:
  DIFFSORT_HD explicit PlacingArena(Places& places) : places_(places) {}

  template <class V>
  DIFFSORT_HD V* take(std::int64_t count) {
    places_.offsets[next_++] = static_cast<std::uint32_t>(mark());
    return Arena::take<V>(count);
  }

 private:
  Places& places_;
  int next_ = 0;
};

// Pieces at places that have been noted before, of the same pieces.
class PlacedArena {
 public:
  DIFFSORT_HD PlacedArena(const Places& places, void* memory)
      : places_(places), memory_(static_cast<char*>(memory)) {}

  template <class V>
  DIFFSORT_HD V* take(std::int64_t) {
    return reinterpret_cast<V*>(memory_ + places_.offsets[next_++]);
  }

  DIFFSORT_HD std::size_t mark() const { return 0; }
  DIFFSORT_HD void rewind(std::size_t) {}
  DIFFSORT_HD std::size_t bytes() const { return 0; }

 private:
  const Places& places_;
  char* memory_;
  int next_ = 0;
};

}  // namespace diffsort
