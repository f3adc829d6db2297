// The level of vector instructions that the ways of a test are compiled for (cpu/levels.h): portable in
// diffsort_tests, those of newer processors in diffsort_ways_avx2 and diffsort_ways_avx512.
#pragma once

#if defined(DIFFSORT_LEVEL_IS_AVX2) || defined(DIFFSORT_LEVEL_IS_AVX512)
#include <immintrin.h>
#endif

#include "cpu/levels.h"
