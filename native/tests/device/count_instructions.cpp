// Instructions that warps execute for float32 ranks and their gradients, on the device of machine.h: a
// table for benchmarks/results/gpu-instructions.md. With the same compiler and standard library it is the
// same on every machine.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "library_call.h"

using namespace diffsort::device;

namespace {

struct Shape {
  std::int64_t rows, n;
};
constexpr Shape kShapes[] = {{256, 16}, {64, 32},  {64, 128}, {16, 512},  {8, 1024},
                             {4, 2048}, {4, 4096}, {2, 8192}, {1, 100000}};

// Ranges of a row in units of the strength.
struct Regime {
  const char* name;
  double ranges(std::int64_t n) const {
    const auto size = static_cast<double>(n);
    return *name == 'S' ? 0.1 : *name == 'M' ? size : 1000.0 * size;
  }
};
constexpr Regime kRegimes[] = {{"S"}, {"M"}, {"H"}};

struct Ranks {
  Shape shape;
  std::int32_t regularization;
  std::vector<float> z, g, strength, result, gradient;
  std::vector<std::int32_t> block;

  Ranks(const Shape& shape, std::int32_t regularization, const Regime& regime)
      : shape(shape),
        regularization(regularization),
        z(size()),
        g(size()),
        result(size()),
        gradient(size()),
        block(size()) {
    std::mt19937_64 random(1);
    std::normal_distribution<float> normal;
    for (float& value : z) value = normal(random);
    for (float& value : g) value = normal(random);
    for (std::int64_t r = 0; r < shape.rows; ++r) {
      const auto first = z.begin() + r * shape.n;
      const auto [low, high] = std::minmax_element(first, first + shape.n);
      strength.push_back(static_cast<float>((*high - *low) / regime.ranges(shape.n)));
    }
  }

  std::size_t size() const { return static_cast<std::size_t>(shape.rows * shape.n); }

  DiffsortProblem problem() const {
    return {shape.rows,
            shape.n,
            DIFFSORT_FLOAT32,
            regularization,
            1.0,
            1.0,
            {strength.data(), 1, DIFFSORT_FLOAT32, 0.0}};
  }

  void rank() {
    const Allowed allowed(z, strength, result, block);
    const DiffsortProblem of = problem();
    const DiffsortProjection arrays{{z.data(), shape.n}, {}, result.data(), block.data(), nullptr};
    call_library(
        [&](const DiffsortCall* call, std::size_t* bytes) {
          return diffsort_cuda_project_workspace(&of, &arrays, call, bytes);
        },
        [&](const DiffsortCall* call) { return diffsort_cuda_project(&of, &arrays, call); });
  }

  void differentiate() {
    const Allowed allowed(z, strength, result, block, g, gradient);
    const DiffsortProblem of = problem();
    const DiffsortLinearization at{
        {z.data(), shape.n}, {}, {result.data(), shape.n}, {block.data(), shape.n}, {}};
    const DiffsortCotangents cotangents{{g.data(), shape.n}, gradient.data(), nullptr, nullptr};
    call_library(
        [&](const DiffsortCall* call, std::size_t* bytes) {
          return diffsort_cuda_vjp_workspace(&of, &at, &cotangents, call, bytes);
        },
        [&](const DiffsortCall* call) { return diffsort_cuda_vjp(&of, &at, &cotangents, call); });
  }
};

// "12.3 (28)": instructions of warps per element, and how many lanes execute one.
void print_counts(std::size_t elements) {
  Counts all;
  for (const auto& [kernel, counts] : take_counts()) all += counts;
  const auto instructions = static_cast<double>(all.instructions);
  std::printf(" %.1f (%.0f) |", instructions / static_cast<double>(elements),
              static_cast<double>(all.lane_instructions) / instructions);
}

}  // namespace

int main() {
  std::puts(
      "# Instructions of the CUDA kernels\n\n"
      "PTX instructions that warps execute for an element of float32 ranks, and in brackets how "
      "many of "
      "the 32 lanes execute one,\nforward and backward, on the emulated device of "
      "`native/tests/device`. They are no times. S: one block; M: range/strength = n;\nH: nearly "
      "hard. "
      "By `build/cuda/native/tests/device/diffsort_count_instructions`.\n");
  for (const int regularization : {0, 1}) {
    std::printf(
        "## %s\n\n| n | S forward | S backward | M forward | M backward | H forward | H "
        "backward |\n|---|---|---|---|---|---|---|\n",
        regularization == 0 ? "l2" : "kl");
    for (const Shape& shape : kShapes) {
      std::printf("| %lld |", static_cast<long long>(shape.n));
      for (const Regime& regime : kRegimes) {
        Ranks ranks(shape, regularization, regime);
        ranks.rank();
        print_counts(ranks.size());
        ranks.differentiate();
        print_counts(ranks.size());
      }
      std::puts("");
    }
    if (regularization == 0) std::puts("");
  }
}
