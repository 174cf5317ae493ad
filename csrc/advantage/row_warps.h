// What a warp does with its share of [T, N] where lanes are steps of a row (cut.h), for any estimator (elements.h). A round is
// kRowSteps steps of each lane, lane 0 having the last ones; what lanes hand on is scanned.
//
// A `Warp` is 32 lanes in step (ppo_fast/launch.h): the hardware's, or in tests 32 threads.
#pragma once

#include <cstddef>

#include "advantage/cut.h"
#include "advantage/lane_steps.h"

namespace ppo::inline PPO_ISA {

// Lanes count backward in time: what comes earlier in a scan comes later in a row.
struct JoinBackward {
  PPO_HD Summary operator()(const Summary& later, const Summary& first) const {
    return joined(first, later);
  }
};

constexpr int kLastLane = static_cast<int>(kWarpLanes) - 1;

// Calls body(steps) for the rounds of a share, the last one first.
template <typename Elements, typename Arguments, typename Warp, typename Body>
PPO_HD void each_round(const Arguments& a, const Share& share, const Warp& warp, const Body& body) {
  const std::ptrdiff_t rounds = whole_units(share.last - share.first, kRoundSteps);
  for (std::ptrdiff_t round = rounds - 1; round >= 0; --round) {
    const Steps steps = steps_of_lane(share, share.first + round * kRoundSteps, warp.lane());
    body(LaneSteps<Elements, kRowSteps>(a, steps, share.n));
  }
}

// x of the lane behind this one, `carried` being that behind all of them.
template <typename T, typename Warp>
PPO_HD T behind(const Warp& warp, T x, T carried) {
  const T before = warp.of(x, warp.lane() == 0 ? 0 : warp.lane() - 1);
  return warp.lane() == 0 ? carried : before;
}

// What is carried into a lane whose steps hand on `own`; `carry`, into all lanes, becomes what they hand on.
template <typename Warp>
PPO_HD double carry_into_lane(const Warp& warp, const Summary& own, double& carry) {
  const double from = carried_out(warp.scan(own, JoinBackward()), carry);
  const double into = behind(warp, from, carry);
  carry = warp.of(from, kLastLane);
  return into;
}

// The same in the order of the CPU, lane by lane. advance(x) replaces what is carried in by what is handed on.
template <typename T, typename Warp, typename Advance>
PPO_HD T carry_into_lane_in_order(const Warp& warp, const Advance& advance, double& carry) {
  T running = static_cast<T>(carry);
  T into = T(0);
  for (int lane = 0; lane <= kLastLane; ++lane) {
    if (lane == warp.lane()) into = running;
    T out = running;
    advance(out);
    running = warp.of(out, lane);
  }
  carry = static_cast<double>(running);
  return into;
}

// What is carried into the steps of this lane.
template <typename T, typename Warp, typename LaneSteps>
PPO_HD T carry_into(const Warp& warp, const LaneSteps& steps, bool in_order, double& carry) {
  if (!in_order) return static_cast<T>(carry_into_lane(warp, steps.summary(), carry));
  return carry_into_lane_in_order<T>(warp, [&](T& x) { steps.advance(x); }, carry);
}

// What the parts behind one hand on to it; summaries are [N, parts]. Lanes have neighbouring parts.
template <typename Warp>
PPO_HD double carry_into_row(const Cut& cut, const Summary* summaries, const Share& share,
                             const Warp& warp) {
  const Summary* row = summaries + share.n * cut.parts;
  const std::ptrdiff_t each = whole_units(cut.parts - 1 - share.part, kWarpLanes);
  const std::ptrdiff_t end = cut.parts - warp.lane() * each;
  Summary own = kNothing;
  for (std::ptrdiff_t p = end - 1; p >= end - each && p > share.part; --p) {
    own = joined(row[p], own);
  }
  return each == 0 ? 0.0 : carried_out(warp.total(own, JoinBackward()), 0.0);
}

// The two passes of a warp. The first is only made where there are several parts.

template <typename Elements, typename Arguments, typename Warp>
PPO_HD void summarize_row(const Arguments& a, const Cut& cut, const Share& share, const Warp& warp,
                          Summary* summaries) {
  if (share.part == 0) return;  // nothing comes before the first part
  Summary all = kNothing;
  each_round<Elements>(a, share, warp, [&](const auto& steps) {
    all = joined(warp.total(steps.summary(), JoinBackward()), all);
  });
  if (warp.lane() == 0) summaries[share.n * cut.parts + share.part] = all;
}

template <typename Elements, typename Arguments, typename Warp>
PPO_HD void compute_row(const Arguments& a, const Cut& cut, const Share& share, const Warp& warp,
                        const Summary* summaries) {
  using T = typename Arguments::Value;
  double carry = carry_into_row(cut, summaries, share, warp);
  each_round<Elements>(a, share, warp, [&](const auto& steps) {
    steps.finish(a, carry_into<T>(warp, steps, cut.in_order, carry));
  });
}

}  // namespace ppo::inline PPO_ISA
