// The solver as XLA custom calls.
#pragma once

#include <nanobind/nanobind.h>

namespace diffsort {

// Adds to the module: `xla_handlers` and `xla_cuda_handlers`, capsules by target name;
// `xla_ffi_version`, (major, minor) of the FFI they are compiled for; `set_xla_threads`.
void bind_xla(nanobind::module_& m);

// The handlers of the CUDA platform, under the names of those of the CPU.
nanobind::dict xla_cuda_handlers();

}  // namespace diffsort
