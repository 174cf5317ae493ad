#include "support/thread_pool.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
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
  int threads = 0;
  int ranges = 0;           // sizes differ by one at most
  std::uint64_t epoch = 0;  // counts the jobs of the pool

  void run(int r) const {
    const std::ptrdiff_t size = end - begin;
    function(body, begin + size * r / ranges, begin + size * (r + 1) / ranges);
  }
  // The first range of a thread's share.
  int first(int thread) const {
    return static_cast<int>(static_cast<std::int64_t>(ranges) * thread / threads);
  }
};

class Pool {
 public:
  static constexpr int kMostThreads = 256;  // of a job: more are not put to use

  // False where the pool is busy.
  bool try_run(Job job) {
    if (busy_.exchange(true, std::memory_order_acquire)) return false;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      start_workers(job.threads - 1);
      job.epoch = epoch_.load(std::memory_order_relaxed) + 1;
      job_ = job;
      pending_.store(job.ranges, std::memory_order_relaxed);
      epoch_.store(job.epoch, std::memory_order_release);
    }
    wake_.notify_all();
    run_ranges(job, 0);
    wait_for_workers();
    const std::exception_ptr error = std::exchange(error_, nullptr);
    busy_.store(false, std::memory_order_release);
    if (error) std::rethrow_exception(error);
    return true;
  }

 private:
  // How many ranges of a thread's share are taken, and in which job: one number, so that a thread that comes
  // late to a job takes nothing of the next one.
  struct alignas(64) Cursor {
    std::atomic<std::uint64_t> value{0};  // epoch * kEpoch + taken
  };
  static constexpr std::uint64_t kEpoch = 2 * kMostPieces;  // more than is ever taken

  // Makes up to `wanted` workers. The system may refuse some: the others do their shares.
  void start_workers(int wanted) {
    try {
      // A new worker waits for the epoch after this one, which is the job posted next.
      while (static_cast<int>(workers_.size()) < wanted) {
        const int thread = static_cast<int>(workers_.size()) + 1;
        workers_.emplace_back(&Pool::work, this, thread, epoch_.load(std::memory_order_relaxed));
      }
    } catch (const std::system_error&) {
    }
  }

  [[noreturn]] void work(int thread, std::uint64_t seen) {
    bool has_part = false;
    while (true) {
      wait_for_job(seen, has_part);
      Job job;
      {
        // Nobody waits for a worker that has taken nothing: the next job may be posted just now.
        std::lock_guard<std::mutex> lock(mutex_);
        job = job_;
      }
      seen = job.epoch;
      has_part = thread < job.threads;
      if (has_part && run_ranges(job, thread)) {
        std::lock_guard<std::mutex> lock(mutex_);
        done_.notify_one();
      }
    }
  }

  // Runs what nobody has begun, of the thread's own share first. True if the last of the job was among it.
  bool run_ranges(const Job& job, int thread) {
    for (int k = 0; k < job.threads; ++k) {
      const int owner = (thread + k) % job.threads;
      int count = 0;
      for (int r = take(job, owner); r >= 0; r = take(job, owner)) {
        run_range(job, r);
        ++count;
      }
      // Share by share: the caller need not wait until a look at all others finds nothing.
      if (count > 0 && pending_.fetch_sub(count, std::memory_order_acq_rel) == count) return true;
    }
    return false;
  }

  // A range of a thread's share that nobody has begun, or -1.
  int take(const Job& job, int owner) {
    const int first = job.first(owner);
    const auto share = static_cast<std::uint64_t>(job.first(owner + 1) - first);
    std::atomic<std::uint64_t>& cursor = cursors_[owner].value;
    std::uint64_t seen = cursor.load(std::memory_order_relaxed);
    while (true) {
      if (seen / kEpoch > job.epoch) return -1;
      const std::uint64_t taken = seen / kEpoch == job.epoch ? seen % kEpoch : 0;
      if (taken == share) return -1;
      const std::uint64_t next = job.epoch * kEpoch + taken + 1;
      if (cursor.compare_exchange_weak(seen, next, std::memory_order_relaxed)) {
        return first + static_cast<int>(taken);
      }
    }
  }

  // A worker looks for work for a while before it sleeps, as those of OpenMP do: rollouts and updates post a
  // job every few microseconds, with up to a millisecond of Python in between, and waking a thread that
  // sleeps costs more than most jobs. One that had no part in the last job sleeps soon.
  void wait_for_job(std::uint64_t seen, bool had_part) {
    const Clock::time_point start = Clock::now();
    do {
      for (int spin = 0; spin < kSpins; ++spin) {
        if (epoch_.load(std::memory_order_acquire) != seen) return;
        pause();
      }
    } while (had_part && Clock::now() - start < kAwake);
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
  std::atomic<std::uint64_t> epoch_{0};
  std::atomic<int> pending_{0};  // ranges that have not ended
  std::array<Cursor, kMostThreads> cursors_;
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

void detail::parallel_for(std::ptrdiff_t begin, std::ptrdiff_t end, int threads, int pieces,
                          RangeFunction function, void* body) {
  if (end <= begin) return;
  Job job{function, body, begin, end};
  const auto within = [&](std::ptrdiff_t count, std::ptrdiff_t most) {
    return static_cast<int>(std::clamp<std::ptrdiff_t>(count, 1, std::min(most, end - begin)));
  };
  job.threads = within(threads, Pool::kMostThreads);
  if (job.threads == 1) {
    function(body, begin, end);
    return;
  }
  job.ranges = within(static_cast<std::ptrdiff_t>(job.threads) * pieces,
                      static_cast<std::ptrdiff_t>(job.threads) * kMostPieces);
  if (pool().try_run(job)) return;
  for (int r = 0; r < job.ranges; ++r) job.run(r);
}

}  // namespace ppo
