// How a call over [T, N] is cut for a GPU, by shape and layout alone.
//
// A warp has 32 lanes. Where neighbours in memory are columns (time-major), a lane is a column that is gone through
// backward in time; where they are steps (batch-major), a warp goes through one row, 32 steps at a time. Either
// way the loads of a warp lie side by side. Time is cut into parts where there are too few columns to occupy
// the card; a first pass then finds what each part hands on to the one before it.
#pragma once

#include <cstddef>

#include "ppo_fast/host_device.h"

namespace ppo {

constexpr std::ptrdiff_t kWarpLanes = 32;
// Warps that occupy a card of 132 multiprocessors with 8 each; more parts than that gain nothing.
constexpr std::ptrdiff_t kWarpsWanted = 1056;
// Steps of a part at least: what a part hands on costs as much as a few steps.
constexpr std::ptrdiff_t kLeastPartSteps = 64;

struct Cut {
  bool along_time = false;         // lanes are steps of one row, else columns
  bool in_order = false;           // steps are gone through one by one, as on the CPU
  std::ptrdiff_t num_steps = 0;    // T
  std::ptrdiff_t num_columns = 0;  // N
  std::ptrdiff_t groups = 0;       // of columns: warps side by side
  std::ptrdiff_t parts = 0;        // of time
  std::ptrdiff_t part_steps = 0;   // steps of each but the last

  PPO_HD std::ptrdiff_t warps() const { return groups * parts; }
};

// The elements of a warp: columns n to n + columns - 1, steps first to last - 1, which are part `part`.
struct Share {
  std::ptrdiff_t n;
  std::ptrdiff_t columns;
  std::ptrdiff_t part;
  std::ptrdiff_t first;
  std::ptrdiff_t last;
};

PPO_HD std::ptrdiff_t whole_units(std::ptrdiff_t size, std::ptrdiff_t unit) {
  return (size + unit - 1) / unit;
}

PPO_HD Cut cut_of(std::ptrdiff_t num_steps, std::ptrdiff_t num_columns, bool along_time,
                  bool in_order) {
  Cut cut;
  cut.along_time = along_time;
  cut.in_order = in_order;
  cut.num_steps = num_steps;
  cut.num_columns = num_columns;
  cut.groups = cut.along_time ? num_columns : whole_units(num_columns, kWarpLanes);
  const std::ptrdiff_t wanted = cut.groups == 0 ? 1 : whole_units(kWarpsWanted, cut.groups);
  const std::ptrdiff_t most = whole_units(num_steps, kLeastPartSteps);
  std::ptrdiff_t parts = in_order ? 1 : (wanted < most ? wanted : most);
  if (parts < 1) parts = 1;
  // Whole warps of steps, so that no lane idles but at the end.
  cut.part_steps = whole_units(whole_units(num_steps, parts), kWarpLanes) * kWarpLanes;
  if (cut.part_steps < kWarpLanes) cut.part_steps = kWarpLanes;
  cut.parts = num_steps == 0 ? 1 : whole_units(num_steps, cut.part_steps);
  return cut;
}

// Parts of a group lie side by side, so that blocks of a few warps share its columns.
PPO_HD Share share_of(const Cut& cut, std::ptrdiff_t warp) {
  Share share;
  const std::ptrdiff_t group = warp / cut.parts;
  const std::ptrdiff_t width = cut.along_time ? 1 : kWarpLanes;
  share.part = warp % cut.parts;
  share.n = group * width;
  const std::ptrdiff_t left = cut.num_columns - share.n;
  share.columns = left < width ? left : width;
  share.first = share.part * cut.part_steps;
  const std::ptrdiff_t end = share.first + cut.part_steps;
  share.last = end < cut.num_steps ? end : cut.num_steps;
  return share;
}

}  // namespace ppo
