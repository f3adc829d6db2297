// Rows spread over threads.
#pragma once

#include <cstdint>
#include <functional>

namespace diffsort {

// The threads that may work on one call.
struct Workers {
  Workers(int threads) : threads(threads) {}  // NOLINT: a number of threads is meant to convert

  int threads;  // at most so many work at once, the caller being one of them
  // Hands a task to threads that exist already, which may run it soon, late or only after the call:
  // the caller waits for none that has not begun. Returns false if it takes no tasks.
  // Empty: threads are started for the call, so that a forked child inherits none.
  std::function<bool(std::function<void()>)> schedule = {};
};

// Calls body(begin, end) on disjoint ranges that cover [0, rows). The ranges depend on the number
// of workers, their results must not. An exception of any body is thrown to the caller at the end.
void for_each_row_range(std::int64_t rows, std::int64_t row_length, const Workers& workers,
                        const std::function<void(std::int64_t, std::int64_t)>& body);

}  // namespace diffsort
