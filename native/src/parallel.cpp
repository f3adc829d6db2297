#include "diffsort/parallel.h"

#include <algorithm>
#include <cfenv>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#define DIFFSORT_CAN_FORK
#include <pthread.h>
#endif

namespace diffsort {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;

// Waking a thread takes 5 to 30 us on a virtual machine, and as much of the waker's own time. Who
// has to wait therefore looks on for as long before it sleeps.
constexpr microseconds kSpin(50);

// Work that pays for a thread, by whether it looks on or sleeps.
constexpr microseconds kWorthCalling(15), kWorthWaking(50);

// More helpers than cores gain nothing, and a setting may be far more than was meant (2147483647).
constexpr std::int64_t kMostHelpers = 64;

// Denormals are numbers: some frameworks (XLA) have their threads flush them to zero, in which case
// small but different values would compare equal.
class DefaultFloatEnvironment {
 public:
  DefaultFloatEnvironment() : saved_(get()) { reset(); }
  ~DefaultFloatEnvironment() { set(saved_); }
  DefaultFloatEnvironment(const DefaultFloatEnvironment&) = delete;
  DefaultFloatEnvironment& operator=(const DefaultFloatEnvironment&) = delete;

 private:
#if defined(__x86_64__) || defined(_M_X64)
  // <cfenv> sees to the x87 unit as well, which costs 250 ns a call and is not used here.
  using State = unsigned;
  static State get() { return _mm_getcsr(); }
  static void set(State state) { _mm_setcsr(state); }
  static void reset() { set(0x1f80); }  // to nearest, nothing flushed, nothing trapped
#else
  using State = std::fenv_t;
  static State get() {
    State state;
    std::fegetenv(&state);
    return state;
  }
  static void set(const State& state) { std::fesetenv(&state); }
  static void reset() { std::fesetenv(FE_DFL_ENV); }
#endif

  const State saved_;
};

// The threads at work on one call: the caller, and helpers as they come. One that comes after the
// call touches no more than this object, which it owns a share of.
class SharedCall {
 public:
  explicit SharedCall(const std::function<void()>& work) : work_(work) {}

  void work() noexcept {
    const DefaultFloatEnvironment environment;
    try {
      work_();
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }

  void help() noexcept {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (closed_) return;
      ++helpers_;
    }
    work();
    const std::lock_guard<std::mutex> lock(mutex_);
    if (--helpers_ == 0) no_helpers_.notify_one();
  }

  // Called by the caller when no work is left to take: waits for the helpers that have begun.
  void close_and_rethrow() {
    for (const auto end = Clock::now() + kSpin; helpers_ > 0 && Clock::now() < end;) {
    }
    std::unique_lock<std::mutex> lock(mutex_);
    closed_ = true;
    no_helpers_.wait(lock, [&] { return helpers_ == 0; });
    if (error_) std::rethrow_exception(std::move(error_));  // the last helper owns no part of it
  }

 private:
  const std::function<void()>& work_;  // lives until the call is closed
  std::mutex mutex_;
  std::condition_variable no_helpers_;
  std::atomic<int> helpers_{0};  // written under the mutex
  bool closed_ = false;
  std::exception_ptr error_;
};

// Threads that live as long as the process, as many as one call has wanted at most. They are never
// joined and the pool is never destroyed: at the end of a process they sleep, or serve a caller who
// is still at work, and to join threads while a library is unloaded is a deadlock on Windows.
class Pool {
 public:
  // Has up to `helpers` threads help with the call, until the offer is withdrawn.
  void offer(const std::shared_ptr<SharedCall>& call, std::int64_t helpers) {
    helpers = std::min(helpers, most_);
    bool wake = false;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      start_threads(helpers);
      offers_.push_back({call, helpers});
      open_offers_ = offers_.size();
      wake = looking_ < helpers;
    }
    if (wake) offered_.notify_one();  // who wakes the next: the caller has better things to do
  }

  // Whether threads would see an offer without being woken.
  bool looks_on() const { return looking_ > 0; }

  void withdraw(const std::shared_ptr<SharedCall>& call) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = std::find_if(offers_.begin(), offers_.end(),
                                    [&](const Offer& offer) { return offer.call == call; });
    if (found != offers_.end()) offers_.erase(found);
    open_offers_ = offers_.size();
  }

 private:
  struct Offer {
    std::shared_ptr<SharedCall> call;
    std::int64_t helpers;  // still wanted
  };

  void start_threads(std::int64_t count) {
    try {
      for (; threads_ < count; ++threads_) std::thread([this] { serve(); }).detach();
    } catch (...) {  // NOLINT: where there are no more threads, the others do the work
    }
  }

  void serve() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      offered_.wait(lock, [&] { return !offers_.empty(); });
      const std::shared_ptr<SharedCall> call = take_offer();
      const bool more = !offers_.empty();
      lock.unlock();
      if (more) {
        offered_.notify_one();
        offered_.notify_one();
      }
      call->help();
      lock.lock();
      if (threads_ < cores_) look_on(lock);
    }
  }

  std::shared_ptr<SharedCall> take_offer() {
    Offer& offer = offers_.front();
    std::shared_ptr<SharedCall> call = offer.call;
    if (--offer.helpers == 0) offers_.pop_front();
    open_offers_ = offers_.size();
    return call;
  }

  // Calls often come in quick succession, a backward pass after the forward pass.
  void look_on(std::unique_lock<std::mutex>& lock) {
    ++looking_;
    lock.unlock();
    const auto end = Clock::now() + kSpin;
    while (open_offers_ == 0 && Clock::now() < end) std::this_thread::yield();
    lock.lock();
    --looking_;
  }

  const std::int64_t cores_ = std::thread::hardware_concurrency();
  const std::int64_t most_ = std::max<std::int64_t>(cores_, kMostHelpers);
  std::mutex mutex_;
  std::condition_variable offered_;
  std::deque<Offer> offers_;
  std::atomic<std::size_t> open_offers_{0};
  std::int64_t threads_ = 0;
  std::atomic<std::int64_t> looking_{0};
};

std::atomic<Pool*> pool{nullptr};

// A forked child has none of the pool's threads, and its mutex may be locked for ever: the child
// gets a new pool.
#ifdef DIFFSORT_CAN_FORK
const bool fork_is_safe = pthread_atfork(nullptr, nullptr, [] { pool = nullptr; }) == 0;
#else
constexpr bool fork_is_safe = true;
#endif

Pool& the_pool() {
  Pool* existing = pool;
  if (existing != nullptr) return *existing;
  auto fresh = std::make_unique<Pool>();
  return pool.compare_exchange_strong(existing, fresh.get()) ? *fresh.release() : *existing;
}

microseconds worth_a_thread(const Workers& workers) {
  const Pool* const own = workers.schedule ? nullptr : pool.load();
  return own != nullptr && own->looks_on() ? kWorthCalling : kWorthWaking;
}

// Calls work() on the caller's thread and at the same time on others, as they come.
void on_threads(std::int64_t threads, const Workers& workers, const std::function<void()>& work) {
  const auto call = std::make_shared<SharedCall>(work);
  Pool* const own = workers.schedule || !fork_is_safe ? nullptr : &the_pool();
  try {
    if (own) own->offer(call, threads - 1);
    for (std::int64_t i = 1; workers.schedule && i < threads; ++i) {
      if (!workers.schedule([call] { call->help(); })) break;
    }
  } catch (...) {  // NOLINT: where others cannot be called, the caller does the work
  }
  call->work();
  if (own) own->withdraw(call);
  call->close_and_rethrow();
}

// A range is long enough to cost more than to take it, and short enough for the last ones to end at
// about the same time.
constexpr std::int64_t kElementsPerRange = 1 << 10;
constexpr std::int64_t kRangesPerThread = 32;

// More elements than these are worth a second thread whatever they cost.
constexpr std::int64_t kElementsWorthWaking = 1 << 15;

}  // namespace

void parallel_for(std::int64_t count, const Workers& workers,
                  const std::function<void(std::int64_t)>& body) {
  std::atomic<std::int64_t> next{0};
  const auto work = [&] {
    for (std::int64_t i = next++; i < count; i = next++) body(i);
  };
  const auto threads = std::min<std::int64_t>(workers.threads, count);
  if (threads > 1) return on_threads(threads, workers, work);
  const DefaultFloatEnvironment environment;
  work();
}

// A row that has to be sorted costs thirty times what one in a single block does, so time has to
// tell whether others are worth calling: the caller begins alone, unless its first range would be
// much of the work.
RowRanges::RowRanges(std::int64_t rows, std::int64_t row_length, const Workers& workers)
    : workers_(workers), rows_(rows) {
  const auto threads = std::min<std::int64_t>(std::max(1, workers.threads), rows);
  const std::int64_t length = std::max<std::int64_t>(1, row_length);
  const std::int64_t shortest = std::max<std::int64_t>(1, kElementsPerRange / length);
  step_ = threads == 1 ? rows : std::max(shortest, rows / (kRangesPerThread * threads));
  const bool is_fine = step_ <= rows / 16, is_small = rows <= kElementsWorthWaking / length;
  team_ = is_fine || is_small ? 1 : std::min(threads, (rows + step_ - 1) / step_);
}

std::int64_t RowRanges::threads_worth_calling() {
  const std::int64_t done = next_, left = rows_ - done;
  if (left <= step_) return 1;
  const Clock::time_point now = Clock::now();
  if (done == 0) {
    start_ = now;
    return 1;
  }
  const double left_per_done = static_cast<double>(left) / static_cast<double>(done);
  const double worth = (now - start_) * left_per_done / worth_a_thread(workers_);
  const auto most = std::min<std::int64_t>(workers_.threads, (left + step_ - 1) / step_);
  return worth < static_cast<double>(most) ? static_cast<std::int64_t>(worth) : most;
}

bool RowRanges::take(std::int64_t& begin, std::int64_t& end) {
  std::int64_t step = step_;
  if (team_ == 1) {
    team_ = std::max<std::int64_t>(1, threads_worth_calling());
    if (team_ > 1) return false;
    step = std::max<std::int64_t>(step, next_);  // the next look when twice as much is done
  }
  begin = next_.fetch_add(step, std::memory_order_relaxed);
  end = std::min(begin + step, rows_);
  return begin < rows_;
}

void share_rows(std::int64_t rows, std::int64_t row_length, const Workers& workers,
                const std::function<void(RowRanges&)>& work) {
  if (rows <= 0) return;
  RowRanges ranges(rows, row_length, workers);
  if (ranges.team_ == 1) {
    const DefaultFloatEnvironment environment;
    work(ranges);
  }
  if (ranges.team_ > 1) on_threads(ranges.team_, workers, [&] { work(ranges); });
}

}  // namespace diffsort
