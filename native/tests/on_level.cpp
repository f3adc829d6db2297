// on_level LEVEL PROGRAM: runs a program whose code, that before main() included, is compiled for a level
// of vector instructions, where the processor has them.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "cpu/solver.h"

constexpr int kSkipped = 77;  // what CTest is told to take for a skipped test

int main(int, char** arguments) {
  const std::string level = arguments[1];
  const auto levels = diffsort::solver_levels();
  if (std::none_of(levels.begin(), levels.end(),
                   [&](auto* each) { return level == each->level; })) {
    std::printf("Skipped: this processor does not have the instructions of %s.\n", level.c_str());
    return kSkipped;
  }
  return std::system(arguments[2]) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
