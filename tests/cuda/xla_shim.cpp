// Handlers for the CPU platform of XLA that call those of the CUDA platform, with a stream that is
// none: what a CUDA runtime would give them, but for scratch memory, which it must not be asked for.
#include "xla/ffi/api/c_api.h"

extern "C" {

XLA_FFI_Handler* targets[3];  // set by the test
void* stream;

static XLA_FFI_Error* stream_get(XLA_FFI_Stream_Get_Args* args) {
  args->stream = stream;
  return nullptr;
}

static XLA_FFI_Error* call(XLA_FFI_Handler* target, XLA_FFI_CallFrame* frame) {
  if (frame->api == nullptr) return target(frame);  // asked what it is
  XLA_FFI_Api api = *frame->api;
  XLA_FFI_CallFrame copy = *frame;
  api.XLA_FFI_Stream_Get = stream_get;
  api.XLA_FFI_DeviceMemory_Allocate = nullptr;
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

#if XLA_FFI_API_MINOR >= 1
// What a handler says of itself: bit 0 of its traits is that it may go into a command buffer.
unsigned traits_of(XLA_FFI_Handler* target) {
  XLA_FFI_Metadata metadata = {};
  metadata.struct_size = XLA_FFI_Metadata_STRUCT_SIZE;
  XLA_FFI_Metadata_Extension extension = {};
  extension.extension_base.struct_size = XLA_FFI_Metadata_Extension_STRUCT_SIZE;
  extension.extension_base.type = XLA_FFI_Extension_Metadata;
  extension.metadata = &metadata;
  XLA_FFI_CallFrame frame = {};
  frame.struct_size = XLA_FFI_CallFrame_STRUCT_SIZE;
  frame.extension_start = &extension.extension_base;
  target(&frame);
  return metadata.traits;
}
#endif
}
