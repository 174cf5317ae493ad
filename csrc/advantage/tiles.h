// What a block does with its share of [T, N] (cut.h), for any estimator (elements.h).
//
// Each lane loads its steps of a tile and says what they hand on. That is put together over the lanes of a warp, and told to
// the other warps; when all have told, each lane follows what is carried into the tile to its own steps, and finishes
// these from registers. So everything is read and written once.
//
// A `Block` is some warps that wait for each other (ppo_fast/launch.h): the hardware's, or in tests threads.
#pragma once

#include <cstddef>
#include <type_traits>

#include "advantage/cut.h"
#include "advantage/lane_steps.h"

namespace ppo::inline PPO_ISA {

// Lanes count backward in time: what comes earlier in a scan comes later in a column.
struct JoinBackward {
  template <typename Stretch>
  PPO_HD Stretch operator()(const Stretch& later, const Stretch& first) const {
    return joined(first, later);
  }
};

// Columns of a warp. Where they are rows in memory, that is known when kernels are compiled.
template <bool kRows>
PPO_HD int width_of(const Cut& cut) {
  return kRows ? 1 : cut.width;
}

// A recurrence through the tiles of a block, the last one first. All lanes follow it together, each its column. `Stretch` is
// what steps hand on, `Carried` what goes in.
template <bool kRows, typename Stretch, typename Block>
class Carries {
 public:
  using Carried = typename Stretch::Carried;

  // In memory of the block, of which it has `bytes`.
  PPO_HD Carries(const Cut& cut, const Block& block)
      : block_(block),
        width_(width_of<kRows>(cut)),
        column_(place_of(cut, 0, block.lane()).column),
        stretches_(static_cast<Stretch*>(block.memory())) {}

  static std::size_t bytes(const Cut& cut) {
    const auto places = static_cast<std::size_t>((2 * cut.block_warps + 1) * cut.width);
    return (places * sizeof(Stretch) + 15) / 16 * 16;
  }

  // Sets what is carried into the last tile. Warp 0 says it, of each column the first lane.
  PPO_HD void start(const Carried& carry) {
    if (block_.warp() == 0 && block_.lane() < width_) started() = carry;
    starts_ = true;
  }

  // What is carried into the steps of this lane, which hand on `own`.
  PPO_HD Carried into(const Stretch& own) {
    const Stretch lanes = tell(own);
    if (starts_) carry_ = started();
    starts_ = false;
    Carried carry = carry_;  // into this warp
    for (int w = 0; w < block_.warps(); ++w) {
      if (w == block_.warp()) carry = carry_;
      carry_ = carried_out(told(w), carry_);
    }
    turn_ ^= 1;
    if (width_ == kWarpLanes) return carry;
    const int behind = block_.lane() - width_;
    const Carried before = block_.in_warp().of(carried_out(lanes, carry), behind < 0 ? 0 : behind);
    return behind < 0 ? carry : before;
  }

  // What this tile and those behind it, `all`, hand on.
  PPO_HD Stretch with(const Stretch& own, Stretch all) {
    tell(own);
    for (int w = 0; w < block_.warps(); ++w) all = joined(told(w), all);
    turn_ ^= 1;
    return all;
  }

 private:
  // There are two of each, for tiles in turn: while a warp still reads those of a tile, others may be at the next one.
  PPO_HD Stretch& told(int warp) const {
    return stretches_[(turn_ * block_.warps() + warp) * width_ + column_];
  }
  // In the place of one more.
  PPO_HD Carried& started() const {
    static_assert(sizeof(Carried) <= sizeof(Stretch));
    return reinterpret_cast<Carried&>(stretches_[2 * block_.warps() * width_ + column_]);
  }

  // Tells what this warp hands on; gives what its lanes up to this one do.
  PPO_HD Stretch tell(const Stretch& own) const {
    const Stretch lanes =
        width_ == kWarpLanes ? own : block_.in_warp().scan(own, JoinBackward(), width_);
    if (block_.lane() >= kWarpLanes - width_) told(block_.warp()) = lanes;
    block_.wait();
    return lanes;
  }

  const Block& block_;
  int width_;
  int column_;
  Stretch* stretches_;  // [2, warps, width], and what is carried in [width]
  Carried carry_ = {};  // into the tile
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

// What the parts behind one hand on to it; they are [parts, N]. Asked by warp 0, whose runs have neighbouring parts.
template <bool kRows, typename Stretch, typename Block>
PPO_HD typename Stretch::Carried carry_into_part(const Cut& cut, const Stretch* parts,
                                                 const Share& share, const Block& block) {
  const std::ptrdiff_t behind = cut.parts - 1 - share.part;
  if (behind == 0 || block.warp() != 0) return {};
  const Place place = place_of(cut, 0, block.lane());
  const std::ptrdiff_t n = share.n + smaller(place.column, share.columns - 1);
  const std::ptrdiff_t each = whole_units(behind, cut.runs);
  const std::ptrdiff_t end = cut.parts - place.run * each;
  Stretch own;
  for (std::ptrdiff_t p = end - 1; p >= end - each && p > share.part; --p) {
    own = joined(parts[p * cut.num_columns + n], own);
  }
  const int width = width_of<kRows>(cut);
  return carried_out(block.in_warp().total(own, JoinBackward(), width), {});
}

// What a lane has of a tile: steps of this estimator, or another's own (token_tiles.h).
template <typename Elements, int kSteps, bool kRows>
struct TileOf {
  using Type = LaneSteps<Elements, kSteps, kRows>;
};

// Calls body(tile) for the tiles of a share, the last one first. Lanes without a column have no step.
template <typename Elements, bool kRows, typename Arguments, typename Block, typename Body>
PPO_HD void each_tile(const Arguments& a, const Cut& cut, const Share& share, const Block& block,
                      const Body& body) {
  constexpr int kSteps = kRows ? kRowSteps : kColumnSteps<Arguments>;
  using Tile = typename TileOf<Elements, kSteps, kRows>::Type;
  const Place place = place_of(cut, block.warp(), block.lane());
  const bool is_column = place.column < share.columns;
  const std::ptrdiff_t n = share.n + (is_column ? place.column : 0);  // one that there is
  for (std::ptrdiff_t end = share.last; end > share.first; end -= cut.tile_steps()) {
    Steps steps = steps_of(cut, share, end, place);
    if (!is_column) steps.count = 0;
    body(Tile(a, steps, n));
  }
}

// The two passes of a block. The first is only made where there are several parts: it writes what each hands on.

template <typename Elements, bool kRows, typename Arguments, typename Block>
PPO_HD void summarize(const Arguments& a, const Cut& cut, const Share& share, const Block& block,
                      typename Arguments::HandedOn* parts) {
  using Stretch = typename Arguments::HandedOn;
  if (share.part == 0) return;  // nothing comes before the first part
  Carries<kRows, Stretch, Block> carries(cut, block);
  Stretch all;
  each_tile<Elements, kRows>(a, cut, share, block,
                             [&](const auto& tile) { all = carries.with(tile.summary(), all); });
  if (block.warp() != 0 || block.lane() >= width_of<kRows>(cut)) return;
  if (block.lane() < share.columns) {
    parts[share.part * cut.num_columns + share.n + block.lane()] = all;
  }
}

template <typename Elements, bool kRows, typename Arguments, typename Block>
PPO_HD void compute(const Arguments& a, const Cut& cut, const Share& share, const Block& block,
                    const typename Arguments::HandedOn* parts) {
  using T = typename Arguments::Value;
  using Stretch = typename Arguments::HandedOn;
  T carry = T(0);
  Carries<kRows, Stretch, Block> carries(cut, block);
  carries.start(carry_into_part<kRows>(cut, parts, share, block));
  each_tile<Elements, kRows>(a, cut, share, block, [&](auto&& tile) {
    const auto into = [&] { return tile.settled(carries.into(tile.summary())); };
    if (!cut.is_serial()) {
      tile.finish(a, static_cast<T>(into()));
    } else if (kRows) {
      if constexpr (!std::is_same_v<typename Stretch::Carried, double>) into();  // not only A
      const auto advance = [&](T& x) { tile.advance(x); };
      tile.finish(a, into_in_order(block.in_warp(), advance, carry));
    } else {
      carry = tile.finish(a, carry);
    }
  });
}

}  // namespace ppo::inline PPO_ISA
