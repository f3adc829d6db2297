// One source, compiled once for each level of vector instructions; dispatch.cpp chooses at run time.
//
// A file that is compiled for a level includes what is common to all levels first, and then its own
// code between DIFFSORT_BEGIN_LEVEL and DIFFSORT_END_LEVEL. Only that code may use the level's
// instructions: inline functions of the standard library, which the linker shares between levels,
// stay what every processor runs. (Lambdas there capture by default even where they need nothing: one
// that cannot capture converts to a function pointer, by a function that the compiler writes without
// the level's instructions.)
#pragma once

#if defined(DIFFSORT_LEVEL_IS_AVX512)
#define DIFFSORT_LEVEL avx512
#define DIFFSORT_INSTRUCTIONS "avx512f,avx512bw,avx512dq,avx512vl"
#elif defined(DIFFSORT_LEVEL_IS_AVX2)
#define DIFFSORT_LEVEL avx2
#define DIFFSORT_INSTRUCTIONS "avx2"
#endif

#if defined(DIFFSORT_INSTRUCTIONS)
#define DIFFSORT_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define DIFFSORT_TARGET(instructions) \
  DIFFSORT_PRAGMA(clang attribute push(__attribute__((target(instructions))), apply_to = function))
#define DIFFSORT_BEGIN_LEVEL DIFFSORT_TARGET(DIFFSORT_INSTRUCTIONS)
#define DIFFSORT_END_LEVEL _Pragma("clang attribute pop")
#else
#define DIFFSORT_TARGET(instructions) \
  _Pragma("GCC push_options") DIFFSORT_PRAGMA(GCC target(instructions))
#define DIFFSORT_BEGIN_LEVEL DIFFSORT_TARGET(DIFFSORT_INSTRUCTIONS)
#define DIFFSORT_END_LEVEL _Pragma("GCC pop_options")
#endif
#else
#define DIFFSORT_LEVEL portable
#define DIFFSORT_BEGIN_LEVEL
#define DIFFSORT_END_LEVEL
#endif

namespace diffsort::DIFFSORT_LEVEL {

#if defined(DIFFSORT_LEVEL_IS_AVX512)
constexpr int kVectorBytes = 64;
#elif defined(DIFFSORT_LEVEL_IS_AVX2)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;  // SSE2, NEON, and what the compiler makes of it elsewhere
#endif

}  // namespace diffsort::DIFFSORT_LEVEL
