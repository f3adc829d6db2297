// What is sorted: keys, and where each came from.
#pragma once

#include <cstdint>

namespace diffsort {

template <class Key>
struct KeyedPlace {
  Key key;
  std::uint32_t place;
};

// Many of them, in memory.
template <class Key>
struct KeyedPlaces {
  Key* keys = nullptr;
  std::uint32_t* places = nullptr;
};

}  // namespace diffsort
