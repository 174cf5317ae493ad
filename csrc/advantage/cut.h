// How a call over [T, N] is cut for a GPU, by its shape, layout, type and form alone.
//
// A lane has a few consecutive steps of one column, which it loads before it looks at any. A warp has some columns side by side,
// and as many runs of steps of each as make 32 lanes: its loads lie side by side in memory, where neighbours are columns
// (time-major) as where they are steps (batch-major: a warp has one column, which is a row there). The warps of a block
// have consecutive runs of the same columns: a tile, which is gone through as a whole, the last one first. Time is
// cut into parts where too few blocks would occupy the card; a first pass then finds what each part hands on to the
// one before it.
#pragma once

#include <cstddef>

#include "advantage/arguments.h"
#include "ppo_fast/host_device.h"

namespace ppo {

constexpr int kWarpLanes = 32;
// Consecutive steps that a lane has at once, as many as its registers hold: of a row, and of a column.
constexpr int kRowSteps = 4;
template <typename Arguments>
inline constexpr int kColumnSteps = 4;
template <>
inline constexpr int kColumnSteps<GaeArguments<float>> = 8;
// Columns of a warp at least, where lanes are columns: half of what memory hands out at a time.
constexpr int kLeastColumns = 4;

// The card that cuts are made for; docs/decisions.md has the measurements.
constexpr std::ptrdiff_t kMultiprocessors = 132;
constexpr int kMostBlockWarps = 16;
// Warps that a multiprocessor has registers for: of any kernel, and of those of rows in the form that most calls have.
constexpr int kWarps = 16;
constexpr int kPlainRowWarps = 32;
// With more blocks to a multiprocessor each is a lone warp.
constexpr std::ptrdiff_t kMostBlocks = 8;
// From so many blocks on, reading everything once is faster than by more of them twice. Where a block has so few tiles,
// a second kernel would take longer than they do; and in two tiles, wider rows of memory are worth more than more blocks.
constexpr std::ptrdiff_t kBlocksEnough = 64;
constexpr std::ptrdiff_t kFewTiles = 4;
constexpr std::ptrdiff_t kFewWideTiles = 2;
// Of a row: what so many parts hand on is put together faster by 32 lanes than what warps of a block do by waiting.
constexpr std::ptrdiff_t kMostRowParts = 4 * kMultiprocessors;

struct Cut {
  bool in_order = false;           // steps are gone through one by one, as on the CPU
  bool is_plain = false;           // kernels of the form that most calls have
  std::ptrdiff_t num_steps = 0;    // T
  std::ptrdiff_t num_columns = 0;  // N
  int width = 1;       // columns of a warp, a power of two; 1 if neighbours in memory are steps
  int width_bits = 0;  // its logarithm
  int runs = 1;        // of steps of a column that a warp has, each a lane's
  int lane_steps = 1;  // steps of a run
  int block_warps = 1;
  std::ptrdiff_t groups = 0;      // of columns, `width` each
  std::ptrdiff_t parts = 0;       // of time
  std::ptrdiff_t part_steps = 0;  // steps of each but the last

  // Blocks: each has a group and a part.
  PPO_HD std::ptrdiff_t shares() const { return groups * parts; }
  // Steps that a warp and a block have at once.
  PPO_HD int warp_steps() const { return runs * lane_steps; }
  PPO_HD int tile_steps() const { return block_warps * warp_steps(); }
  // Steps go in the order of the CPU, whose bits come out.
  PPO_HD bool is_serial() const {
    return in_order || (width == kWarpLanes && parts == 1 && block_warps == 1);
  }
};

// The elements of a block: columns n to n + columns - 1, steps first to last - 1, which are part `part`.
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

// With so many columns to a warp. All blocks fit on the card at the same time, or each is a lone warp.
inline Cut cut_by_width(Cut cut, int width, std::ptrdiff_t few_tiles) {
  cut.width = width;
  cut.runs = kWarpLanes / width;
  for (cut.width_bits = 0; 1 << cut.width_bits < width;) ++cut.width_bits;
  cut.groups = whole_units(cut.num_columns, width);
  const std::ptrdiff_t groups = at_least_1(cut.groups);
  const std::ptrdiff_t steps = at_least_1(cut.num_steps);
  const std::ptrdiff_t blocks = whole_units(groups, kMultiprocessors);  // of a multiprocessor
  const bool is_alone = cut.in_order || blocks > kMostBlocks;
  const std::ptrdiff_t fit = (cut.is_plain && width == 1 ? kPlainRowWarps : kWarps) / blocks;
  std::ptrdiff_t warps = is_alone ? 1 : smaller(fit, kMostBlockWarps);
  std::ptrdiff_t parts = 1;
  const std::ptrdiff_t tiles = whole_units(steps, warps * cut.warp_steps());
  if (!is_alone && groups < kBlocksEnough && tiles > few_tiles) {
    const std::ptrdiff_t wanted = kMultiprocessors * kWarps / groups;  // warps of a group
    if (width == 1) warps = whole_units(wanted, kMostRowParts);
    parts = smaller(wanted / warps, whole_units(steps, warps * cut.warp_steps()));
  }
  cut.part_steps = whole_units(whole_units(steps, parts), cut.warp_steps()) * cut.warp_steps();
  cut.parts = whole_units(steps, cut.part_steps);
  // As few warps as need no more tiles.
  const std::ptrdiff_t rounds = whole_units(cut.part_steps, warps * cut.warp_steps());
  cut.block_warps = static_cast<int>(whole_units(cut.part_steps, rounds * cut.warp_steps()));
  return cut;
}

inline Cut cut_of(std::ptrdiff_t num_steps, std::ptrdiff_t num_columns, bool along_time,
                  bool in_order, int column_steps, bool is_plain = false) {
  Cut cut;
  cut.in_order = in_order;
  cut.is_plain = is_plain;
  cut.num_steps = num_steps;
  cut.num_columns = num_columns;
  cut.lane_steps = along_time ? kRowSteps : column_steps;
  if (along_time) return cut_by_width(cut, 1, kFewTiles);
  const Cut wide = cut_by_width(cut, kWarpLanes, kFewWideTiles);
  if (wide.parts == 1) return wide;
  int width = kWarpLanes / 2;
  while (width > kLeastColumns && whole_units(num_columns, width) < kBlocksEnough) width /= 2;
  const Cut narrow = cut_by_width(cut, width, kFewTiles);
  return narrow.parts == 1 ? narrow : wide;
}

// The form that most calls have, whose kernels need half of the instructions and registers: values, each followed by the next
// one, and bytes that say where episodes end.
inline bool has_plain_form(const GaeArguments<float>& a) {
  const auto are_bytes = [](const FlagView& flags) {
    return flags && flags.type == FlagType::kByte;
  };
  return a.values.data != nullptr && a.after.data == a.values.data + a.values.stride_t &&
         a.after.stride_t == a.values.stride_t && a.after.stride_n == a.values.stride_n &&
         are_bytes(a.terminated) && are_bytes(a.last_terminated) && !a.truncated && !a.masked &&
         a.final_values.data == nullptr;
}
template <typename Arguments>
bool has_plain_form(const Arguments&) {
  return false;
}

template <typename Arguments>
Cut cut_of(const Arguments& a, bool along_time, bool in_order) {
  return cut_of(a.num_steps, a.num_columns, along_time, in_order, kColumnSteps<Arguments>,
                has_plain_form(a));
}

PPO_HD Share share_of(const Cut& cut, std::ptrdiff_t index) {
  const std::ptrdiff_t group = cut.parts == 1 ? index : index / cut.parts;  // divisions take long
  Share share;
  share.part = index - group * cut.parts;
  share.n = group * cut.width;
  share.columns = smaller(cut.num_columns - share.n, cut.width);
  share.first = share.part * cut.part_steps;
  share.last = smaller(share.first + cut.part_steps, cut.num_steps);
  return share;
}

// What a lane has in every tile: a column, from the first one of its block on, and a run of steps. Warp 0 has the last steps,
// and the first lanes of a warp the last of these.
struct Place {
  int column;
  int run;
};

PPO_HD Place place_of(const Cut& cut, int warp, int lane) {
  return {lane & (cut.width - 1), warp * cut.runs + (lane >> cut.width_bits)};
}

// Consecutive steps: `count` of them, before step `end`.
struct Steps {
  std::ptrdiff_t end;
  int count;
};

// Those of a lane in the tile that ends at `tile_end`.
PPO_HD Steps steps_of(const Cut& cut, const Share& share, std::ptrdiff_t tile_end,
                      const Place& place) {
  const std::ptrdiff_t end = tile_end - place.run * cut.lane_steps;
  const std::ptrdiff_t left = smaller(end - share.first, cut.lane_steps);
  return {end, static_cast<int>(left < 0 ? 0 : left)};
}

}  // namespace ppo
