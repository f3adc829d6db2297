// Handlers for the CPU platform of XLA that call those of the CUDA platform, with a stream that is
// none and scratch memory of the host: what a CUDA runtime would give them.
#include <cstdlib>

#include "xla/ffi/api/c_api.h"

extern "C" {

XLA_FFI_Handler* targets[3];  // set by the test
void* stream;
size_t live;  // allocations that have not been given back

static XLA_FFI_Error* stream_get(XLA_FFI_Stream_Get_Args* args) {
  args->stream = stream;
  return nullptr;
}

static XLA_FFI_Error* allocate(XLA_FFI_DeviceMemory_Allocate_Args* args) {
  ++live;
  args->data = aligned_alloc(args->alignment, (args->size + 15) / 16 * 16);
  return nullptr;
}

static XLA_FFI_Error* release(XLA_FFI_DeviceMemory_Free_Args* args) {
  --live;
  free(args->data);
  return nullptr;
}

static XLA_FFI_Error* call(XLA_FFI_Handler* target, XLA_FFI_CallFrame* frame) {
  XLA_FFI_Api api = *frame->api;
  XLA_FFI_CallFrame copy = *frame;
  api.XLA_FFI_Stream_Get = stream_get;
  api.XLA_FFI_DeviceMemory_Allocate = allocate;
  api.XLA_FFI_DeviceMemory_Free = release;
  copy.api = &api;
  return target(&copy);
}

XLA_FFI_Error* diffsort_project(XLA_FFI_CallFrame* frame) {
  return call(targets[0], frame);
}
XLA_FFI_Error* diffsort_jvp(XLA_FFI_CallFrame* frame) {
  return call(targets[1], frame);
}
XLA_FFI_Error* diffsort_vjp(XLA_FFI_CallFrame* frame) {
  return call(targets[2], frame);
}
}
