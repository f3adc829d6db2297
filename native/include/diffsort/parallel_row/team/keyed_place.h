// What is sorted: keys, and where each came from.
#pragma once

#include <cstdint>

#include "diffsort/host_device.h"

namespace diffsort {

// A word of 8 bytes to memory.
struct alignas(8) KeyedPlace {
  std::uint32_t key, place;
};

// Many of them, in memory: keys row after row; places wherever each row has room for its own.
struct KeyedPlaces {
  std::uint32_t* keys = nullptr;
  std::uint32_t* places = nullptr;
  std::int64_t place_stride = 0;  // from the places of a row to those of the next

  KeyedPlaces() = default;
  DIFFSORT_HD KeyedPlaces(std::uint32_t* keys, std::uint32_t* places, std::int64_t place_stride)
      : keys(keys), places(places), place_stride(place_stride) {}
};

}  // namespace diffsort
