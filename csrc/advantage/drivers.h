// How a kernel goes through [T, N], for any estimator. Three ways, chosen by shape and layout alone
// (schedule.h), so that neither threads nor instruction sets change a bit:
//
// columns  time-major: rows of many columns side by side, in the serial order.
// rows     batch-major: kLanes rows at a time, transposed in registers tile by tile; serial order.
// scan     few long rows: each row is cut into segments that are handled like rows, after a first
//          pass has found what each segment carries to the one before it. Rounds differently.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <limits>

#include "advantage/recurrence.h"
#include "advantage/runs.h"
#include "support/transpose.h"

namespace ppo::inline PPO_ISA {

// Columns from which one loop over them is better than three over a run, and those of a block that is
// gone through row by row: the row that is carried fits the first-level cache.
constexpr std::ptrdiff_t kFusedFrom = 16;
constexpr std::ptrdiff_t kWideBlock = 4 * kRun;

template <typename Estimator, typename Arguments>
void drive_columns(const Arguments& a, std::ptrdiff_t begin, std::ptrdiff_t end) {
  using T = typename Arguments::Value;
  Estimator estimator(a);
  constexpr bool kFuses = requires(Span span, T* carry) { estimator.fused(span, carry); };
  // The rows of a span, and the one that is carried in; the latter alone if they are fused.
  alignas(64) T advantage[kFuses ? kWideBlock : 2 * kRun];
  std::ptrdiff_t columns = 0;
  for (std::ptrdiff_t n = begin; n < end; n += columns) {
    columns = kRun;
    if constexpr (kFuses) columns = estimator.fused_block(n, kWideBlock);
    columns = end - n < columns ? end - n : columns;
    const std::ptrdiff_t rows = columns < kRun ? kRun / columns : 1;
    for (std::ptrdiff_t i = 0; i < columns; ++i) advantage[i] = T(0);
    std::ptrdiff_t t = a.num_steps;
    while (t > 0) {
      const std::ptrdiff_t steps = t < rows ? t : rows;
      t -= steps;
      if constexpr (kFuses) {
        if (columns >= kFusedFrom) {
          for (std::ptrdiff_t done = 0; done < columns; done += kRun) {
            const std::ptrdiff_t part = columns - done < kRun ? columns - done : kRun;
            estimator.fused({t, steps, n + done, part}, advantage + done);
          }
          continue;
        }
      }
      const Span span = {t, steps, n, columns};
      std::memcpy(advantage + span.size(), advantage,
                  static_cast<std::size_t>(columns) * sizeof(T));
      estimator.front(span);
      recur_tile(estimator.delta, estimator.coefficient, advantage, steps, columns);
      estimator.back(span, advantage, advantage + columns);
    }
  }
}

template <typename T>
struct Tiles {  // [kLaneSteps, kLanes]
  alignas(64) T delta[kRun];
  alignas(64) T coefficient[kRun];
  alignas(64) T advantage[kRun + kLanes];  // and the row that is carried in
};

// Groups of kLanes rows.
template <typename Estimator, typename Arguments>
void drive_rows(const Arguments& a, std::ptrdiff_t begin, std::ptrdiff_t end) {
  using T = typename Arguments::Value;
  Estimator estimator(a);
  Tiles<T> tiles;
  alignas(64) T advantage[kRun];
  alignas(64) T later[kRun];
  for (std::ptrdiff_t group = begin; group < end; ++group) {
    const std::ptrdiff_t n = group * kLanes;
    const std::ptrdiff_t lanes = std::min(kLanes, a.num_columns - n);
    std::ptrdiff_t longest = 0;
    for (std::ptrdiff_t l = 0; l < lanes; ++l) {
      longest = std::max(longest, estimator.num_steps(n + l));
    }
    estimator.start(n, lanes, longest);
    for (T& x : tiles.delta) x = T(0);  // lanes without a row
    for (T& x : tiles.coefficient) x = T(0);
    for (T& x : tiles.advantage) x = T(0);
    std::ptrdiff_t t = longest;
    while (t > 0) {
      const std::ptrdiff_t steps = std::min(kLaneSteps, t);
      t -= steps;
      const Span span = {t, steps, n, lanes, Order::kColumnByColumn};
      estimator.front(span);
      transpose(estimator.delta, steps, lanes, steps, tiles.delta, kLanes);
      transpose(estimator.coefficient, steps, lanes, steps, tiles.coefficient, kLanes);
      std::memcpy(tiles.advantage + steps * kLanes, tiles.advantage, sizeof(T) * kLanes);
      recur_lanes(tiles.delta, tiles.coefficient, tiles.advantage, steps);
      transpose(tiles.advantage, kLanes, steps, lanes, advantage, steps);
      if constexpr (Estimator::kNeedsLater) {
        transpose(tiles.advantage + kLanes, kLanes, steps, lanes, later, steps);
      }
      estimator.back(span, advantage, later);
    }
  }
}

// Makes delta and c of the kRun steps of a row from t on, fewer at its end, as tiles whose lanes are
// segments of the row. Steps behind the end pass on what is carried in.
template <typename Estimator, typename T>
Span segment_tiles(Estimator& estimator, std::ptrdiff_t n, std::ptrdiff_t t, Tiles<T>& tiles) {
  const Span span = {t, std::min(kRun, estimator.num_steps(n) - t), n, 1};
  estimator.front(span);
  for (std::ptrdiff_t i = span.steps; i < kRun; ++i) {
    estimator.delta[i] = T(0);
    estimator.coefficient[i] = T(1);
  }
  transpose(estimator.delta, kLaneSteps, kLanes, kLaneSteps, tiles.delta, kLanes);
  transpose(estimator.coefficient, kLaneSteps, kLanes, kLaneSteps, tiles.coefficient, kLanes);
  return span;
}

// What is carried over a part decays. Below this it is lost in the rounding of even the largest
// number that T has, so that the rest of the part need not be read.
template <typename T>
constexpr double kNegligible = std::numeric_limits<T>::min() * std::numeric_limits<T>::min();

// Summaries of parts of rows, kPart steps each: part p of row n is at [n * parts + p].
template <typename Estimator, typename Arguments>
void drive_summaries(const Arguments& a, std::ptrdiff_t parts, Summary* out, std::ptrdiff_t begin,
                     std::ptrdiff_t end) {
  using T = typename Arguments::Value;
  Estimator estimator(a);
  Tiles<T> tiles;
  for (std::ptrdiff_t unit = begin; unit < end; ++unit) {
    if (unit % parts == 0) continue;  // nothing comes before the first part
    const std::ptrdiff_t n = unit / parts;
    const std::ptrdiff_t first = unit % parts * kPart;
    const std::ptrdiff_t last = std::min(first + kPart, estimator.num_steps(n));
    Summary blocks[kPart / kRun];
    std::ptrdiff_t count = 0;
    double remaining = 1;
    for (std::ptrdiff_t t = first; t < last && !(remaining <= kNegligible<T>); t += kRun) {
      Summary segments[kLanes];
      estimator.start(n, 1, std::min(t + kRun, last));
      segment_tiles(estimator, n, t, tiles);
      summarize_lanes(tiles.delta, tiles.coefficient, segments);
      Summary block = segments[kLanes - 1];
      for (std::ptrdiff_t l = kLanes - 2; l >= 0; --l) block = joined(segments[l], block);
      blocks[count++] = block;
      remaining *= block.c;
    }
    Summary part = {0, remaining <= kNegligible<T> ? 0.0 : 1.0};
    while (count-- > 0) part = joined(blocks[count], part);
    out[unit] = part;
  }
}

// Results of parts of rows; carries[n * parts + p] is what comes into part p of row n.
template <typename Estimator, typename Arguments>
void drive_scan(const Arguments& a, std::ptrdiff_t parts, const double* carries,
                std::ptrdiff_t begin, std::ptrdiff_t end) {
  using T = typename Arguments::Value;
  Estimator estimator(a);
  Tiles<T> tiles;
  alignas(64) T advantage[kRun + 1];
  for (std::ptrdiff_t unit = begin; unit < end; ++unit) {
    const std::ptrdiff_t n = unit / parts;
    const std::ptrdiff_t first = unit % parts * kPart;
    const std::ptrdiff_t last = std::min(first + kPart, estimator.num_steps(n));
    double carry = carries[unit];
    estimator.start(n, 1, last);
    for (std::ptrdiff_t t = first + (last - 1 - first) / kRun * kRun; t >= first; t -= kRun) {
      const Span span = segment_tiles(estimator, n, t, tiles);
      Summary segments[kLanes];
      summarize_lanes(tiles.delta, tiles.coefficient, segments);
      advantage[kRun] = static_cast<T>(carry);
      for (std::ptrdiff_t l = kLanes - 1; l >= 0; --l) {
        tiles.advantage[kRun + l] = static_cast<T>(carry);
        carry = carried_out(segments[l], carry);
      }
      recur_lanes(tiles.delta, tiles.coefficient, tiles.advantage, kLaneSteps);
      transpose(tiles.advantage, kLanes, kLaneSteps, kLanes, advantage, kLaneSteps);
      estimator.back(span, advantage, advantage + 1);
    }
  }
}

}  // namespace ppo::inline PPO_ISA
