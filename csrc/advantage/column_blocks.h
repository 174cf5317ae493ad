// What a block does with its share of [T, N] where lanes are columns (cut.h), for any estimator (elements.h).
//
// A tile is as many steps as its warps have at once. Each warp loads its steps and says what they hand on; when all have, it
// follows what the warps behind it hand on to its own steps, and finishes these from registers. So everything is read
// and written once.
//
// A `Block` is some warps that wait for each other (ppo_fast/launch.h): the hardware's, or in tests threads.
#pragma once

#include <cstddef>

#include "advantage/cut.h"
#include "advantage/lane_steps.h"

namespace ppo::inline PPO_ISA {

// What the warps of a block tell each other, a lane its column's. There are two of each, for tiles in turn: while a warp
// still reads those of a tile, the others may be at the next one.
class ColumnMemory {
 public:
  template <typename Block>
  PPO_HD explicit ColumnMemory(const Block& block)
      : carries_(static_cast<double*>(block.memory()) + block.lane()),
        summaries_(
            reinterpret_cast<Summary*>(static_cast<double*>(block.memory()) + 2 * kWarpLanes) +
            block.lane()),
        warps_(block.warps()) {}

  static std::size_t bytes(std::ptrdiff_t warps) {
    return static_cast<std::size_t>(2 * kWarpLanes) *
           (sizeof(double) + static_cast<std::size_t>(warps) * sizeof(Summary));
  }

  // What is carried into tile i.
  PPO_HD double& carry(int i) const { return carries_[i % 2 * kWarpLanes]; }
  // What the steps of a warp in tile i hand on.
  PPO_HD Summary& summary(int i, int warp) const {
    return summaries_[(i % 2 * warps_ + warp) * kWarpLanes];
  }

 private:
  double* carries_;     // [2, lanes]
  Summary* summaries_;  // [2, warps, lanes]
  int warps_;
};

// What the parts behind one hand on to it; summaries are [parts, N].
PPO_HD double carry_into_column(const Cut& cut, const Summary* summaries, std::ptrdiff_t part,
                                std::ptrdiff_t n) {
  double carry = 0;
  for (std::ptrdiff_t p = cut.parts - 1; p > part; --p) {
    carry = carried_out(summaries[p * cut.num_columns + n], carry);
  }
  return carry;
}

// Calls body(i, steps) for the tiles of a share, the last one first. Lanes without a column have no step.
template <typename Elements, typename Arguments, typename Block, typename Body>
PPO_HD void each_tile(const Arguments& a, const Cut& cut, const Share& share, const Block& block,
                      const Body& body) {
  int i = 0;
  for (std::ptrdiff_t end = share.last; end > share.first; end -= cut.tile_steps()) {
    Steps steps = steps_of_warp(cut, share, end, block.warp());
    const bool is_column = block.lane() < share.columns;
    if (!is_column) steps.count = 0;
    const std::ptrdiff_t n = share.n + (is_column ? block.lane() : 0);  // one that there is
    body(i++, LaneSteps<Elements, kColumnSteps<Arguments>>(a, steps, n));
  }
}

// The two passes of a block. The first is only made where there are several parts.

template <typename Elements, typename Arguments, typename Block>
PPO_HD void summarize_columns(const Arguments& a, const Cut& cut, const Share& share,
                              const Block& block, Summary* summaries) {
  if (share.part == 0) return;  // nothing comes before the first part
  const ColumnMemory memory(block);
  Summary all = kNothing;
  each_tile<Elements>(a, cut, share, block, [&](int i, const auto& tile) {
    memory.summary(i, block.warp()) = tile.summary();
    block.wait();
    if (block.warp() != 0) return;
    for (int w = 0; w < block.warps(); ++w) all = joined(memory.summary(i, w), all);
  });
  if (block.warp() == 0 && block.lane() < share.columns) {
    summaries[share.part * cut.num_columns + share.n + block.lane()] = all;
  }
}

template <typename Elements, typename Arguments, typename Block>
PPO_HD void compute_columns(const Arguments& a, const Cut& cut, const Share& share,
                            const Block& block, const Summary* summaries) {
  using T = typename Arguments::Value;
  const ColumnMemory memory(block);
  const std::ptrdiff_t n = share.n + block.lane();
  const bool is_first = block.warp() + 1 == block.warps();  // in time
  each_tile<Elements>(a, cut, share, block, [&](int i, const auto& tile) {
    if (i == 0 && block.warp() == 0) {
      const bool is_column = block.lane() < share.columns;
      memory.carry(i) = is_column ? carry_into_column(cut, summaries, share.part, n) : 0.0;
    }
    if (!is_first) memory.summary(i, block.warp()) = tile.summary();
    block.wait();
    double carry = memory.carry(i);
    for (int w = 0; w < block.warp(); ++w) carry = carried_out(memory.summary(i, w), carry);
    const T first = tile.finish(a, static_cast<T>(carry));
    if (is_first) memory.carry(i + 1) = static_cast<double>(first);
  });
}

}  // namespace ppo::inline PPO_ISA
