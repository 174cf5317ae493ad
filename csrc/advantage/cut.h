// How a call over [T, N] is cut for a GPU, by shape and layout alone.
//
// A warp has 32 lanes. Where neighbours in memory are columns (time-major), a lane is a column, and a block has 32 of them:
// its warps take a few steps each of a tile, and tiles are gone through from the last one to the first. Where neighbours
// are steps (batch-major), a warp goes through one row, a few steps a lane at a time. Either way the loads of a warp lie
// side by side. Time is cut into parts where too few blocks or warps would occupy the card; a first pass then finds what
// each part hands on to the one before it.
#pragma once

#include <cstddef>

#include "advantage/arguments.h"
#include "ppo_fast/host_device.h"

namespace ppo {

constexpr std::ptrdiff_t kWarpLanes = 32;
// Consecutive steps that a lane loads before it looks at any, as many as its registers hold: of a row, and of a column.
constexpr int kRowSteps = 4;
template <typename Arguments>
inline constexpr int kColumnSteps = 4;
template <>
inline constexpr int kColumnSteps<GaeArguments<float>> = 8;
// Steps of a row that a warp has at once.
constexpr std::ptrdiff_t kRoundSteps = kRowSteps * kWarpLanes;

// The card that cuts are made for; docs/decisions.md has the arithmetic.
constexpr std::ptrdiff_t kMultiprocessors = 132;
constexpr std::ptrdiff_t kMostBlockWarps = 16;
// Warps that have enough loads under way: lone ones, and those that wait for each other.
constexpr std::ptrdiff_t kLoneWarpsWanted = 8 * kMultiprocessors;
constexpr std::ptrdiff_t kWarpsWanted = 16 * kMultiprocessors;
// From so many blocks on, reading everything once is faster than by more of them twice; and where a block has so few
// tiles, a second kernel would take longer than they do.
constexpr std::ptrdiff_t kBlocksEnough = 64;
constexpr std::ptrdiff_t kFewTiles = 2;
// Steps of a part of a row at least: what a part hands on costs as much as some steps.
constexpr std::ptrdiff_t kLeastPartSteps = 2 * kRoundSteps;

struct Cut {
  bool along_time = false;         // lanes are steps of one row, else columns
  bool in_order = false;           // steps are gone through one by one, as on the CPU
  std::ptrdiff_t num_steps = 0;    // T
  std::ptrdiff_t num_columns = 0;  // N
  std::ptrdiff_t groups = 0;       // of columns: side by side
  std::ptrdiff_t parts = 0;        // of time
  std::ptrdiff_t part_steps = 0;   // steps of each but the last
  std::ptrdiff_t warp_steps = 0;   // of a column that a warp has at once
  std::ptrdiff_t block_warps = 1;  // that have the columns of a group together

  // Blocks of columns, or warps of rows.
  PPO_HD std::ptrdiff_t shares() const { return groups * parts; }
  // Steps that a block has at once.
  PPO_HD std::ptrdiff_t tile_steps() const { return block_warps * warp_steps; }
  // Steps go in the order of the CPU, whose bits come out.
  PPO_HD bool is_serial() const {
    return in_order || (!along_time && parts == 1 && block_warps == 1);
  }
};

// The elements of a block or a warp: columns n to n + columns - 1, steps first to last - 1, which are part `part`.
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
PPO_HD std::ptrdiff_t smaller(std::ptrdiff_t a, std::ptrdiff_t b) { return a < b ? a : b; }
PPO_HD std::ptrdiff_t at_least_1(std::ptrdiff_t a) { return a < 1 ? 1 : a; }

// Parts of whole units, as many as are wanted or fewer.
PPO_HD void cut_time(Cut& cut, std::ptrdiff_t wanted, std::ptrdiff_t unit) {
  const std::ptrdiff_t steps = at_least_1(cut.num_steps);
  cut.part_steps = whole_units(whole_units(steps, at_least_1(wanted)), unit) * unit;
  cut.parts = whole_units(steps, cut.part_steps);
}

PPO_HD void cut_rows(Cut& cut) {
  cut.groups = cut.num_columns;
  const std::ptrdiff_t wanted = whole_units(kWarpsWanted, at_least_1(cut.groups));
  const std::ptrdiff_t most = whole_units(cut.num_steps, kLeastPartSteps);
  cut_time(cut, cut.in_order ? 1 : smaller(wanted, most), kRoundSteps);
}

PPO_HD void cut_columns(Cut& cut) {
  cut.groups = whole_units(cut.num_columns, kWarpLanes);
  const bool is_alone = cut.in_order || cut.groups >= kLoneWarpsWanted;
  const std::ptrdiff_t wanted = whole_units(kWarpsWanted, at_least_1(cut.groups));
  const std::ptrdiff_t most_warps = is_alone ? 1 : smaller(wanted, kMostBlockWarps);
  const std::ptrdiff_t most_steps = most_warps * cut.warp_steps;
  const std::ptrdiff_t tiles = whole_units(cut.num_steps, most_steps);
  const bool is_whole = is_alone || cut.groups >= kBlocksEnough || tiles <= kFewTiles;
  const std::ptrdiff_t blocks = whole_units(kMultiprocessors, at_least_1(cut.groups));
  cut_time(cut, is_whole ? 1 : smaller(blocks, tiles), cut.warp_steps);
  // As few warps as need no more tiles.
  const std::ptrdiff_t rounds = whole_units(cut.part_steps, most_steps);
  cut.block_warps = whole_units(cut.part_steps, rounds * cut.warp_steps);
}

PPO_HD Cut cut_of(std::ptrdiff_t num_steps, std::ptrdiff_t num_columns, bool along_time,
                  bool in_order, std::ptrdiff_t column_steps) {
  Cut cut;
  cut.along_time = along_time;
  cut.in_order = in_order;
  cut.num_steps = num_steps;
  cut.num_columns = num_columns;
  cut.warp_steps = column_steps;
  if (along_time) {
    cut_rows(cut);
  } else {
    cut_columns(cut);
  }
  return cut;
}
template <typename Arguments>
Cut cut_of(const Arguments& a, bool along_time, bool in_order) {
  return cut_of(a.num_steps, a.num_columns, along_time, in_order, kColumnSteps<Arguments>);
}

// Parts of a group lie side by side, so that warps of a block share its row.
PPO_HD Share share_of(const Cut& cut, std::ptrdiff_t index) {
  Share share;
  const std::ptrdiff_t group = index / cut.parts;
  const std::ptrdiff_t width = cut.along_time ? 1 : kWarpLanes;
  share.part = index % cut.parts;
  share.n = group * width;
  share.columns = smaller(cut.num_columns - share.n, width);
  share.first = share.part * cut.part_steps;
  share.last = smaller(share.first + cut.part_steps, cut.num_steps);
  return share;
}

// Consecutive steps that a lane has: `count` of them, before step `end`.
struct Steps {
  std::ptrdiff_t end;
  int count;
};

// Of a column: those of a warp of the block, warp 0 having the last ones of the tile that ends at `tile_end`.
PPO_HD Steps steps_of_warp(const Cut& cut, const Share& share, std::ptrdiff_t tile_end, int warp) {
  const std::ptrdiff_t end = tile_end - warp * cut.warp_steps;
  const std::ptrdiff_t left = smaller(end - share.first, cut.warp_steps);
  return {end, static_cast<int>(left < 0 ? 0 : left)};
}

// Of a row: those of a lane of the warp, lane 0 having the last ones of the round that starts at `begin`.
PPO_HD Steps steps_of_lane(const Share& share, std::ptrdiff_t begin, int lane) {
  const std::ptrdiff_t first = begin + (kWarpLanes - 1 - lane) * kRowSteps;
  const std::ptrdiff_t left = smaller(share.last - first, kRowSteps);
  const int count = static_cast<int>(left < 0 ? 0 : left);
  return {first + count, count};
}

}  // namespace ppo
