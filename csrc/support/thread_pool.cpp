#include "support/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <fstream>
#include <limits>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace ppo {
namespace {

void pause() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#endif
}

struct Job {
  detail::RangeFunction function = nullptr;
  void* body = nullptr;
  std::ptrdiff_t begin = 0;
  std::ptrdiff_t end = 0;
  int ranges = 0;

  // Range r of `ranges`: sizes differ by one at most.
  void run(int r) const {
    const std::ptrdiff_t size = end - begin;
    function(body, begin + size * r / ranges, begin + size * (r + 1) / ranges);
  }
};

class Pool {
 public:
  // False where the pool is busy.
  bool try_run(const Job& job) {
    if (busy_.exchange(true, std::memory_order_acquire)) return false;
    int helpers = 0;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      helpers = start_workers(job.ranges - 1);
      job_ = job;
      pending_.store(helpers, std::memory_order_relaxed);
      epoch_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    run_range(job, 0);
    for (int r = helpers + 1; r < job.ranges; ++r) run_range(job, r);
    wait_for_workers();
    const std::exception_ptr error = std::exchange(error_, nullptr);
    busy_.store(false, std::memory_order_release);
    if (error) std::rethrow_exception(error);
    return true;
  }

 private:
  // Makes up to `wanted` workers and returns how many there are for the job: the system may refuse some.
  int start_workers(int wanted) {
    try {
      // A new worker waits for the epoch after this one, which is the job posted next.
      while (static_cast<int>(workers_.size()) < wanted) {
        const int index = static_cast<int>(workers_.size());
        workers_.emplace_back(&Pool::work, this, index, epoch_.load(std::memory_order_relaxed));
      }
    } catch (const std::system_error&) {
      // The caller does what no worker is there for.
    }
    return std::min(wanted, static_cast<int>(workers_.size()));
  }

  [[noreturn]] void work(int index, unsigned seen) {
    bool has_worked = false;
    while (true) {
      wait_for_job(seen, has_worked);
      Job job;
      {
        // A worker without a part in a job may get here when the next one is being posted.
        std::lock_guard<std::mutex> lock(mutex_);
        seen = epoch_.load(std::memory_order_relaxed);
        job = job_;
      }
      has_worked = index + 1 < job.ranges;
      if (!has_worked) continue;
      run_range(job, index + 1);
      if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        std::lock_guard<std::mutex> lock(mutex_);
        done_.notify_one();
      }
    }
  }

  // A worker looks for work for a while before it sleeps, as those of OpenMP do: rollouts and updates post a
  // job every few microseconds, with up to a millisecond of Python in between, and waking a thread that
  // sleeps costs more than most jobs. One that had no part in the last job sleeps soon.
  void wait_for_job(unsigned seen, bool has_worked) {
    const Clock::time_point start = Clock::now();
    do {
      for (int spin = 0; spin < kSpins; ++spin) {
        if (epoch_.load(std::memory_order_acquire) != seen) return;
        pause();
      }
    } while (has_worked && Clock::now() - start < kAwake);
    std::unique_lock<std::mutex> lock(mutex_);
    wake_.wait(lock, [&] { return epoch_.load(std::memory_order_acquire) != seen; });
  }

  void wait_for_workers() {
    for (int spin = 0; spin < kSpins; ++spin) {
      if (pending_.load(std::memory_order_acquire) == 0) return;
      pause();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [&] { return pending_.load(std::memory_order_acquire) == 0; });
  }

  void run_range(const Job& job, int r) {
    try {
      job.run(r);
    } catch (...) {
      std::lock_guard<std::mutex> lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }

  using Clock = std::chrono::steady_clock;
  static constexpr int kSpins = 1000;  // about ten microseconds
  static constexpr std::chrono::milliseconds kAwake{1};

  std::atomic<bool> busy_{false};  // set by the thread whose job is running
  std::mutex mutex_;               // guards what follows, and the two conditions
  std::condition_variable wake_;
  std::condition_variable done_;
  std::vector<std::thread> workers_;
  Job job_;
  std::exception_ptr error_;
  std::atomic<unsigned> epoch_{0};
  std::atomic<int> pending_{0};
};

// Never destroyed: joining threads while the interpreter and its libraries are being unloaded is a
// known source of hangs. The operating system ends sleeping workers with the process.
std::atomic<Pool*> shared_pool{nullptr};

Pool& pool() {
  Pool* current = shared_pool.load(std::memory_order_acquire);
  if (current != nullptr) return *current;
#if defined(__unix__) || defined(__APPLE__)
  // A forked child has none of its parent's threads: it forgets the pool and starts anew.
  static const int registered = pthread_atfork(
      nullptr, nullptr, [] { shared_pool.store(nullptr, std::memory_order_release); });
  (void)registered;
#endif
  auto fresh = std::make_unique<Pool>();
  if (shared_pool.compare_exchange_strong(current, fresh.get())) return *fresh.release();
  return *current;
}

}  // namespace

#if defined(__linux__)
namespace {

// Processors that a container's time is worth (cgroup v2), of which its affinity tells nothing.
int quota_threads() {
  static const int threads = [] {
    std::ifstream file("/sys/fs/cgroup/cpu.max");
    long long quota = 0;
    long long period = 0;
    if (!(file >> quota >> period) || quota <= 0 || period <= 0) {  // "max": no limit
      return std::numeric_limits<int>::max();
    }
    return static_cast<int>((quota + period - 1) / period);
  }();
  return threads;
}

}  // namespace
#endif

int hardware_threads() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    return std::clamp(CPU_COUNT(&set), 1, quota_threads());
  }
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void detail::parallel_for(std::ptrdiff_t begin, std::ptrdiff_t end, int threads,
                          RangeFunction function, void* body) {
  const int ranges = static_cast<int>(std::min<std::ptrdiff_t>(threads, end - begin));
  if (ranges <= 0) return;
  const Job job{function, body, begin, end, ranges};
  if (ranges > 1 && pool().try_run(job)) return;
  for (int r = 0; r < ranges; ++r) job.run(r);
}

}  // namespace ppo
