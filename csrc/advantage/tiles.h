// What a block does with its share of [T, N] (cut.h), for any estimator (elements.h).
//
// Each lane loads its steps of a tile and says what they hand on. That is put together over the lanes of a warp, and told to
// the other warps; when all have told, each lane follows what is carried into the tile to its own steps, and finishes
// these from registers. So everything is read and written once.
//
// A `Block` is some warps that wait for each other (ppo_fast/launch.h): the hardware's, or in tests threads.
#pragma once

#include <cstddef>

#include "advantage/cut.h"
#include "advantage/lane_steps.h"

namespace ppo::inline PPO_ISA {

// Lanes count backward in time: what comes earlier in a scan comes later in a column.
struct JoinBackward {
  PPO_HD Summary operator()(const Summary& later, const Summary& first) const {
    return joined(first, later);
  }
};

// Columns of a warp. Where they are rows in memory, that is known when kernels are compiled.
template <bool kRows>
PPO_HD int width_of(const Cut& cut) {
  return kRows ? 1 : cut.width;
}

// One recurrence through the tiles of a block, the last one first. All lanes follow it together, each its column.
template <bool kRows, typename Block>
class Carries {
 public:
  // In memory of the block, of which each recurrence has `bytes`, one after the other.
  PPO_HD Carries(const Cut& cut, const Block& block, int recurrence = 0)
      : block_(block),
        width_(width_of<kRows>(cut)),
        column_(place_of(cut, 0, block.lane()).column),
        summaries_(static_cast<Summary*>(block.memory()) +
                   recurrence * places(width_, block.warps())) {}

  static std::size_t bytes(const Cut& cut) {
    return static_cast<std::size_t>(places(cut.width, cut.block_warps)) * sizeof(Summary);
  }

  // Sets what is carried into the last tile. Warp 0 says it, of each column the first lane.
  PPO_HD void start(double carry) {
    const bool says = block_.warp() == 0 && block_.lane() < width_;
    if (says) summaries_[2 * block_.warps() * width_ + column_].b = carry;
    starts_ = true;
  }

  // What is carried into the steps of this lane, which hand on `own`.
  PPO_HD double into(const Summary& own) {
    const Summary lanes = tell(own);
    if (starts_) carry_ = summaries_[2 * block_.warps() * width_ + column_].b;
    starts_ = false;
    double carry = carry_;  // into this warp
    for (int w = 0; w < block_.warps(); ++w) {
      if (w == block_.warp()) carry = carry_;
      carry_ = carried_out(told(w), carry_);
    }
    turn_ ^= 1;
    if (width_ == kWarpLanes) return carry;
    const int behind = block_.lane() - width_;
    const double before = block_.in_warp().of(carried_out(lanes, carry), behind < 0 ? 0 : behind);
    return behind < 0 ? carry : before;
  }

  // What this tile and those behind it, `all`, hand on.
  PPO_HD Summary with(const Summary& own, Summary all) {
    tell(own);
    for (int w = 0; w < block_.warps(); ++w) all = joined(told(w), all);
    turn_ ^= 1;
    return all;
  }

 private:
  // There are two of each, for tiles in turn: while a warp still reads those of a tile, others may be at the next one.
  PPO_HD Summary& told(int warp) const {
    return summaries_[(turn_ * block_.warps() + warp) * width_ + column_];
  }
  static PPO_HD std::ptrdiff_t places(std::ptrdiff_t width, std::ptrdiff_t warps) {
    return (2 * warps + 1) * width;
  }

  // Tells what this warp hands on; gives what its lanes up to this one do.
  PPO_HD Summary tell(const Summary& own) const {
    const Summary lanes =
        width_ == kWarpLanes ? own : block_.in_warp().scan(own, JoinBackward(), width_);
    if (block_.lane() >= kWarpLanes - width_) told(block_.warp()) = lanes;
    block_.wait();
    return lanes;
  }

  const Block& block_;
  int width_;
  int column_;
  Summary* summaries_;  // [2, warps, width], and what is carried in [width]
  double carry_ = 0;    // into the tile
  bool starts_ = false;
  int turn_ = 0;
};

// What is carried into the steps of a lane in the order of the CPU, run by run of a lone warp. advance(x) replaces what is
// carried into a lane by what it hands on; so is `carry`, into the tile.
template <typename T, typename Warp, typename Advance>
PPO_HD T into_in_order(const Warp& warp, const Advance& advance, T& carry) {
  T into = T(0);
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    if (lane == warp.lane()) into = carry;
    T out = carry;
    advance(out);
    carry = warp.of(out, lane);
  }
  return into;
}

// What the parts behind one hand on to it; summaries are [parts, N]. Asked by warp 0, whose runs have neighbouring parts.
template <bool kRows, typename Block>
PPO_HD double carry_into_part(const Cut& cut, const Summary* summaries, const Share& share,
                              const Block& block) {
  const std::ptrdiff_t behind = cut.parts - 1 - share.part;
  if (behind == 0 || block.warp() != 0) return 0;
  const Place place = place_of(cut, 0, block.lane());
  const std::ptrdiff_t n = share.n + smaller(place.column, share.columns - 1);
  const std::ptrdiff_t each = whole_units(behind, cut.runs);
  const std::ptrdiff_t end = cut.parts - place.run * each;
  Summary own = kNothing;
  for (std::ptrdiff_t p = end - 1; p >= end - each && p > share.part; --p) {
    own = joined(summaries[p * cut.num_columns + n], own);
  }
  const int width = width_of<kRows>(cut);
  return carried_out(block.in_warp().total(own, JoinBackward(), width), 0.0);
}

// Writes what a part hands on.
template <bool kRows, typename Block>
PPO_HD void store_summary(const Cut& cut, const Share& share, const Block& block,
                          const Summary& all, Summary* summaries) {
  if (block.warp() != 0 || block.lane() >= width_of<kRows>(cut)) return;
  if (block.lane() >= share.columns) return;
  summaries[share.part * cut.num_columns + share.n + block.lane()] = all;
}

// Calls body(steps) for the tiles of a share, the last one first. Lanes without a column have no step.
template <typename Elements, bool kRows, typename Arguments, typename Block, typename Body>
PPO_HD void each_tile(const Arguments& a, const Cut& cut, const Share& share, const Block& block,
                      const Body& body) {
  constexpr int kSteps = kRows ? kRowSteps : kColumnSteps<Arguments>;
  const Place place = place_of(cut, block.warp(), block.lane());
  const bool is_column = place.column < share.columns;
  const std::ptrdiff_t n = share.n + (is_column ? place.column : 0);  // one that there is
  for (std::ptrdiff_t end = share.last; end > share.first; end -= cut.tile_steps()) {
    Steps steps = steps_of(cut, share, end, place);
    if (!is_column) steps.count = 0;
    body(LaneSteps<Elements, kSteps, kRows>(a, steps, n));
  }
}

// The two passes of a block. The first is only made where there are several parts.

template <typename Elements, bool kRows, typename Arguments, typename Block>
PPO_HD void summarize(const Arguments& a, const Cut& cut, const Share& share, const Block& block,
                      Summary* summaries) {
  if (share.part == 0) return;  // nothing comes before the first part
  Carries<kRows, Block> carries(cut, block);
  Summary all = kNothing;
  each_tile<Elements, kRows>(a, cut, share, block,
                             [&](const auto& tile) { all = carries.with(tile.summary(), all); });
  store_summary<kRows>(cut, share, block, all, summaries);
}

template <typename Elements, bool kRows, typename Arguments, typename Block>
PPO_HD void compute(const Arguments& a, const Cut& cut, const Share& share, const Block& block,
                    const Summary* summaries) {
  using T = typename Arguments::Value;
  T carry = T(0);
  Carries<kRows, Block> carries(cut, block);
  carries.start(carry_into_part<kRows>(cut, summaries, share, block));
  each_tile<Elements, kRows>(a, cut, share, block, [&](const auto& tile) {
    if (!cut.is_serial()) {
      tile.finish(a, static_cast<T>(carries.into(tile.summary())));
    } else if (kRows) {
      const auto advance = [&](T& x) { tile.advance(x); };
      tile.finish(a, into_in_order(block.in_warp(), advance, carry));
    } else {
      carry = tile.finish(a, carry);
    }
  });
}

}  // namespace ppo::inline PPO_ISA
