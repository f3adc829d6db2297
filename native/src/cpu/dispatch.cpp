// The level of vector instructions, chosen once.
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "solver.h"

namespace diffsort {
namespace {

// The levels that this build has and this processor can run, the best first.
std::vector<const Solver*> available() {
  std::vector<const Solver*> levels;
#ifdef DIFFSORT_HAS_AVX2
  if (__builtin_cpu_supports("avx2")) levels.push_back(&avx2::kSolver);
#endif
  levels.push_back(&portable::kSolver);
  return levels;
}

const Solver& chosen() {
  const std::vector<const Solver*> levels = available();
  const char* const variable = std::getenv("DIFFSORT_SIMD");
  const std::string wanted = variable == nullptr ? "" : variable;
  if (wanted.empty()) return *levels.front();
  std::string names;
  for (const Solver* level : levels) {
    if (wanted == level->level) return *level;
    names += names.empty() ? level->level : std::string(" or ") + level->level;
  }
  throw std::runtime_error("The environment variable DIFFSORT_SIMD must be " + names +
                           " with this build of diffsort on this processor, got \"" + wanted +
                           "\". Unset it for the best of them.");
}

}  // namespace

const Solver& solver() {
  static const Solver& solver = chosen();
  return solver;
}

const char* simd_level() {
  return solver().level;
}

}  // namespace diffsort
