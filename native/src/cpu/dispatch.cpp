// The level of vector instructions, chosen once.
#include <cstdlib>
#include <cstring>

#include "solver.h"

namespace diffsort {
namespace {

const Solver& best() {
#ifdef DIFFSORT_HAS_AVX2
  if (__builtin_cpu_supports("avx2")) return avx2::kSolver;
#endif
  return portable::kSolver;
}

const Solver& chosen() {
  const char* const wanted = std::getenv("DIFFSORT_SIMD");
  if (wanted != nullptr && std::strcmp(wanted, "portable") == 0) return portable::kSolver;
  return best();
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
