// The level of vector instructions, chosen once.
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "solver.h"

namespace diffsort {
namespace {

#ifdef DIFFSORT_HAS_AVX512
// From Ice Lake and Zen 4 on, which have VBMI2: older processors lower their clock for such vectors.
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vbmi2");
}
#endif

}  // namespace

std::vector<const Solver*> solver_levels() {
  std::vector<const Solver*> levels;
#ifdef DIFFSORT_HAS_AVX512
  if (has_avx512()) levels.push_back(&avx512::kSolver);
#endif
#ifdef DIFFSORT_HAS_AVX2
  if (__builtin_cpu_supports("avx2")) levels.push_back(&avx2::kSolver);
#endif
  levels.push_back(&portable::kSolver);
  return levels;
}

namespace {

const Solver& chosen() {
  const std::vector<const Solver*> levels = solver_levels();
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
