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

// The card that cuts are made for; docs/decisions.md has the measurements.
constexpr std::ptrdiff_t kMultiprocessors = 132;
constexpr int kMostBlockWarps = 16;
// Warps that a multiprocessor has registers for: of any kernel, and of those of rows in the form that most calls have.
constexpr int kWarps = 16;
constexpr int kPlainRowWarps = 32;
// With more blocks to a multiprocessor each is a lone warp.
constexpr std::ptrdiff_t kMostBlocks = 8;
// What a block has in so few tiles is not cut into parts: a second kernel would take longer to start than they do.
constexpr std::ptrdiff_t kFewTiles = 4;
// Nor are so many rows, or more columns than that: reading everything once is faster than by more blocks twice.
constexpr std::ptrdiff_t kManyRows = 64;
constexpr std::ptrdiff_t kMostCutColumns = 768;
// Of a row: what so many parts hand on is put together faster by 32 lanes than what warps of a block do by waiting.
constexpr std::ptrdiff_t kMostRowParts = 4 * kMultiprocessors;
// Of columns, warps of a block that has a part.
constexpr std::ptrdiff_t kPartWarps = 4;
// A warp has as few columns as leave so many warps of each block at the same time: more of their steps are then at hand at once.
// Half a sector of memory, four columns, is worth that only where blocks are few.
constexpr std::ptrdiff_t kTileWarps = 8;
constexpr int kLeastColumns = 4;
constexpr std::ptrdiff_t kFewColumns = 256;
// In parts, so few columns have narrow warps.
constexpr std::ptrdiff_t kFewCutColumns = 64;

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

// With so many columns to a warp.
inline Cut with_width(Cut cut, int width) {
  cut.width = width;
  cut.runs = kWarpLanes / width;
  for (cut.width_bits = 0; 1 << cut.width_bits < width;) ++cut.width_bits;
  cut.groups = whole_units(cut.num_columns, width);
  return cut;
}

// With so many parts, and blocks of as many warps, or as few as need no more tiles.
inline Cut with_parts(Cut cut, std::ptrdiff_t parts, std::ptrdiff_t warps) {
  const std::ptrdiff_t steps = at_least_1(cut.num_steps);
  cut.part_steps = whole_units(whole_units(steps, parts), cut.warp_steps()) * cut.warp_steps();
  cut.parts = whole_units(steps, cut.part_steps);
  const std::ptrdiff_t rounds = whole_units(cut.part_steps, warps * cut.warp_steps());
  cut.block_warps = static_cast<int>(whole_units(cut.part_steps, rounds * cut.warp_steps()));
  return cut;
}

// Warps of a block if each has a group, and a multiprocessor so many: all fit on the card at the same time, or each is alone.
inline std::ptrdiff_t warps_of_block(const Cut& cut, std::ptrdiff_t warps) {
  const std::ptrdiff_t blocks = whole_units(at_least_1(cut.groups), kMultiprocessors);
  if (cut.in_order || blocks > kMostBlocks) return 1;
  return smaller(warps / blocks, kMostBlockWarps);
}

inline Cut cut_rows(const Cut& whole) {
  const Cut cut = with_width(whole, 1);
  const std::ptrdiff_t rows = at_least_1(cut.num_columns);
  const std::ptrdiff_t warps = warps_of_block(cut, cut.is_plain ? kPlainRowWarps : kWarps);
  const std::ptrdiff_t tiles = whole_units(cut.num_steps, warps * cut.warp_steps());
  if (cut.in_order || rows >= kManyRows || tiles <= kFewTiles) return with_parts(cut, 1, warps);
  const std::ptrdiff_t wanted = kMultiprocessors * kWarps / rows;
  const std::ptrdiff_t part_warps = whole_units(wanted, kMostRowParts);
  const std::ptrdiff_t most = whole_units(cut.num_steps, part_warps * cut.warp_steps());
  return with_parts(cut, smaller(wanted / part_warps, most), part_warps);
}

// Columns of a warp, if each block has a group.
inline int width_of_columns(std::ptrdiff_t columns) {
  if (columns <= kFewColumns) return kLeastColumns;
  int width = 2 * kLeastColumns;
  while (width < kWarpLanes &&
         whole_units(columns, width) * kTileWarps > kMultiprocessors * kWarps) {
    width *= 2;
  }
  return width;
}

inline Cut cut_columns(const Cut& whole) {
  if (whole.in_order) return with_parts(with_width(whole, kWarpLanes), 1, 1);
  const Cut narrow = with_width(whole, kLeastColumns);
  const std::ptrdiff_t few_steps = kFewTiles * kMostBlockWarps * narrow.warp_steps();
  if (whole.num_columns > kMostCutColumns || whole.num_steps <= few_steps) {
    const Cut cut = with_width(whole, width_of_columns(whole.num_columns));
    return with_parts(cut, 1, warps_of_block(cut, kWarps));
  }
  const bool are_few = whole.num_columns <= kFewCutColumns;
  const Cut cut = with_width(whole, (are_few ? 2 : 4) * kLeastColumns);
  const std::ptrdiff_t most = whole_units(cut.num_steps, kPartWarps * cut.warp_steps());
  const std::ptrdiff_t wanted = kMultiprocessors * kWarps / (at_least_1(cut.groups) * kPartWarps);
  return with_parts(cut, smaller(wanted, most), kPartWarps);
}

inline Cut cut_of(std::ptrdiff_t num_steps, std::ptrdiff_t num_columns, bool along_time,
                  bool in_order, int column_steps, bool is_plain = false) {
  Cut cut;
  cut.in_order = in_order;
  cut.is_plain = is_plain;
  cut.num_steps = num_steps;
  cut.num_columns = num_columns;
  cut.lane_steps = along_time ? kRowSteps : column_steps;
  return along_time ? cut_rows(cut) : cut_columns(cut);
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
