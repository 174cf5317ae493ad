// Drives the thread pool hard; meant for ThreadSanitizer, and a test of its own.
#include "support/thread_pool.h"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "check.h"

namespace {

void covers_every_element_once() {
  for (int threads : {0, 1, 2, 3, 5}) {
    for (std::ptrdiff_t size : {0, 1, 2, 7, 1000}) {
      for (int pieces : {-1, 0, 1, 3, ppo::kMostPieces, 10 * ppo::kMostPieces}) {
        std::vector<int> hits(static_cast<std::size_t>(size), 0);
        const auto hit = [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
          for (std::ptrdiff_t i = begin; i < end; ++i) ++hits[static_cast<std::size_t>(i)];
        };
        ppo::parallel_for(0, size, threads, hit, pieces);
        CHECK(std::accumulate(hits.begin(), hits.end(), 0) == size);
        for (int count : hits) CHECK(count == 1);
      }
    }
  }
}

// Comes last: from then on every job wakes all these workers.
void more_threads_than_take_part() {
  for (int pieces : {1, 3}) {
    std::atomic<int> total{0};
    ppo::parallel_for(
        0, 1000, 300,
        [&](std::ptrdiff_t begin, std::ptrdiff_t end) { total += static_cast<int>(end - begin); },
        pieces);
    CHECK(total == 1000);
  }
}

// Jobs in quick succession, and jobs after the workers have gone to sleep.
void many_jobs() {
  std::vector<double> values(64, 0);
  for (int round = 0; round < 20000; ++round) {
    if (round % 5000 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    ppo::parallel_for(0, 64, 3, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      for (std::ptrdiff_t i = begin; i < end; ++i) values[static_cast<std::size_t>(i)] += 1;
    });
  }
  for (double value : values) CHECK(value == 20000);
}

// A range that takes long holds nothing up: it ends only once all others, of the same share too, have.
void slow_thread_is_helped() {
  for (std::ptrdiff_t slow : {0, 5}) {
    std::atomic<int> ended{0};
    ppo::parallel_for(
        0, 8, 2,
        [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
          CHECK(end == begin + 1);
          if (begin == slow) {
            while (ended != 7) std::this_thread::yield();
          }
          ++ended;
        },
        4);
    CHECK(ended == 8);
  }
}

// A job that is over before its workers are awake is not theirs, nor is the next one taken for it.
void late_workers() {
  for (int round = 0; round < 300; ++round) {
    if (round % 3 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(3));
    for (int job = 0; job < 5; ++job) {
      std::vector<std::atomic<int>> hits(4);
      ppo::parallel_for(0, 4, 4, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        for (std::ptrdiff_t i = begin; i < end; ++i) ++hits[static_cast<std::size_t>(i)];
      });
      for (const std::atomic<int>& count : hits) CHECK(count == 1);
    }
  }
}

// After a wide job there are more workers than a narrow one has ranges.
void narrow_after_wide() {
  for (int round = 0; round < 2000; ++round) {
    for (int threads : {8, 2, 3, 5, 2}) {
      std::atomic<long> total{0};
      ppo::parallel_for(0, 100, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        for (std::ptrdiff_t i = begin; i < end; ++i) total += i;
      });
      CHECK(total == 4950);
    }
  }
}

void carries_exceptions() {
  for (std::ptrdiff_t thrower : {0, 9}) {
    for (int pieces : {1, 3}) {
      std::atomic<int> ran{0};
      bool caught = false;
      const auto body = [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        ++ran;
        if (begin <= thrower && thrower < end) throw std::runtime_error("boom");
      };
      try {
        ppo::parallel_for(0, 10, 3, body, pieces);
      } catch (const std::runtime_error& error) {
        caught = std::string(error.what()) == "boom";
      }
      CHECK(caught);
      CHECK(ran == 3 * pieces);
    }
  }
  covers_every_element_once();  // the pool is still good
}

void serves_several_callers_and_nested_calls() {
  std::atomic<long> total{0};
  const auto call = [&] {
    for (int round = 0; round < 500; ++round) {
      ppo::parallel_for(0, 8, 2, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        ppo::parallel_for(begin, end, 2,
                          [&](std::ptrdiff_t b, std::ptrdiff_t e) { total += e - b; });
      });
    }
  };
  std::thread first(call);
  std::thread second(call);
  call();
  first.join();
  second.join();
  CHECK(total == 3 * 500 * 8);
}

// The child has none of the parent's threads and must start its own. ThreadSanitizer does not
// follow a fork of a threaded program, so this part is left out there.
void works_after_fork() {
#if !defined(__SANITIZE_THREAD__)
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    alarm(20);
    covers_every_element_once();
    _exit(0);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  covers_every_element_once();
#endif
}

}  // namespace

int main() {
  covers_every_element_once();
  many_jobs();
  slow_thread_is_helped();
  late_workers();
  narrow_after_wide();
  carries_exceptions();
  serves_several_callers_and_nested_calls();
  works_after_fork();
  more_threads_than_take_part();
  return 0;
}
