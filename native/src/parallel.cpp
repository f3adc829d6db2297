#include "diffsort/parallel.h"

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace diffsort {
namespace {

// Starting and joining a thread costs about 20 us; below this many elements it does not pay.
constexpr std::int64_t kElementsPerThread = 1 << 14;

// Denormals are numbers: some frameworks (XLA) have their threads flush them to zero, in which case
// small but different values would compare equal.
class DefaultFloatEnvironment {
 public:
  DefaultFloatEnvironment() {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~DefaultFloatEnvironment() { std::fesetenv(&saved_); }
  DefaultFloatEnvironment(const DefaultFloatEnvironment&) = delete;
  DefaultFloatEnvironment& operator=(const DefaultFloatEnvironment&) = delete;

 private:
  std::fenv_t saved_;
};

// The ranges of one call, taken one after the other by whoever has time. Helpers that come late
// find nothing left and touch no more than this object, which they own a share of.
class Ranges {
 public:
  using Body = std::function<void(std::int64_t, std::int64_t)>;

  Ranges(std::int64_t rows, std::int64_t count, const Body& body)
      : rows_(rows), count_(count), body_(body) {}

  void work() noexcept {
    const DefaultFloatEnvironment environment;
    for (std::int64_t i = next_++; i < count_; i = next_++) {
      std::exception_ptr error;
      try {
        body_(begin(i), begin(i + 1));
      } catch (...) {
        error = std::current_exception();
      }
      const std::lock_guard<std::mutex> lock(mutex_);
      if (error && !error_) error_ = error;
      if (++finished_ == count_) all_finished_.notify_all();
    }
  }

  // Returns once every range that was taken is finished; called when none is left to take.
  void wait_and_rethrow() {
    std::unique_lock<std::mutex> lock(mutex_);
    all_finished_.wait(lock, [&] { return finished_ == count_; });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  // The factors stay below 2^63 / count: the product cannot overflow for any real row count.
  std::int64_t begin(std::int64_t i) const {
    return rows_ / count_ * i + std::min(i, rows_ % count_);
  }

  const std::int64_t rows_, count_;
  const Body& body_;  // lives as long as the call, in which all ranges are taken
  std::atomic<std::int64_t> next_{0};
  std::mutex mutex_;
  std::condition_variable all_finished_;
  std::int64_t finished_ = 0;
  std::exception_ptr error_;
};

// Threads for one call; where there are no more (or no memory for one), the others do the work.
void work_on_new_threads(Ranges& ranges, std::int64_t count) {
  std::vector<std::thread> threads;
  try {
    threads.reserve(static_cast<std::size_t>(count - 1));
    for (std::int64_t i = 1; i < count; ++i) threads.emplace_back([&] { ranges.work(); });
  } catch (...) {  // NOLINT: the caller does what is left
  }
  ranges.work();
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

void for_each_row_range(std::int64_t rows, std::int64_t row_length, const Workers& workers,
                        const std::function<void(std::int64_t, std::int64_t)>& body) {
  if (rows <= 0) return;
  const std::int64_t rows_per_thread =
      std::max<std::int64_t>(1, kElementsPerThread / std::max<std::int64_t>(1, row_length));
  const std::int64_t count = std::min<std::int64_t>(std::max(1, workers.threads),
                                                    (rows + rows_per_thread - 1) / rows_per_thread);
  if (count == 1) {
    const DefaultFloatEnvironment environment;
    return body(0, rows);
  }

  const auto ranges = std::make_shared<Ranges>(rows, count, body);
  if (workers.schedule) {
    for (std::int64_t i = 1; i < count; ++i) {
      if (!workers.schedule([ranges] { ranges->work(); })) break;
    }
    ranges->work();
  } else {
    work_on_new_threads(*ranges, count);
  }
  ranges->wait_and_rethrow();
}

}  // namespace diffsort
