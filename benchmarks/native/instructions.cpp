// One call of the solver on fixed inputs, for a tool that counts instructions in `counted`.
//
//     diffsort_instructions OPERATOR REGULARIZATION DTYPE ROWS N STRENGTH INPUTS
//
// An equal call on other inputs comes first and is not counted: what is done once per thread is not
// in the figure. Inputs come from an integer generator, so they are the same everywhere; those of "ReLU"
// have zeros instead of negative numbers.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "operator_call.h"

using diffsort::benchmarks::Arrays;
using diffsort::benchmarks::Operator;
using diffsort::benchmarks::OperatorCall;

// Sums of four uniform numbers: about N(0, 1).
template <class T>
static std::vector<T> draw(std::size_t size, std::uint64_t seed, bool is_relu = false) {
  std::vector<T> values(size);
  std::uint64_t state = seed;
  for (T& value : values) {
    double sum = -2.0;
    for (int k = 0; k < 4; ++k) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      sum += static_cast<double>(state >> 11) * 0x1p-53;
    }
    value = static_cast<T>(is_relu && sum < 0.0 ? 0.0 : sum * 1.7320508);
  }
  return values;
}

template <class T>
static void pass(OperatorCall<T>& call, const Arrays<T>& arrays, double strength) {
  call.forward(arrays, strength, true);
  call.backward(arrays);
}

// What the tool looks for by name: not inlined, not mangled.
extern "C" __attribute__((noinline)) void counted_float32(OperatorCall<float>& call,
                                                          const Arrays<float>& arrays,
                                                          double strength) {
  pass(call, arrays, strength);
}
extern "C" __attribute__((noinline)) void counted_float64(OperatorCall<double>& call,
                                                          const Arrays<double>& arrays,
                                                          double strength) {
  pass(call, arrays, strength);
}

template <class T>
static void run(Operator op, bool is_kl, std::int64_t rows, std::int64_t n, double strength,
                bool is_relu, void (*counted)(OperatorCall<T>&, const Arrays<T>&, double)) {
  const auto size = static_cast<std::size_t>(rows * n);
  const std::vector<T> first = draw<T>(size, 1, is_relu), second = draw<T>(size, 2, is_relu);
  const std::vector<T> g = draw<T>(size, 3);
  std::vector<T> result(size), gradient(size);
  std::vector<std::int32_t> block_z(size), block_w(size);
  OperatorCall<T> call(op, is_kl, rows, n, 1);
  Arrays<T> arrays{first.data(),    g.data(),       result.data(),
                   gradient.data(), block_z.data(), block_w.data()};
  pass(call, arrays, strength);
  arrays.values = second.data();
  counted(call, arrays, strength);
}

int main(int argc, char** argv) {
  if (argc != 8) {
    std::fputs("OPERATOR REGULARIZATION DTYPE ROWS N STRENGTH INPUTS\n", stderr);
    return EXIT_FAILURE;
  }
  const Operator op = std::strcmp(argv[1], "soft_sort") ? Operator::soft_rank : Operator::soft_sort;
  const bool is_kl = !std::strcmp(argv[2], "kl"), is_relu = !std::strcmp(argv[7], "ReLU");
  const std::int64_t rows = std::atoll(argv[4]), n = std::atoll(argv[5]);
  const double strength = std::atof(argv[6]);
  if (std::strcmp(argv[3], "float64"))
    run<float>(op, is_kl, rows, n, strength, is_relu, counted_float32);
  else
    run<double>(op, is_kl, rows, n, strength, is_relu, counted_float64);
  return EXIT_SUCCESS;
}
