#include "diffsort/parallel.h"

#include <algorithm>
#include <exception>
#include <thread>
#include <vector>

namespace diffsort {
namespace {

// Starting and joining a thread costs about 20 us; below this many elements it does not pay.
constexpr std::int64_t kElementsPerThread = 1 << 14;

}  // namespace

void for_each_row_range(std::int64_t rows, std::int64_t row_length, int threads,
                        const std::function<void(std::int64_t, std::int64_t)>& body) {
  if (rows <= 0) return;
  const std::int64_t rows_per_thread =
      std::max<std::int64_t>(1, kElementsPerThread / std::max<std::int64_t>(1, row_length));
  const std::int64_t workers =
      std::min<std::int64_t>(std::max(1, threads), (rows + rows_per_thread - 1) / rows_per_thread);
  if (workers == 1) return body(0, rows);

  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(workers));
  const auto run = [&](std::int64_t worker) noexcept {
    try {
      // Two factors below 2^63 / workers: the product cannot overflow for any real row count.
      body(rows / workers * worker + std::min(worker, rows % workers),
           rows / workers * (worker + 1) + std::min(worker + 1, rows % workers));
    } catch (...) {
      errors[static_cast<std::size_t>(worker)] = std::current_exception();
    }
  };
  std::vector<std::thread> pool;
  pool.reserve(static_cast<std::size_t>(workers - 1));
  std::int64_t started = 1;
  try {
    for (; started < workers; ++started) pool.emplace_back(run, started);
  } catch (...) {
    // No more threads (or no memory for one): the caller does the rest itself.
  }
  run(0);
  for (std::int64_t worker = started; worker < workers; ++worker) run(worker);
  for (std::thread& thread : pool) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace diffsort
