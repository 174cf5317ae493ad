// The estimators one element at a time, read through the views of a call: what a lane of a GPU does. The CPU's loops
// (estimators.h) read runs instead; the arithmetic is that of formula.h in both.
#pragma once

#include <cstddef>
#include <cstdint>

#include "advantage/arguments.h"
#include "advantage/formula.h"
#include "support/math.h"

namespace ppo::inline PPO_ISA {

PPO_HD bool flag_at(const FlagView& view, std::ptrdiff_t t, std::ptrdiff_t n) {
  if (view.data == nullptr) return false;
  const std::ptrdiff_t i = t * view.stride_t + n * view.stride_n;
  switch (view.type) {
    case FlagType::kByte:
      return static_cast<const std::uint8_t*>(view.data)[i] != 0;
    case FlagType::kInt32:
      return static_cast<const std::int32_t*>(view.data)[i] != 0;
    case FlagType::kInt64:
      return static_cast<const std::int64_t*>(view.data)[i] != 0;
    case FlagType::kFloat:
      return static_cast<const float*>(view.data)[i] != 0;
    case FlagType::kDouble:
      return static_cast<const double*>(view.data)[i] != 0;
  }
  return false;
}

template <typename T>
PPO_HD T number_at(const View2<const T>& view, std::ptrdiff_t t, std::ptrdiff_t n) {
  return view ? view(t, n) : T(0);
}

// Transition t of column n, before importance weights.
template <typename T>
PPO_HD Front<true, T> front_at(const Transitions<T>& a, std::ptrdiff_t t, std::ptrdiff_t n) {
  const bool is_last = t + 1 == a.num_steps;
  const std::uint8_t flags = flag_code(flag_at(is_last ? a.last_terminated : a.terminated, t, n),
                                       flag_at(a.truncated, t, n), flag_at(a.masked, t, n),
                                       truncation_code(a.on_truncation));
  const T next_value = number_at(is_last ? a.last_after : a.after, t, n);
  const bool has_final = a.final_values && (flags & kTruncated) != 0;
  const T final_value = has_final ? a.final_values(t, n) : next_value;
  const double lambda = a.lambdas ? a.lambdas[n] : a.gae_lambda;
  return {
      number_at(a.rewards, t, n),       number_at(a.values, t, n), next_value, final_value, flags,
      static_cast<T>(a.gamma * lambda), static_cast<T>(a.gamma)};
}

// GAE: `front` makes delta and c of an element, `finish` its results, from A and the A one step later.
template <typename T>
struct GaeElements {
  using Arguments = GaeArguments<T>;
  using Element = Front<true, T>;

  static PPO_HD Element front(const Arguments& a, std::ptrdiff_t t, std::ptrdiff_t n) {
    return front_at(a, t, n);
  }
  static PPO_HD void finish(const Arguments& a, std::ptrdiff_t t, std::ptrdiff_t n,
                            const Element& x, T advantage, T) {
    if (a.advantages) a.advantages(t, n) = advantage;
    if (a.returns) a.returns(t, n) = advantage + x.value;
  }
};

// V-trace.
template <typename T>
struct VtraceElements {
  using Arguments = VtraceArguments<T>;

  struct Element {
    Front<true, T> front;
    T rho;
    T reward;
    T coefficient;
    PPO_HD T delta() const { return front.masked ? T(0) : weighted; }
    T weighted;
  };

  static PPO_HD Element front(const Arguments& a, std::ptrdiff_t t, std::ptrdiff_t n) {
    const Front<true, T> x = front_at(a, t, n);
    const T rho = math::exp(a.log_rhos(t, n));
    const T scaled = x.coefficient * clipped_weight(rho, static_cast<T>(a.c_clip));
    return {x, rho, a.rewards(t, n), x.coefficient < T(0) ? kCut<T> : scaled,
            clipped_weight(rho, static_cast<T>(a.rho_clip)) * x.error};
  }
  static PPO_HD void finish(const Arguments& a, std::ptrdiff_t t, std::ptrdiff_t n,
                            const Element& x, T correction, T later) {
    a.vs(t, n) = x.front.value + correction;
    // Within an episode vs_{t+1} follows; at its end, and at the end of the data, V'.
    const bool ends = x.coefficient < T(0) || t + 1 == a.num_steps;
    const T next_vs = ends ? x.front.after : a.next_values(t, n) + later;
    const T error = td_error(x.reward, static_cast<T>(a.gamma), next_vs, x.front.value);
    const T advantage = clipped_weight(x.rho, static_cast<T>(a.pg_rho_clip)) * error;
    a.pg_advantages(t, n) = x.front.masked ? T(0) : advantage;
  }
};

}  // namespace ppo::inline PPO_ISA
