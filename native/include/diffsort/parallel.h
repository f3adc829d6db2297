// Work spread over threads: independent tasks, and the rows of arrays.
//
// Calls may be nested and may come from any number of threads at once; none waits for work that
// nobody has begun, so none gets stuck behind another. Floating point is that of the C standard
// (denormals are numbers) inside a body, whatever its thread has set. An exception of a body is
// thrown to the caller at the end; what nobody had begun by then may stay undone.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>

namespace diffsort {

// The threads that may work on one call.
struct Workers {
  Workers(int threads) : threads(threads) {}  // NOLINT: a number of threads is meant to convert

  int threads;  // at most so many work at once, the caller being one of them
  // Hands a task to threads that exist already, which may run it soon, late or only after the call:
  // the caller waits for none that has not begun. Returns false if it takes no tasks.
  // Empty: diffsort's own threads, which are started when a call first wants them and live as long
  // as the process. A forked child starts its own.
  std::function<bool(std::function<void()>)> schedule = {};
};

// Whether the threads of a call share the parts of its only row. Several rows are spread over threads
// instead: parts of the work on a row, and all of it where the row is one block, are one thread's.
inline bool shares_its_row(std::int64_t rows, std::int64_t row_length, const Workers& workers) {
  constexpr std::int64_t kLong = std::int64_t{1} << 16;
  return rows == 1 && row_length > kLong && workers.threads > 1;
}

// Calls body(i) once for every i in [0, count). Threads take one task after the other, so tasks
// may differ in cost. All threads are called at once: what they do should take 20 us or more each.
void parallel_for(std::int64_t count, const Workers& workers,
                  const std::function<void(std::int64_t)>& body);

// The rows of one call, handed out in ranges to the threads that ask.
class RowRanges {
 public:
  // Takes the next range that nobody has. False: the thread is to take no more.
  bool take(std::int64_t& begin, std::int64_t& end);

 private:
  friend void share_rows(std::int64_t, std::int64_t, const Workers&,
                         const std::function<void(RowRanges&)>&);

  RowRanges(std::int64_t rows, std::int64_t row_length, const Workers& workers);
  std::int64_t threads_worth_calling();

  const Workers& workers_;
  const std::int64_t rows_;
  std::int64_t step_;  // rows of a range
  std::int64_t team_;  // threads to take part; 1: the caller works alone, as yet
  std::chrono::steady_clock::time_point start_;  // of the caller's work alone
  std::atomic<std::int64_t> next_{0};
};

// Calls work(ranges), which takes ranges until it gets no more, on each thread that takes part; on
// the caller's perhaps twice.
void share_rows(std::int64_t rows, std::int64_t row_length, const Workers& workers,
                const std::function<void(RowRanges&)>& work);

// Calls body(begin, end) on disjoint ranges that cover [0, rows). The ranges depend on threads and
// on time, their results must not.
template <class Body>
void for_each_row_range(std::int64_t rows, std::int64_t row_length, const Workers& workers,
                        const Body& body) {
  share_rows(rows, row_length, workers, [&](RowRanges& ranges) {
    for (std::int64_t begin, end; ranges.take(begin, end);) body(begin, end);
  });
}

// The same for a body(begin, end, scratch) that needs memory: each thread keeps its own over all of
// its ranges.
template <class Scratch, class Body>
void for_each_row_range(std::int64_t rows, std::int64_t row_length, const Workers& workers,
                        const Body& body) {
  share_rows(rows, row_length, workers, [&](RowRanges& ranges) {
    Scratch scratch;
    for (std::int64_t begin, end; ranges.take(begin, end);) body(begin, end, scratch);
  });
}

}  // namespace diffsort
