// The advantage estimators, one element at a time. All of them are one linear recurrence,
//
//     A_t = delta_t + c_t A_{t+1},
//
// run backward in time; they differ in delta_t and c_t.
//
// GAE:     J. Schulman, P. Moritz, S. Levine, M. Jordan, P. Abbeel, "High-Dimensional Continuous
//          Control Using Generalized Advantage Estimation" (2016), eq. 11-16, with the end of an
//          episode split as Gymnasium does: a terminated episode is worth nothing after its end, a
//          truncated one is worth V(final_obs).
// V-trace: L. Espeholt et al., "IMPALA: Scalable Distributed Deep-RL with Importance Weighted
//          Actor-Learner Architectures" (2018), eq. 1.
#pragma once

#include <cstdint>

#include "advantage/arguments.h"
#include "ppo_fast/host_device.h"

namespace ppo::inline PPO_ISA {

// V'_t, the value after transition t. Selects, never multiplies: 0 * NaN is NaN.
template <typename T>
PPO_HD T value_after(bool terminated, bool truncated, T final_value, T next_value) {
  const T bootstrap = truncated ? final_value : next_value;
  return terminated ? T(0) : bootstrap;
}

// delta_t = r_t + gamma V'_t - V_t
template <typename T>
PPO_HD T td_error(T reward, T gamma, T value_after, T value) {
  return reward + gamma * value_after - value;
}

// The coefficient of a transition that nothing is carried back over. True coefficients are never
// negative; a zero would not do, because 0 * NaN is NaN.
template <typename T>
inline constexpr T kCut = T(-1);

// A_t = delta_t + c_t A_{t+1}; for GAE c_t is gamma lambda, formed in double and rounded once.
// Of numbers, or of vectors (support/vector.h).
template <typename T>
PPO_HD void recur(const T& delta, const T& coefficient, T& carry) {
  const T carried = delta + coefficient * carry;
  carry = coefficient < T{} ? delta : carried;
}

// What a stretch of time hands on of what is carried into it. A coefficient of zero cuts, whatever
// is carried in.
PPO_HD double carried_out(const Summary& stretch, double carry) {
  const double carried = stretch.b + stretch.c * carry;
  return stretch.c == 0 ? stretch.b : carried;
}

// The summary of one stretch and the one behind it. That of none is Summary().
PPO_HD Summary joined(const Summary& first, const Summary& later) {
  return {carried_out(first, later.b), first.c == 0 ? 0 : first.c * later.c};
}

PPO_HD TokenSummary::Carried carried_out(const TokenSummary& stretch,
                                         const TokenSummary::Carried& carry) {
  const double of_value = stretch.d == 0 ? 0 : stretch.d * carry.value;
  return {carried_out(stretch.advantage, carry.advantage) + of_value,
          carried_out(stretch.value, carry.value)};
}
PPO_HD TokenSummary joined(const TokenSummary& first, const TokenSummary& later) {
  const auto out = carried_out(first, {later.advantage.b, later.value.b});
  const double of_advantage = first.advantage.c == 0 ? 0 : first.advantage.c * later.d;
  return {{out.advantage, joined(first.advantage, later.advantage).c},
          {out.value, joined(first.value, later.value).c},
          of_advantage + first.d * later.value.c};
}

constexpr std::uint8_t kTerminated = 1;
constexpr std::uint8_t kTruncated = 2;
constexpr std::uint8_t kMasked = 4;

// What a truncated transition counts as.
PPO_HD std::uint8_t truncation_code(OnTruncation rule) {
  return rule == OnTruncation::kTerminate ? kTerminated
         : rule == OnTruncation::kDrop    ? kMasked
                                          : kTruncated;
}

// The flags of a transition in one byte.
PPO_HD std::uint8_t flag_code(bool terminated, bool truncated, bool masked, std::uint8_t code) {
  const std::uint8_t cut = truncated ? code : std::uint8_t(0);
  const std::uint8_t end = terminated ? kTerminated : cut;
  const std::uint8_t mask = masked ? kMasked : std::uint8_t(0);
  return static_cast<std::uint8_t>(end | mask);
}

// delta and c of a transition, without importance weights. kCodes: flags are codes; else anything but 0 says
// terminated, and final_value is not looked at.
template <bool kCodes, typename T>
struct Front {
  T value;
  T after;
  T error;
  T coefficient;
  bool masked;

  Front() = default;
  PPO_HD Front(T reward, T value_, T next_value, T final_value, std::uint8_t flags, T decay,
               T gamma)
      : value(value_) {
    const bool terminated = kCodes ? (flags & kTerminated) != 0 : flags != 0;
    const bool truncated = kCodes && (flags & kTruncated) != 0;
    masked = kCodes && (flags & kMasked) != 0;
    after = value_after(terminated, truncated, final_value, next_value);
    error = td_error(reward, gamma, after, value);
    coefficient = flags != 0 ? kCut<T> : decay;
  }

  PPO_HD T delta() const { return masked ? T(0) : error; }
};

// A token that a mask does not count. skip: it is no step at all, A and V are carried past it (verl, NeMo-RL);
// else it is a step with reward 0 and value 0 (OpenRLHF).
template <typename T>
struct TokenRule {
  T gamma;
  T decay;  // gamma lambda
  T other_gamma;
  T other_decay;

  PPO_HD TokenRule(bool skip, T gamma_, T decay_)
      : gamma(gamma_),
        decay(decay_),
        other_gamma(skip ? T(0) : gamma_),
        other_decay(skip ? T(1) : decay_) {}

  PPO_HD T delta(bool counted, T reward, T after, T value) const {
    const T error = td_error(reward, gamma, after, value);
    const T other = other_gamma == T(0) ? T(0) : other_gamma * after;
    return counted ? error : other;
  }
  PPO_HD T coefficient(bool counted) const { return counted ? decay : other_decay; }
  // How much of `after` is in delta.
  PPO_HD T of_value(bool counted) const { return counted ? gamma : other_gamma; }
};

// min(rho_bar, rho_t); NaN stays NaN.
template <typename T>
PPO_HD T clipped_weight(T rho, T limit) {
  return rho > limit ? limit : rho;
}

}  // namespace ppo::inline PPO_ISA
