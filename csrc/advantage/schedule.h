// Chooses the way through [T, N] and shares it among threads.
//
// The way depends on shape and layout, never on the number of threads: the scan along time rounds
// differently, so the same call must take it everywhere or nowhere.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "advantage/cpu.h"
#include "advantage/formula.h"
#include "support/stream.h"
#include "support/thread_pool.h"

namespace ppo {

// Rows from this length on, if fewer than this, are scanned along time. Shorter ones take a few
// microseconds in the serial order; more of them fill vectors and threads anyway.
constexpr std::ptrdiff_t kScanSteps = 4096;
constexpr std::ptrdiff_t kScanRows = 32;
// Elements from which a second thread pays.
constexpr std::ptrdiff_t kThreadsFrom = 1 << 18;
// Columns that a thread gets at least: threads must not write into the same cache lines all the time.
constexpr std::ptrdiff_t kColumnBlock = 512;

template <typename Arguments>
void scan_rows(const Arguments& a, const Drivers<Arguments>& drivers, int threads) {
  const std::ptrdiff_t parts = (a.num_steps + kPart - 1) / kPart;
  const std::ptrdiff_t units = a.num_columns * parts;
  std::vector<Summary> summaries(static_cast<std::size_t>(units));
  std::vector<double> carries(static_cast<std::size_t>(units), 0.0);
  if (parts > 1) {
    parallel_for(0, units, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      drivers.summaries(a, parts, summaries.data(), begin, end);
    });
    for (std::ptrdiff_t unit = units - 1; unit > 0; --unit) {
      if (unit % parts == 0) continue;
      const auto later = static_cast<std::size_t>(unit);
      carries[later - 1] = carried_out(summaries[later], carries[later]);
    }
  }
  parallel_for(0, units, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    drivers.scan(a, parts, carries.data(), begin, end);
  });
}

template <typename Arguments>
void run_rows(const Arguments& a, const Drivers<Arguments>& drivers, int threads) {
  const std::ptrdiff_t groups = (a.num_columns + kLanes - 1) / kLanes;
  parallel_for(0, groups, threads,
               [&](std::ptrdiff_t begin, std::ptrdiff_t end) { drivers.rows(a, begin, end); });
}

// Blocks but the first start where a cache line of the results does.
template <typename Arguments>
void run_columns(const Arguments& a, const Drivers<Arguments>& drivers, int threads) {
  std::ptrdiff_t shift = 0;
  if constexpr (requires { a.advantages; }) shift = into_line(a.advantages.data);
  const std::ptrdiff_t blocks = (a.num_columns + shift + kColumnBlock - 1) / kColumnBlock;
  parallel_for(0, blocks, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    drivers.columns(a, std::max<std::ptrdiff_t>(begin * kColumnBlock - shift, 0),
                    std::min(end * kColumnBlock - shift, a.num_columns));
  });
}

template <typename Arguments>
bool is_scanned(const Arguments& a, bool exact) {
  return !exact && a.num_steps >= kScanSteps && a.num_columns < kScanRows;
}

inline int threads_for(std::ptrdiff_t elements) {
  return elements >= kThreadsFrom ? hardware_threads() : 1;
}

// Transitions [T, N]. exact: keep to the serial order, whose results are those of the plain loop, bit
// for bit. batch_major: neighbours in time lie side by side.
template <typename Arguments>
void run_transitions(const Arguments& a, bool batch_major, bool exact) {
  const Drivers<Arguments>& drivers = PPO_SELECT_ISA(advantage_kernels).of(a);
  const int threads = threads_for(a.num_steps * a.num_columns);
  if ((batch_major || a.num_columns == 1) && is_scanned(a, exact)) {
    scan_rows(a, drivers, threads);
  } else if (batch_major && a.num_columns > 1) {
    run_rows(a, drivers, threads);
  } else {
    run_columns(a, drivers, threads);
  }
}

// Sequences of tokens. Packed ones differ in length: the long ones are scanned one by one.
template <typename Arguments>
void run_tokens(Arguments a, bool exact) {
  const Drivers<Arguments>& drivers = PPO_SELECT_ISA(advantage_kernels).of(a);
  if (!a.starts) {
    const int threads = threads_for(a.num_steps * a.num_columns);
    is_scanned(a, exact) ? scan_rows(a, drivers, threads) : run_rows(a, drivers, threads);
    return;
  }
  if (!exact) a.longest = kScanSteps - 1;
  run_rows(a, drivers, threads_for(a.starts[a.num_columns]));
  if (exact) return;
  Arguments one = a;
  one.num_columns = 1;
  one.longest = PTRDIFF_MAX;
  for (std::ptrdiff_t b = 0; b < a.num_columns; ++b) {
    one.num_steps = a.starts[b + 1] - a.starts[b];
    one.first_sequence = b;
    if (one.num_steps >= kScanSteps) scan_rows(one, drivers, threads_for(one.num_steps));
  }
}

}  // namespace ppo
