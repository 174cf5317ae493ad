// What a warp does with its share of token sequences (tokens.h has them for the CPU): lanes are tokens of a row.
//
// The value behind a token is that of the next one that counts, so it is carried backward as well, by a recurrence
// whose coefficients are 0 and 1. Packed sequences are one row, in which nothing is carried over an end.
#pragma once

#include <cstddef>
#include <cstdint>

#include "advantage/warps.h"

namespace ppo::inline PPO_ISA {

// Which sequence element t of row n belongs to.
template <typename T>
PPO_HD std::ptrdiff_t sequence_of(const TokenArguments<T>& a, std::ptrdiff_t t, std::ptrdiff_t n) {
  if (!a.starts) return n;
  std::ptrdiff_t low = 0;  // starts[low] <= t < starts[high]
  std::ptrdiff_t high = a.num_sequences;
  while (high - low > 1) {
    const std::ptrdiff_t middle = low + (high - low) / 2;
    (a.starts[middle] <= t ? low : high) = middle;
  }
  return low;
}

template <typename T>
struct TokenElements {
  using Arguments = TokenArguments<T>;

  struct Element {
    T reward = T(0);
    T value = T(0);
    T decay = T(0);
    T bootstrap = T(0);  // V behind the last token of a sequence
    bool counted = false;
    bool is_last = false;
  };

  static PPO_HD Element front(const Arguments& a, std::ptrdiff_t t, std::ptrdiff_t n) {
    const std::ptrdiff_t sequence = sequence_of(a, t, n);
    Element x;
    x.reward = a.rewards(t, n);
    x.value = a.values(t, n);
    x.counted = flag_at(a.mask, t, n);
    x.is_last = t + 1 == (a.starts ? a.starts[sequence + 1] : a.num_steps);
    x.decay = static_cast<T>(a.gamma * (a.lambdas ? a.lambdas[sequence] : a.gae_lambda));
    if (x.is_last) x.bootstrap = a.bootstrap[sequence];
    return x;
  }
  static PPO_HD void finish(const Arguments& a, std::ptrdiff_t t, std::ptrdiff_t n,
                            const Element& x, T advantage) {
    const T counted = x.counted ? advantage : T(0);
    a.advantages(t, n) = counted;
    a.returns(t, n) = counted + x.value;
  }
};

// What a token does to the value carried past it.
template <typename T>
PPO_HD Summary value_step(const typename TokenElements<T>::Element& x, bool skip) {
  if (x.counted) return {static_cast<double>(x.value), 0};
  if (!skip) return {0, 0};
  return x.is_last ? Summary{static_cast<double>(x.bootstrap), 0} : Summary{0, 1};
}

// The value behind this lane's token; `carried`, that behind all 32, becomes that of the first.
template <typename T, typename Warp>
PPO_HD T value_behind(const Warp& warp, const typename TokenElements<T>::Element& x, bool is_step,
                      bool skip, double& carried) {
  const Summary own = is_step ? value_step<T>(x, skip) : Summary{0, 1};
  const double from = carried_out(warp.scan(own, JoinBackward()), carried);
  const double next = behind(warp, from, carried);
  carried = warp.of(from, kLastLane);
  return x.is_last ? x.bootstrap : static_cast<T>(next);
}

template <typename T, typename Warp>
PPO_HD Summary token_value_summary(const TokenArguments<T>& a, const Share& share,
                                   const Warp& warp) {
  Summary all = {0, 1};
  each_steps_of_lanes<TokenElements<T>>(
      a, share, warp, [&](std::ptrdiff_t, bool is_step, const auto& x) {
        const Summary own = is_step ? value_step<T>(x, a.skip) : Summary{0, 1};
        all = joined(warp.of(warp.scan(own, JoinBackward()), kLastLane), all);
      });
  return all;
}

// Calls body(t, is_step, element, delta, coefficient) for the tokens of a share, `value` being that behind its last.
template <typename T, typename Warp, typename Body>
PPO_HD void each_tokens_of_lanes(const TokenArguments<T>& a, const Share& share, double value,
                                 const Warp& warp, const Body& body) {
  each_steps_of_lanes<TokenElements<T>>(
      a, share, warp, [&](std::ptrdiff_t t, bool is_step, const auto& x) {
        const T after = value_behind<T>(warp, x, is_step, a.skip, value);
        const TokenRule<T> rule(a.skip, static_cast<T>(a.gamma), x.decay);
        const T delta = is_step ? rule.delta(x.counted, x.reward, after, x.value) : T(0);
        const T coefficient = is_step ? rule.coefficient(x.counted) : T(1);
        body(t, is_step, x, delta, x.is_last ? kCut<T> : coefficient);
      });
}

// The three passes of a warp, the first two only where there are several parts.

template <typename T, typename Warp>
PPO_HD void summarize_token_values(const TokenArguments<T>& a, const Cut& cut, const Share& share,
                                   const Warp& warp, Summary* values) {
  if (share.part == 0) return;
  const Summary summary = token_value_summary(a, share, warp);
  if (warp.lane() == 0) values[share.n * cut.parts + share.part] = summary;
}

template <typename T, typename Warp>
PPO_HD void summarize_tokens(const TokenArguments<T>& a, const Cut& cut, const Share& share,
                             const Warp& warp, const Summary* values, Summary* summaries) {
  if (share.part == 0) return;
  const double value = carry_into_row(values, cut.parts, share, warp);
  Summary all = {0, 1};
  each_tokens_of_lanes(a, share, value, warp,
                       [&](std::ptrdiff_t, bool, const auto&, T delta, T coefficient) {
                         const Summary own = summary_of(delta, coefficient);
                         all = joined(warp.of(warp.scan(own, JoinBackward()), kLastLane), all);
                       });
  if (warp.lane() == 0) summaries[share.n * cut.parts + share.part] = all;
}

template <typename T, typename Warp>
PPO_HD void compute_tokens(const TokenArguments<T>& a, const Cut& cut, const Share& share,
                           const Warp& warp, const Summary* values, const Summary* summaries) {
  const double value = carry_into_row(values, cut.parts, share, warp);
  double carry = carry_into_row(summaries, cut.parts, share, warp);
  each_tokens_of_lanes(a, share, value, warp,
                       [&](std::ptrdiff_t t, bool is_step, const auto& x, T delta, T coefficient) {
                         const T advantage = advance(warp, delta, coefficient, cut.in_order, carry);
                         if (is_step) TokenElements<T>::finish(a, t, share.n, x, advantage);
                       });
}

}  // namespace ppo::inline PPO_ISA
