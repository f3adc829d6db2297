#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "diffsort/parallel.h"

using namespace diffsort;

namespace {

using Task = std::function<void()>;

// Keeps what it is given, for tests to run when they like.
struct Queue {
  std::mutex mutex;
  std::vector<Task> tasks;

  Workers workers(int threads) {
    Workers result(threads);
    result.schedule = [this](Task task) {
      const std::lock_guard<std::mutex> lock(mutex);
      tasks.push_back(std::move(task));
      return true;
    };
    return result;
  }
};

void require_every_row_once(std::int64_t rows, const Workers& workers) {
  std::vector<std::atomic<int>> visits(static_cast<std::size_t>(rows));
  for_each_row_range(rows, 1 << 15, workers, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) ++visits[static_cast<std::size_t>(r)];
  });
  for (const auto& count : visits) REQUIRE(count == 1);
}

}  // namespace

TEST_CASE("every row is visited once, for any number of threads") {
  for (const int threads : {-1, 0, 1, 2, 3, 7, 64}) {
    for (const std::int64_t rows : {0, 1, 2, 5, 63, 64, 65}) {
      require_every_row_once(rows, threads);

      Workers started_at_once(threads);
      std::vector<std::thread> pool;
      started_at_once.schedule = [&](Task task) {
        pool.emplace_back(std::move(task));
        return true;
      };
      require_every_row_once(rows, started_at_once);
      for (std::thread& thread : pool) thread.join();
    }
  }
}

TEST_CASE("the caller waits for no task that has not begun, and late tasks find nothing to do") {
  Queue never;
  require_every_row_once(64, never.workers(8));
  REQUIRE(never.tasks.size() == 7);
  for (const Task& task : never.tasks) task();  // the call is over: its rows are gone
}

TEST_CASE("a pool that takes no tasks leaves the work to the caller") {
  Workers refused(8);
  refused.schedule = [](const Task&) { return false; };
  require_every_row_once(64, refused);
}

TEST_CASE("an exception of any thread reaches the caller") {
  Queue never;
  for (const Workers& workers : {Workers(4), never.workers(4)}) {
    for (const std::int64_t culprit : {0, 1, 3}) {
      CHECK_THROWS_AS(for_each_row_range(4, 1 << 20, workers,
                                         [&](std::int64_t begin, std::int64_t) {
                                           if (begin == culprit) throw std::runtime_error("row");
                                         }),
                      std::runtime_error);
    }
  }
}

#if defined(__SSE__)
TEST_CASE("denormals are numbers, even where the caller's thread flushes them to zero") {
  constexpr unsigned kFlush = 0x8040;  // flush to zero, denormals are zero
  const unsigned saved = _mm_getcsr();
  for (const int threads : {1, 4}) {
    _mm_setcsr(saved | kFlush);
    std::atomic<int> kept{0};
    for_each_row_range(4, 1 << 20, threads, [&](std::int64_t begin, std::int64_t end) {
      volatile double tiny = std::numeric_limits<double>::denorm_min();
      if (tiny > 0.0) kept += static_cast<int>(end - begin);
    });
    const bool restored = (_mm_getcsr() & kFlush) == kFlush;
    _mm_setcsr(saved);
    CHECK(kept == 4);
    CHECK(restored);
  }
}
#endif
