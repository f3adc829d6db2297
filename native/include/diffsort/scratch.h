// How long scratch memory is kept from row to row.
#pragma once

#include <cstddef>
#include <vector>

namespace diffsort {

// Of rows at least this long it is given back as soon as it is done with: getting it again costs little
// beside the work, and keeping it would set the peak.
constexpr std::size_t kReleaseLength = std::size_t{1} << 20;

template <class T>
void release_if_long(std::size_t n, std::vector<T>& scratch) {
  if (n >= kReleaseLength) std::vector<T>().swap(scratch);
}

}  // namespace diffsort
