// The projection on the CPU: rows spread over threads, or threads over a long row.
#include "cpu/solver.h"
#include "diffsort/parallel.h"
#include "diffsort/projection.h"

namespace diffsort {

template <class T>
void project(const Problem& problem, const Projection<T>& arrays, const Workers& workers) {
  const RowSpace& space = problem.space;
  if (space.length == 0) return;
  const Workers alone(1);
  const bool by_row = shares_its_row(space.rows(), space.length, workers);
  for_each_row_range(space.rows(), space.length, by_row ? alone : workers,
                     [&](std::int64_t begin, std::int64_t end) {
                       solver().project(problem, arrays, begin, end, by_row ? workers : alone);
                     });
}

template void project<float>(const Problem&, const Projection<float>&, const Workers&);
template void project<double>(const Problem&, const Projection<double>&, const Workers&);

}  // namespace diffsort
