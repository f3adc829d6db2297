# Finds the headers of XLA's FFI, which jaxlib carries, and says so in DIFFSORT_XLA_INCLUDE_DIR. Only headers:
# nothing of jaxlib is linked or needed at run time.
#
# A module built against headers of FFI version 0.x runs on every jaxlib of that version or a newer
# one, so the build requirement asks for an old jaxlib. To build for the jaxlib of an environment
# instead: pip install --no-build-isolation, or -DDIFFSORT_XLA_INCLUDE_DIR=... with what
# `jax.ffi.include_dir()` says.
if(NOT DIFFSORT_XLA_INCLUDE_DIR)
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c
      "import importlib.util as u; print((u.find_spec('jaxlib').submodule_search_locations)[0])"
    OUTPUT_VARIABLE jaxlib_dir OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  set(DIFFSORT_XLA_INCLUDE_DIR "${jaxlib_dir}/include")
endif()
if(NOT EXISTS "${DIFFSORT_XLA_INCLUDE_DIR}/xla/ffi/api/ffi.h")
  message(FATAL_ERROR "The headers of XLA's FFI were not found in '${DIFFSORT_XLA_INCLUDE_DIR}'. "
    "Install jaxlib>=0.4.35,<0.8 into the build environment, set DIFFSORT_XLA_INCLUDE_DIR, or build "
    "with DIFFSORT_XLA=OFF: JAX arrays then take the fallback solver.")
endif()
message(STATUS "diffsort: headers of XLA's FFI in ${DIFFSORT_XLA_INCLUDE_DIR}")
