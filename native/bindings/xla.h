// The solver as XLA custom calls.
#pragma once

#include <nanobind/nanobind.h>

namespace diffsort {

// Adds to the module: `xla_handlers`, capsules by target name; `xla_ffi_version`, (major, minor) of the
// FFI they are compiled for; `set_xla_threads`; and what bind_xla_cuda adds.
void bind_xla(nanobind::module_& m);

// Adds `xla_cuda_handlers`, those of the CUDA platform under the names of the CPU's, and
// `xla_cuda_workspace`, the size of the scratch memory that a row of a call needs as a further result.
void bind_xla_cuda(nanobind::module_& m);

}  // namespace diffsort
