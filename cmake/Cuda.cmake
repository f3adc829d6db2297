# Finds a CUDA compiler as DIFFSORT_CUDA asks, chooses the architectures, and says what was found in
# DIFFSORT_CUDA_STATE. With a compiler CUDA is enabled and DIFFSORT_CUDA_LIBRARY is true.
if(NOT DIFFSORT_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "DIFFSORT_CUDA must be AUTO, ON or OFF, got '${DIFFSORT_CUDA}'.")
endif()

# Machine code for every generation from Turing on that this nvcc knows, which later devices of the same
# generation run too, and PTX for the others: that of 9.0, which is a tenth smaller than that of later
# ones, or else of the newest.
function(diffsort_default_architectures result)
  execute_process(COMMAND "${CMAKE_CUDA_COMPILER}" --list-gpu-arch
    OUTPUT_VARIABLE known ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  set(chosen "")
  foreach(architecture 75 80 90 100 120)
    if(known MATCHES "compute_${architecture}(\n|$)")
      list(APPEND chosen ${architecture}-real)
    endif()
  endforeach()
  if(NOT chosen)
    message(FATAL_ERROR "${CMAKE_CUDA_COMPILER} knows none of the architectures that diffsort is "
      "built for by default. Set CMAKE_CUDA_ARCHITECTURES.")
  endif()
  list(GET chosen -1 for_others)
  if(90-real IN_LIST chosen)
    set(for_others 90-real)
  endif()
  string(REPLACE "-real" "-virtual" for_others "${for_others}")
  set(${result} ${chosen} ${for_others} PARENT_SCOPE)
endfunction()

# The lowest of which the library has PTX, 9999 where there is none: of all that are not "-real".
function(diffsort_lowest_ptx result)
  set(lowest 9999)
  foreach(architecture IN LISTS ARGN)
    if(architecture STREQUAL "all")
      set(named ${CMAKE_CUDA_ARCHITECTURES_ALL})
    elseif(architecture STREQUAL "all-major")
      set(named ${CMAKE_CUDA_ARCHITECTURES_ALL_MAJOR})
    elseif(architecture STREQUAL "native")
      set(named "")  # machine code alone
    else()
      set(named ${architecture})
    endif()
    foreach(name IN LISTS named)
      if(name MATCHES "^([0-9]+)(-virtual)?$" AND CMAKE_MATCH_1 LESS lowest)
        set(lowest ${CMAKE_MATCH_1})
      endif()
    endforeach()
  endforeach()
  set(${result} ${lowest} PARENT_SCOPE)
endfunction()

set(DIFFSORT_CUDA_LIBRARY FALSE)
set(DIFFSORT_CUDA_STATE "off")
if(NOT DIFFSORT_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
      diffsort_default_architectures(CMAKE_CUDA_ARCHITECTURES)
    endif()
    enable_language(CUDA)
    # No kernel has instructions of one architecture ("90a") or family ("120f") alone. Without the letter the
    # same code serves the devices after it too, and diffsort_cuda_supports knows which.
    list(TRANSFORM CMAKE_CUDA_ARCHITECTURES REPLACE "^([0-9]+)[af]" "\\1")
    list(REMOVE_DUPLICATES CMAKE_CUDA_ARCHITECTURES)
    set(DIFFSORT_CUDA_LIBRARY TRUE)
    list(JOIN CMAKE_CUDA_ARCHITECTURES " " DIFFSORT_CUDA_STATE)
    string(REPLACE "-real" "" DIFFSORT_CUDA_STATE "library built for ${DIFFSORT_CUDA_STATE}")
    string(REPLACE "-virtual" " (PTX)" DIFFSORT_CUDA_STATE "${DIFFSORT_CUDA_STATE}")
  elseif(DIFFSORT_CUDA STREQUAL "ON")
    message(FATAL_ERROR "DIFFSORT_CUDA=ON, but no CUDA compiler was found. "
      "Put nvcc on the PATH or set CUDACXX, or build with DIFFSORT_CUDA=AUTO or OFF.")
  else()
    set(DIFFSORT_CUDA_STATE "no compiler found")
  endif()
endif()
message(STATUS "diffsort: CUDA ${DIFFSORT_CUDA_STATE}")
