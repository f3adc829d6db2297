# Finds a CUDA compiler as DIFFSORT_CUDA asks and says what was found in DIFFSORT_CUDA_STATE.
if(NOT DIFFSORT_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "DIFFSORT_CUDA must be AUTO, ON or OFF, got '${DIFFSORT_CUDA}'.")
endif()

set(DIFFSORT_CUDA_STATE "off")
if(NOT DIFFSORT_CUDA STREQUAL "OFF")
  # The architectures have to be set before the probe, or the probe picks its own default.
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 75)
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(DIFFSORT_CUDA_STATE "compiler found, no kernels in this version")
  elseif(DIFFSORT_CUDA STREQUAL "ON")
    message(FATAL_ERROR "DIFFSORT_CUDA=ON, but no CUDA compiler was found. "
      "Put nvcc on the PATH or set CUDACXX, or build with DIFFSORT_CUDA=AUTO or OFF.")
  else()
    set(DIFFSORT_CUDA_STATE "no compiler found")
  endif()
endif()
if(DIFFSORT_CUDA STREQUAL "ON")
  message(FATAL_ERROR "DIFFSORT_CUDA=ON, but this version of diffsort has no CUDA kernels yet. "
    "Build with DIFFSORT_CUDA=AUTO or OFF for the complete CPU library.")
endif()
message(STATUS "diffsort: CUDA ${DIFFSORT_CUDA_STATE}")
