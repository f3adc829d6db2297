// The parts of one long row, shared out to the threads of a call.
#pragma once

#include <algorithm>
#include <cstdint>

#include "diffsort/parallel.h"

namespace diffsort::DIFFSORT_LEVEL {

// Calls body(part, scratch) for every part in [0, parts): neighbours one after the other, with memory
// that lasts for some of them.
template <class Scratch, class Body>
void share_out(std::int64_t parts, const Workers& workers, const Body& body) {
  constexpr std::int64_t kSharesPerThread = 8;
  const std::int64_t most = workers.threads > 1 ? kSharesPerThread * workers.threads : 1;
  const std::int64_t shares = std::min(parts, most);
  parallel_for(shares, workers, [&](std::int64_t s) {
    Scratch scratch;
    const std::int64_t end = parts * (s + 1) / shares;
    for (std::int64_t part = parts * s / shares; part < end; ++part) body(part, scratch);
  });
}

}  // namespace diffsort::DIFFSORT_LEVEL
