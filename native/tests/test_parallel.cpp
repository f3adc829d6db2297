#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif
#if defined(__linux__)
#include <dirent.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__
#endif
#endif

#include "diffsort/parallel.h"

using namespace diffsort;

namespace {

using Task = std::function<void()>;
using std::chrono::milliseconds;
using std::chrono::seconds;

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

// A thread for each task.
struct Threads {
  std::vector<std::thread> threads;

  ~Threads() {
    for (std::thread& thread : threads) thread.join();
  }
  Workers workers(int count) {
    Workers result(count);
    result.schedule = [this](Task task) {
      threads.emplace_back(std::move(task));
      return true;
    };
    return result;
  }
};

// Until it holds, but not for ever.
bool wait_until(const std::function<bool()>& holds) {
  const auto end = std::chrono::steady_clock::now() + seconds(60);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
  return true;
}

bool every_task_runs_once(std::int64_t count, const Workers& workers) {
  std::vector<std::atomic<int>> visits(static_cast<std::size_t>(std::max<std::int64_t>(0, count)));
  parallel_for(count, workers, [&](std::int64_t i) { ++visits[static_cast<std::size_t>(i)]; });
  return std::all_of(visits.begin(), visits.end(), [](const auto& n) { return n == 1; });
}

bool every_row_is_visited_once(std::int64_t rows, std::int64_t row_length, const Workers& workers,
                               std::chrono::microseconds cost) {
  std::vector<std::atomic<int>> visits(static_cast<std::size_t>(rows));
  for_each_row_range(rows, row_length, workers, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      ++visits[static_cast<std::size_t>(r)];
      if (cost.count() > 0) std::this_thread::sleep_for(cost);
    }
  });
  return std::all_of(visits.begin(), visits.end(), [](const auto& n) { return n == 1; });
}

// Tasks of which each waits for all of them to have begun: true if `count` threads were at work.
bool meet(int count, const Workers& workers) {
  std::atomic<int> begun{0}, met{0};
  parallel_for(count, workers, [&](std::int64_t) {
    ++begun;
    met += wait_until([&] { return begun == count; });
  });
  return met == count;
}

}  // namespace

TEST_CASE("every task runs once, for any number of threads") {
  for (const int threads : {-1, 0, 1, 2, 3, 7, 64}) {
    for (const std::int64_t count : {-1, 0, 1, 2, 5, 63, 64, 65, 10000}) {
      CAPTURE(threads);
      CAPTURE(count);
      Queue never;
      Threads each;
      CHECK(every_task_runs_once(count, threads));
      CHECK(every_task_runs_once(count, never.workers(threads)));
      CHECK(every_task_runs_once(count, each.workers(threads)));
    }
  }
}

TEST_CASE("every row is visited once, be rows long or short, cheap or dear") {
  for (const int threads : {-1, 0, 1, 2, 3, 7, 64}) {
    for (const std::int64_t rows : {0, 1, 2, 5, 63, 64, 65, 300}) {
      for (const std::int64_t row_length : {0, 1, 100, 1 << 15}) {
        for (const int cost : {0, 20}) {
          CAPTURE(threads);
          CAPTURE(rows);
          CAPTURE(row_length);
          Threads each;
          const std::chrono::microseconds time(cost);
          CHECK(every_row_is_visited_once(rows, row_length, threads, time));
          CHECK(every_row_is_visited_once(rows, row_length, each.workers(threads), time));
        }
      }
    }
  }
}

TEST_CASE("as many threads as were asked for work at once, and no more") {
  for (const int threads : {2, 3, 8}) CHECK(meet(threads, threads));
  std::atomic<int> at_work{0}, most{0};
  for (int call = 0; call < 50; ++call) {  // there are 7 threads now, but the call wants 2
    parallel_for(100, 3, [&](std::int64_t) {
      const int now = ++at_work;
      for (int before = most; before < now && !most.compare_exchange_weak(before, now);) {
      }
      std::this_thread::yield();
      --at_work;
    });
  }
  CHECK(most <= 3);
}

TEST_CASE("rows that take long are shared, few long ones and many short ones") {
  for (const std::int64_t rows : {2, 64}) {
    std::atomic<int> at_work{0};
    std::atomic<bool> shared{false};
    for_each_row_range(rows, rows == 2 ? 1 << 20 : 100, 2, [&](std::int64_t begin, std::int64_t) {
      if (rows > 2 && begin == 0) return std::this_thread::sleep_for(milliseconds(2));
      ++at_work;
      if (wait_until([&] { return shared || at_work == 2; })) shared = true;
      --at_work;
    });
    CHECK(shared);
  }
}

TEST_CASE("each thread has one scratch for all of its ranges") {
  struct Scratch {
    std::thread::id owner = std::this_thread::get_id();
    std::int64_t rows = 0;
  };
  std::atomic<int> foreign{0}, first{0};
  for_each_row_range<Scratch>(200, 1 << 15, 4,
                              [&](std::int64_t begin, std::int64_t end, Scratch& scratch) {
                                foreign += scratch.owner != std::this_thread::get_id();
                                first += scratch.rows == 0;
                                scratch.rows += end - begin;
                                std::this_thread::sleep_for(std::chrono::microseconds(50));
                              });
  CHECK(foreign == 0);
  CHECK(first <= 5);  // of four threads, the caller's while it was alone and after that
}

TEST_CASE("the caller waits for no task that has not begun, and late tasks find nothing to do") {
  Queue never;
  CHECK(every_task_runs_once(64, never.workers(8)));
  REQUIRE(never.tasks.size() == 7);
  for (const Task& task : never.tasks) task();  // the call is over: what it worked on is gone
}

TEST_CASE("a pool that takes no tasks leaves the work to the caller") {
  Workers refused(8);
  refused.schedule = [](const Task&) { return false; };
  CHECK(every_task_runs_once(64, refused));
  refused.schedule = [](const Task&) -> bool { throw std::runtime_error("schedule"); };
  CHECK(every_task_runs_once(64, refused));
}

TEST_CASE("calls inside of calls come to an end, and all of their tasks run once") {
  for (const int threads : {2, 5}) {
    std::vector<std::atomic<int>> visits(6 * 7 * 8);
    parallel_for(6, threads, [&](std::int64_t i) {
      parallel_for(7, threads, [&](std::int64_t j) {
        for_each_row_range(8, 1 << 15, threads, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t k = begin; k < end; ++k) {
            ++visits[static_cast<std::size_t>((i * 7 + j) * 8 + k)];
          }
        });
      });
    });
    CHECK(std::all_of(visits.begin(), visits.end(), [](const auto& n) { return n == 1; }));
  }
}

TEST_CASE("many callers share the threads") {
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 12; ++caller) {
    callers.emplace_back([&, caller] {
      for (int call = 0; call < 100; ++call) {
        wrong += !every_task_runs_once(1 + (caller * 31 + call * 17) % 100, 2 + caller % 4);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == 0);
}

TEST_CASE("a call is not held up by another whose tasks take long") {
  std::atomic<bool> done{false};
  std::thread slow(
      [&] { parallel_for(8, 8, [&](std::int64_t) { wait_until([&] { return done.load(); }); }); });
  for (int call = 0; call < 20; ++call) CHECK(every_task_runs_once(50, 4));
  done = true;
  slow.join();
}

TEST_CASE("an exception of any thread reaches the caller, and the threads stay fit for work") {
  Queue never;
  for (const Workers& workers : {Workers(1), Workers(4), never.workers(4)}) {
    for (const std::int64_t culprit : {0, 1, 3}) {
      CHECK_THROWS_AS(parallel_for(4, workers,
                                   [&](std::int64_t i) {
                                     if (i == culprit) throw std::runtime_error("task");
                                   }),
                      std::runtime_error);
      CHECK_THROWS_AS(for_each_row_range(4, 1 << 20, workers,
                                         [&](std::int64_t begin, std::int64_t end) {
                                           if (begin <= culprit && culprit < end) {
                                             throw std::runtime_error("row");
                                           }
                                         }),
                      std::runtime_error);
    }
  }
  const auto caller = std::this_thread::get_id();
  std::atomic<int> begun{0};
  CHECK_THROWS_AS(parallel_for(2, 2,
                               [&](std::int64_t) {
                                 ++begun;
                                 wait_until([&] { return begun == 2; });
                                 if (std::this_thread::get_id() != caller) {
                                   throw std::runtime_error("helper");
                                 }
                               }),
                  std::runtime_error);
  CHECK(meet(4, 4));
}

#if defined(__linux__)
TEST_CASE("calls start no threads beyond the first ones") {
  const auto count = [] {
    int threads = 0;
    DIR* const folder = opendir("/proc/self/task");
    while (readdir(folder) != nullptr) ++threads;
    closedir(folder);
    return threads;
  };
  REQUIRE(meet(4, 4));
  const int before = count();
  CHECK(before >= 2 + 4);  // beside . and ..
  for (int call = 0; call < 100; ++call) every_task_runs_once(100, 4);
  CHECK(count() == before);
}
#endif

// ThreadSanitizer does not follow threads that a forked child starts. AddressSanitizer leaves the child
// the locks of its allocator as others held them, so with it nobody is at work;
// tests/test_concurrency.py forks beside busy threads as well.
#if (defined(__unix__) || defined(__APPLE__)) && !defined(__SANITIZE_THREAD__)
#if defined(__SANITIZE_ADDRESS__)
constexpr int kBusy = 0;
#else
constexpr int kBusy = 3;
#endif
TEST_CASE("a forked child has threads of its own, even if others were at work") {
  REQUIRE(meet(4, 4));
  std::atomic<bool> done{false};
  std::vector<std::thread> busy;
  for (int i = 0; i < kBusy; ++i) {
    busy.emplace_back([&] {
      while (!done) every_task_runs_once(20, 4);
    });
  }
  for (int i = 0; i < 30; ++i) {
    const pid_t child = fork();
    if (child == 0) _exit(meet(3, 3) && every_task_runs_once(100, 3) ? 0 : 1);
    REQUIRE(child > 0);
    int status = -1;
    const bool ended = wait_until([&] { return waitpid(child, &status, WNOHANG) == child; });
    if (!ended) kill(child, SIGKILL);
    CHECK(ended);
    CHECK(status == 0);
    if (!ended || status != 0) break;
  }
  done = true;
  for (std::thread& thread : busy) thread.join();
  CHECK(meet(4, 4));
}
#endif

#if defined(__SSE__)
TEST_CASE("denormals are numbers, even where the caller's thread flushes them to zero") {
  constexpr unsigned kFlush = 0x8040;  // flush to zero, denormals are zero
  const unsigned saved = _mm_getcsr();
  for (const int threads : {1, 4}) {
    for (const std::int64_t row_length : {1, 1 << 20}) {
      _mm_setcsr(saved | kFlush);
      std::atomic<int> kept{0};
      const auto keeps = [] {
        volatile double tiny = std::numeric_limits<double>::denorm_min();
        return tiny > 0.0;
      };
      for_each_row_range(4, row_length, threads, [&](std::int64_t begin, std::int64_t end) {
        if (keeps()) kept += static_cast<int>(end - begin);
      });
      parallel_for(4, threads, [&](std::int64_t) { kept += keeps(); });
      const bool restored = (_mm_getcsr() & kFlush) == kFlush;
      _mm_setcsr(saved);
      CHECK(kept == 8);
      CHECK(restored);
    }
  }
}
#endif
