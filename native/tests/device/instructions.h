// What instructions of PTX do to the registers and the memory of lanes.
#pragma once

#include <string>

#include "module.h"

namespace diffsort::device {

// Of arithmetic and the like, which needs no more than operands, by its whole name ("add.rn.f64").
// Null where there is no such instruction here.
Execute find_arithmetic(const std::string& name);

// `type` as in "u32"; null where it is unknown.
Execute find_load(const std::string& type);
Execute find_store(const std::string& type);
Execute find_atomic(const std::string& operation, const std::string& type);

// {a, b} = c and c = {a, b}.
Execute unpack_words();
Execute pack_words();

// Of lanes together: from[3] is the mask of those that take part.
Execute find_shuffle(const std::string& mode);
Execute find_reduction(const std::string& name);  // "add.u32"
Execute ballot();

}  // namespace diffsort::device
