#pragma once

#include <cstdint>
#include <vector>

#include "module.h"

namespace diffsort::device {

// Notes of the instructions of a function, code[first] to code[last - 1], which begin a basic block,
// and how many blocks all ways from there to the end of the function have in common: the depth of
// its block in the tree of post-dominators. Where lanes that have parted can meet again, it is less
// than on every way there.
void note_post_dominators(std::vector<Instruction>& code, std::int32_t first, std::int32_t last);

}  // namespace diffsort::device
