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

template <typename Estimator, typename Arguments>
void drive_columns(const Arguments& a, std::ptrdiff_t begin, std::ptrdiff_t end) {
  using T = typename Arguments::Value;
  Estimator estimator(a);
  alignas(64) T advantage[2 * kRun];
  for (std::ptrdiff_t n = begin; n < end; n += kRun) {
    const std::ptrdiff_t columns = end - n < kRun ? end - n : kRun;
    const std::ptrdiff_t rows = kRun / columns;
    for (std::ptrdiff_t i = 0; i < columns; ++i) advantage[i] = T(0);
    std::ptrdiff_t t = a.num_steps;
    while (t > 0) {
      const std::ptrdiff_t steps = t < rows ? t : rows;
      t -= steps;
      const Span span = {t, steps, n, columns};
      std::memcpy(advantage + span.size(), advantage, static_cast<std::size_t>(columns) * sizeof(T));
      estimator.front(span, 0, 0);
      recur(estimator.delta, estimator.coefficient, advantage, steps, columns);
      estimator.back(span, 0, advantage, advantage + columns);
    }
  }
  if (a.streaming) fence();
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
  constexpr std::ptrdiff_t kStride = kLaneSteps + 8;  // one step more than a lane has
  Estimator estimator(a);
  Tiles<T> tiles;
  alignas(64) T advantage[kLanes * kStride];
  for (std::ptrdiff_t group = begin; group < end; ++group) {
    const std::ptrdiff_t first = group * kLanes;
    const std::ptrdiff_t lanes = std::min(kLanes, a.num_columns - first);
    std::ptrdiff_t longest = 0;
    for (std::ptrdiff_t l = 0; l < lanes; ++l) {
      const std::ptrdiff_t length = estimator.num_steps(first + l);
      longest = std::max(longest, length);
      estimator.start(l, first + l, length);
    }
    for (T& x : tiles.advantage) x = T(0);
    const std::ptrdiff_t tile_count = (longest + kLaneSteps - 1) / kLaneSteps;
    for (std::ptrdiff_t t = (tile_count - 1) * kLaneSteps; t >= 0; t -= kLaneSteps) {
      const std::ptrdiff_t rows = std::min(kLaneSteps, longest - t);
      const auto steps_of = [&](std::ptrdiff_t l) {
        return std::clamp(estimator.num_steps(first + l) - t, std::ptrdiff_t(0), rows);
      };
      for (std::ptrdiff_t l = 0; l < kLanes; ++l) {
        const std::ptrdiff_t steps = l < lanes ? steps_of(l) : 0;
        if (steps > 0) estimator.front({t, steps, first + l, 1}, l * kLaneSteps, l);
        for (std::ptrdiff_t i = steps; i < rows; ++i) {  // carries on what comes in: nothing
          estimator.delta[l * kLaneSteps + i] = T(0);
          estimator.coefficient[l * kLaneSteps + i] = T(1);
        }
      }
      transpose(estimator.delta, kLaneSteps, kLanes, rows, tiles.delta, kLanes);
      transpose(estimator.coefficient, kLaneSteps, kLanes, rows, tiles.coefficient, kLanes);
      std::memmove(tiles.advantage + rows * kLanes, tiles.advantage, sizeof(T) * kLanes);
      recur(tiles.delta, tiles.coefficient, tiles.advantage, rows, kLanes);
      transpose(tiles.advantage, kLanes, rows + 1, kLanes, advantage, kStride);
      for (std::ptrdiff_t l = 0; l < lanes; ++l) {
        const std::ptrdiff_t steps = steps_of(l);
        const T* lane = advantage + l * kStride;
        if (steps > 0) estimator.back({t, steps, first + l, 1}, l * kLaneSteps, lane, lane + 1);
      }
    }
  }
  if (a.streaming) fence();
}

// Makes delta and c of the kRun steps of a row from t on, fewer at its end, as tiles whose lanes are
// segments of the row. Steps behind the end pass on what is carried in.
template <typename Estimator, typename T>
Span segment_tiles(Estimator& estimator, std::ptrdiff_t n, std::ptrdiff_t t, Tiles<T>& tiles) {
  const Span span = {t, std::min(kRun, estimator.num_steps(n) - t), n, 1};
  estimator.front(span, 0, 0);
  for (std::ptrdiff_t i = span.steps; i < kRun; ++i) {
    estimator.delta[i] = T(0);
    estimator.coefficient[i] = T(1);
  }
  transpose(estimator.delta, kLaneSteps, kLanes, kLaneSteps, tiles.delta, kLanes);
  transpose(estimator.coefficient, kLaneSteps, kLanes, kLaneSteps, tiles.coefficient, kLanes);
  return span;
}

// The summary of a whole block from those of its segments.
template <typename T>
Summary<T> fold(const Summary<T>* segments) {
  Summary<T> block = {T(0), T(1)};
  for (std::ptrdiff_t l = kLanes - 1; l >= 0; --l) {
    block = {carried_out(segments[l], block.b), chained(segments[l].c, block.c)};
  }
  return block;
}

// What is carried over a part decays. Below this it is lost in the rounding of even the largest
// number that T has, so that the rest of the part need not be read.
template <typename T>
constexpr double kNegligible = std::numeric_limits<T>::min() * std::numeric_limits<T>::min();

// Summaries of parts of rows, kPart steps each: part p of row n is at [n * parts + p].
template <typename Estimator, typename Arguments>
void drive_summaries(const Arguments& a, std::ptrdiff_t parts, Summary<typename Arguments::Value>* out,
                     std::ptrdiff_t begin, std::ptrdiff_t end) {
  using T = typename Arguments::Value;
  Estimator estimator(a);
  Tiles<T> tiles;
  for (std::ptrdiff_t unit = begin; unit < end; ++unit) {
    if (unit % parts == 0) continue;  // nothing comes before the first part
    const std::ptrdiff_t n = unit / parts;
    const std::ptrdiff_t first = unit % parts * kPart;
    const std::ptrdiff_t last = std::min(first + kPart, estimator.num_steps(n));
    Summary<T> blocks[kPart / kRun];
    std::ptrdiff_t count = 0;
    double remaining = 1;
    for (std::ptrdiff_t t = first; t < last && remaining > kNegligible<T>; t += kRun) {
      Summary<T> segments[kLanes];
      estimator.start(0, n, std::min(t + kRun, last));
      segment_tiles(estimator, n, t, tiles);
      summarize_lanes(tiles.delta, tiles.coefficient, segments);
      blocks[count] = fold(segments);
      remaining *= std::max(0.0, static_cast<double>(blocks[count].c));
      ++count;
    }
    Summary<T> part = {T(0), remaining > kNegligible<T> ? T(1) : kCut<T>};
    while (count-- > 0) part = {carried_out(blocks[count], part.b), chained(blocks[count].c, part.c)};
    out[unit] = part;
  }
}

// Results of parts of rows; carries[n * parts + p] is what comes into part p of row n.
template <typename Estimator, typename Arguments>
void drive_scan(const Arguments& a, std::ptrdiff_t parts, const typename Arguments::Value* carries,
                std::ptrdiff_t begin, std::ptrdiff_t end) {
  using T = typename Arguments::Value;
  Estimator estimator(a);
  Tiles<T> tiles;
  alignas(64) T advantage[kRun + 1];
  for (std::ptrdiff_t unit = begin; unit < end; ++unit) {
    const std::ptrdiff_t n = unit / parts;
    const std::ptrdiff_t first = unit % parts * kPart;
    const std::ptrdiff_t last = std::min(first + kPart, estimator.num_steps(n));
    T carry = carries[unit];
    estimator.start(0, n, last);
    for (std::ptrdiff_t t = first + (last - 1 - first) / kRun * kRun; t >= first; t -= kRun) {
      const Span span = segment_tiles(estimator, n, t, tiles);
      Summary<T> segments[kLanes];
      summarize_lanes(tiles.delta, tiles.coefficient, segments);
      T* incoming = tiles.advantage + kLaneSteps * kLanes;
      incoming[kLanes - 1] = carry;
      for (std::ptrdiff_t l = kLanes - 1; l > 0; --l) {
        incoming[l - 1] = carried_out(segments[l], incoming[l]);
      }
      recur(tiles.delta, tiles.coefficient, tiles.advantage, kLaneSteps, kLanes);
      transpose(tiles.advantage, kLanes, kLaneSteps, kLanes, advantage, kLaneSteps);
      advantage[kRun] = carry;
      estimator.back(span, 0, advantage, advantage + 1);
      carry = carried_out(fold(segments), carry);
    }
  }
  if (a.streaming) fence();
}

}  // namespace ppo::inline PPO_ISA
