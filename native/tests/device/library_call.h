// Calls of libdiffsort_cuda on the device of runtime.h.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <vector>

#include "diffsort/cuda.h"
#include "runtime.h"

namespace diffsort::device {

// What kernels may use while it is there.
class Allowed {
 public:
  template <class... Vectors>
  explicit Allowed(const Vectors&... vectors) {
    (add(vectors), ...);
  }
  ~Allowed() {
    for (const void* begin : begins_) machine().memory.forbid(begin);
  }
  Allowed(const Allowed&) = delete;
  Allowed& operator=(const Allowed&) = delete;

 private:
  template <class V>
  void add(const std::vector<V>& values) {
    if (values.empty()) return;
    machine().memory.allow(values.data(), values.size() * sizeof(V));
    begins_.push_back(values.data());
  }

  std::vector<const void*> begins_;
};

// function(call), with the workspace that workspace_of(call, bytes) asks for, full of rubbish. Throws
// what the library says went wrong.
template <class WorkspaceOf, class Function>
void call_library(const WorkspaceOf& workspace_of, const Function& function) {
  constexpr unsigned char kRubbish = 0xab;
  char message[1000] = "";
  DiffsortCall call{-1, nullptr, nullptr, 0, message, sizeof message};
  if (workspace_of(&call, &call.workspace_bytes) != 0) throw std::runtime_error(message);
  std::vector<unsigned char> workspace(call.workspace_bytes, kRubbish);
  const Allowed allowed(workspace);
  call.workspace = workspace.data();
  if (function(&call) != 0) throw std::runtime_error(message);
}

}  // namespace diffsort::device
