// An array and as much memory beside it: a sort reads one and writes the other, pass by pass.
#pragma once

namespace diffsort {

template <class V>
struct DoubleBuffer {
  V* current = nullptr;
  V* other = nullptr;
};

}  // namespace diffsort
