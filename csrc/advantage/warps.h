// What a warp does with its share of [T, N] (cut.h), for any estimator (elements.h).
//
// A `Warp` is 32 lanes in step (ppo_fast/launch.h): the hardware's, or in tests 32 threads.
#pragma once

#include <cstddef>

#include "advantage/cut.h"
#include "advantage/elements.h"

namespace ppo::inline PPO_ISA {

// Steps whose loads are under way at once.
constexpr int kAhead = 4;

template <typename T>
PPO_HD Summary summary_of(T delta, T coefficient) {
  return {static_cast<double>(delta), coefficient < T(0) ? 0.0 : static_cast<double>(coefficient)};
}

// Calls body(t, element) for the steps of a share of column n, the last one first.
template <typename Elements, typename Arguments, typename Body>
PPO_HD void each_step(const Arguments& a, const Share& share, std::ptrdiff_t n, const Body& body) {
  for (std::ptrdiff_t t = share.last; t > share.first;) {
    const std::ptrdiff_t left = t - share.first;
    const int count = left < kAhead ? static_cast<int>(left) : kAhead;
    typename Elements::Element x[kAhead];
    for (int k = 0; k < kAhead; ++k) {
      if (k < count) x[k] = Elements::front(a, t - 1 - k, n);
    }
    for (int k = 0; k < kAhead; ++k) {
      if (k < count) body(t - 1 - k, x[k]);
    }
    t -= count;
  }
}

// Where lanes are columns: what the steps of a share hand on, and their results.

template <typename Elements, typename Arguments>
PPO_HD Summary column_summary(const Arguments& a, const Share& share, std::ptrdiff_t n) {
  using T = typename Arguments::Value;
  T b = T(0);
  double c = 1;
  each_step<Elements>(a, share, n, [&](std::ptrdiff_t, const typename Elements::Element& x) {
    recur(x.delta(), x.coefficient, b);
    c = x.coefficient < T(0) ? 0.0 : c * static_cast<double>(x.coefficient);
  });
  return {static_cast<double>(b), c};
}

template <typename Elements, typename Arguments>
PPO_HD void column_results(const Arguments& a, const Share& share, std::ptrdiff_t n,
                           double carried) {
  using T = typename Arguments::Value;
  T carry = static_cast<T>(carried);
  each_step<Elements>(a, share, n, [&](std::ptrdiff_t t, const typename Elements::Element& x) {
    const T later = carry;
    recur(x.delta(), x.coefficient, carry);
    Elements::finish(a, t, n, x, carry, later);
  });
}

// Where lanes are steps of a row, lane 0 the last of 32.

// Lanes count backward in time: what comes earlier in a scan comes later in a row.
struct JoinBackward {
  PPO_HD Summary operator()(const Summary& later, const Summary& first) const {
    return joined(first, later);
  }
};

constexpr int kLastLane = static_cast<int>(kWarpLanes) - 1;

// Calls body(t, is_step, element) for the steps of a share, 32 at a time and the last ones first. Lanes before its
// first step have an element that hands everything on.
template <typename Elements, typename Arguments, typename Warp, typename Body>
PPO_HD void each_steps_of_lanes(const Arguments& a, const Share& share, const Warp& warp,
                                const Body& body) {
  for (std::ptrdiff_t end = share.last; end > share.first; end -= kAhead * kWarpLanes) {
    const std::ptrdiff_t t = end - 1 - warp.lane();
    typename Elements::Element x[kAhead] = {};
    for (int k = 0; k < kAhead; ++k) {
      if (t - k * kWarpLanes >= share.first) {
        x[k] = Elements::front(a, t - k * kWarpLanes, share.n);
      }
    }
    for (int k = 0; k < kAhead; ++k) {
      if (end - k * kWarpLanes <= share.first) break;
      body(t - k * kWarpLanes, t - k * kWarpLanes >= share.first, x[k]);
    }
  }
}

// A of this lane's step, from what is carried into the 32 of them; `carry` becomes what they hand on.
template <typename T, typename Warp>
PPO_HD T advance(const Warp& warp, T delta, T coefficient, bool in_order, double& carry) {
  if (!in_order) {
    const double all =
        carried_out(warp.scan(summary_of(delta, coefficient), JoinBackward()), carry);
    carry = warp.of(all, kLastLane);
    return static_cast<T>(all);
  }
  T running = static_cast<T>(carry);
  T own = T(0);
  for (int lane = 0; lane <= kLastLane; ++lane) {
    recur(warp.of(delta, lane), warp.of(coefficient, lane), running);
    if (lane == warp.lane()) own = running;
  }
  carry = static_cast<double>(running);
  return own;
}

// x of the step behind this lane's, `carried` being that of the step behind all of them.
template <typename T, typename Warp>
PPO_HD T behind(const Warp& warp, T x, T carried) {
  const T before = warp.of(x, warp.lane() == 0 ? 0 : warp.lane() - 1);
  return warp.lane() == 0 ? carried : before;
}

template <typename Elements, typename Arguments, typename Warp>
PPO_HD Summary row_summary(const Arguments& a, const Share& share, const Warp& warp) {
  using T = typename Arguments::Value;
  Summary all = {0, 1};
  each_steps_of_lanes<Elements>(
      a, share, warp, [&](std::ptrdiff_t, bool is_step, const typename Elements::Element& element) {
        const Summary x =
            is_step ? summary_of<T>(element.delta(), element.coefficient) : Summary{0, 1};
        all = joined(warp.of(warp.scan(x, JoinBackward()), kLastLane), all);
      });
  return all;
}

template <typename Elements, typename Arguments, typename Warp>
PPO_HD void row_results(const Arguments& a, const Share& share, bool in_order, double carry,
                        const Warp& warp) {
  using T = typename Arguments::Value;
  each_steps_of_lanes<Elements>(
      a, share, warp,
      [&](std::ptrdiff_t t, bool is_step, const typename Elements::Element& element) {
        const T carried = static_cast<T>(carry);
        const T advantage = advance<T>(warp, is_step ? element.delta() : T(0),
                                       is_step ? element.coefficient : T(1), in_order, carry);
        const T later = behind(warp, advantage, carried);
        if (is_step) Elements::finish(a, t, share.n, element, advantage, later);
      });
}

// What the parts behind one hand on to it; summaries are [N, parts].

PPO_HD double carry_into_column(const Summary* summaries, std::ptrdiff_t parts, const Share& share,
                                std::ptrdiff_t n) {
  double carry = 0;
  for (std::ptrdiff_t p = parts - 1; p > share.part; --p) {
    carry = carried_out(summaries[n * parts + p], carry);
  }
  return carry;
}

template <typename Warp>
PPO_HD double carry_into_row(const Summary* summaries, std::ptrdiff_t parts, const Share& share,
                             const Warp& warp) {
  double carry = 0;
  for (std::ptrdiff_t end = parts; end > share.part + 1; end -= kWarpLanes) {
    const std::ptrdiff_t p = end - 1 - warp.lane();
    const Summary x = p > share.part ? summaries[share.n * parts + p] : Summary{0, 1};
    carry = carried_out(warp.of(warp.scan(x, JoinBackward()), kLastLane), carry);
  }
  return carry;
}

// The two passes of a warp. The first is only made where there are several parts.

template <typename Elements, typename Arguments, typename Warp>
PPO_HD void summarize(const Arguments& a, const Cut& cut, const Share& share, const Warp& warp,
                      Summary* summaries) {
  if (share.part == 0) return;  // nothing comes before the first part
  if (cut.along_time) {
    const Summary summary = row_summary<Elements>(a, share, warp);
    if (warp.lane() == 0) summaries[share.n * cut.parts + share.part] = summary;
  } else if (warp.lane() < share.columns) {
    const std::ptrdiff_t n = share.n + warp.lane();
    summaries[n * cut.parts + share.part] = column_summary<Elements>(a, share, n);
  }
}

template <typename Elements, typename Arguments, typename Warp>
PPO_HD void compute(const Arguments& a, const Cut& cut, const Share& share, const Warp& warp,
                    const Summary* summaries) {
  if (cut.along_time) {
    const double carry = carry_into_row(summaries, cut.parts, share, warp);
    row_results<Elements>(a, share, cut.in_order, carry, warp);
  } else if (warp.lane() < share.columns) {
    const std::ptrdiff_t n = share.n + warp.lane();
    const double carry = carry_into_column(summaries, cut.parts, share, n);
    column_results<Elements>(a, share, n, carry);
  }
}

}  // namespace ppo::inline PPO_ISA
