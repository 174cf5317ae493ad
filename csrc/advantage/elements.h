// The estimators one element at a time, read through the views of a call: what a lane of a GPU does. The CPU's loops
// (estimators.h) read runs instead; the arithmetic is that of formula.h in both.
//
// A lane first has the views of the call `From` where its steps end. An element is then read in three steps, each made for
// all of its steps before the next one: `load`, of which nothing is looked at while loads are to be under way; `complete`, what
// can only be loaded once flags are known; `front`, delta and c. From A, and A one step later, `finish` makes the results.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "advantage/arguments.h"
#include "advantage/cut.h"
#include "advantage/formula.h"
#include "support/math.h"

namespace ppo::inline PPO_ISA {

// Where step t of column n is in a view; 0 if there is no view.
template <typename View>
PPO_HD std::ptrdiff_t place_in(const View& view, std::ptrdiff_t t, std::ptrdiff_t n) {
  return view.data == nullptr ? 0 : t * view.stride_t + n * view.stride_n;
}

// A view from a step of a column on: (back) is the element `back` steps before. The address of that step is formed once, and
// the way back is the same for all lanes.
template <typename T>
struct Backward {
  T* data;
  T* start;
  std::ptrdiff_t stride;

  PPO_HD Backward(const View2<T>& view, std::ptrdiff_t t, std::ptrdiff_t n)
      : data(view.data), start(view.data + place_in(view, t, n)), stride(view.stride_t) {}

  PPO_HD T& operator()(int back) const { return start[-back * stride]; }
  PPO_HD T or_zero(int back) const { return data == nullptr ? T(0) : (*this)(back); }
};

struct BackwardFlags {
  const void* data;
  FlagType type;
  std::ptrdiff_t stride;
  std::ptrdiff_t place;

  PPO_HD BackwardFlags(const FlagView& view, std::ptrdiff_t t, std::ptrdiff_t n)
      : data(view.data), type(view.type), stride(view.stride_t), place(place_in(view, t, n)) {}

  // The bits of a flag as they come, where they fit; `is_set` looks at them.
  PPO_HD std::uint32_t bits(int back) const {
    if (data == nullptr) return 0;
    if (type == FlagType::kByte) return at<std::uint8_t>(back);
    if (type == FlagType::kFloat) return std::bit_cast<std::uint32_t>(at<float>(back));
    if (type == FlagType::kInt32) return std::bit_cast<std::uint32_t>(at<std::int32_t>(back));
    if (type == FlagType::kInt64) return at<std::int64_t>(back) != 0;
    return at<double>(back) != 0;
  }
  template <typename T>
  PPO_HD T at(int back) const {
    return (static_cast<const T*>(data) + place)[-back * stride];
  }
  PPO_HD bool is_set(std::uint32_t bits) const {
    return (type == FlagType::kFloat ? bits << 1 : bits) != 0;  // -0.0 is not set
  }
};

// What is read of a transition.
template <typename T>
struct Loaded {
  T reward;
  T value;
  T next_value;
  std::uint32_t terminated;
  std::uint32_t truncated;
  std::uint32_t masked;
};

// Transitions before step t of column n.
template <typename T>
struct TransitionsFrom {
  Backward<const T> rewards;
  Backward<const T> values;
  Backward<const T> after;
  Backward<const T> after_first;  // of the transition just before, the last one of all or not
  Backward<const T> final_values;
  BackwardFlags terminated;
  BackwardFlags terminated_first;
  BackwardFlags truncated;
  BackwardFlags masked;
  std::uint8_t on_truncation;
  T gamma;
  T decay;
  bool is_end;

  PPO_HD TransitionsFrom(const Transitions<T>& a, std::ptrdiff_t t, std::ptrdiff_t n)
      : rewards(a.rewards, t, n),
        values(a.values, t, n),
        after(a.after, t, n),
        after_first(t == a.num_steps ? a.last_after : a.after, t, n),
        final_values(a.final_values, t, n),
        terminated(a.terminated, t, n),
        terminated_first(t == a.num_steps ? a.last_terminated : a.terminated, t, n),
        truncated(a.truncated, t, n),
        masked(a.masked, t, n),
        on_truncation(truncation_code(a.on_truncation)),
        gamma(static_cast<T>(a.gamma)),
        decay(static_cast<T>(a.gamma * (a.lambdas ? a.lambdas[n] : a.gae_lambda))),
        is_end(t == a.num_steps) {}

  PPO_HD Loaded<T> load(int back) const {
    return {rewards(back),
            values.or_zero(back),
            back == 1 ? after_first.or_zero(back) : after.or_zero(back),
            back == 1 ? terminated_first.bits(back) : terminated.bits(back),
            truncated.bits(back),
            masked.bits(back)};
  }
  PPO_HD std::uint8_t flags(int back, const Loaded<T>& x) const {
    const bool terminates =
        back == 1 ? terminated_first.is_set(x.terminated) : terminated.is_set(x.terminated);
    return flag_code(terminates, truncated.is_set(x.truncated), masked.is_set(x.masked),
                     on_truncation);
  }
  // A truncated transition is followed by its final value.
  PPO_HD void complete(int back, Loaded<T>& x) const {
    if (final_values.data == nullptr) return;
    if ((flags(back, x) & kTruncated) != 0) x.next_value = final_values(back);
  }
  // Before importance weights.
  PPO_HD Front<true, T> front(int back, const Loaded<T>& x) const {
    return {x.reward, x.value, x.next_value, x.next_value, flags(back, x), decay, gamma};
  }
};

template <typename T>
struct Results {
  T first;
  T second;
};

// A lane without a step has an element that hands on everything.

template <typename T>
struct GaeElements {
  using Arguments = GaeArguments<T>;
  using Loaded = ppo::Loaded<T>;

  struct Element {
    T value = T(0);
    T delta = T(0);
    T coefficient = T(1);
  };
  struct From {
    TransitionsFrom<T> transitions;
    Backward<T> first;   // advantages
    Backward<T> second;  // returns

    PPO_HD From(const Arguments& a, std::ptrdiff_t t, std::ptrdiff_t n)
        : transitions(a, t, n), first(a.advantages, t, n), second(a.returns, t, n) {}
  };

  static PPO_HD Loaded load(const From& from, int back) { return from.transitions.load(back); }
  static PPO_HD void complete(const From& from, int back, Loaded& x) {
    from.transitions.complete(back, x);
  }
  static PPO_HD Element front(const From& from, int back, const Loaded& x) {
    const Front<true, T> front = from.transitions.front(back, x);
    return {front.value, front.delta(), front.coefficient};
  }
  static PPO_HD Results<T> finish(const From&, int, const Element& x, T advantage, T) {
    return {advantage, advantage + x.value};
  }
};

template <typename T>
struct VtraceElements {
  using Arguments = VtraceArguments<T>;

  struct Loaded {
    ppo::Loaded<T> transition;
    T log_rho;
  };
  struct Element {
    T value = T(0);
    T after = T(0);
    T reward = T(0);
    T rho = T(0);
    T delta = T(0);
    T coefficient = T(1);
    bool masked = false;
  };
  struct From {
    TransitionsFrom<T> transitions;
    Backward<const T> log_rhos;
    Backward<const T> next_values;
    Backward<T> first;   // vs
    Backward<T> second;  // policy-gradient advantages
    T rho_clip;
    T c_clip;
    T pg_rho_clip;

    PPO_HD From(const Arguments& a, std::ptrdiff_t t, std::ptrdiff_t n)
        : transitions(a, t, n),
          log_rhos(a.log_rhos, t, n),
          next_values(a.next_values, t, n),
          first(a.vs, t, n),
          second(a.pg_advantages, t, n),
          rho_clip(static_cast<T>(a.rho_clip)),
          c_clip(static_cast<T>(a.c_clip)),
          pg_rho_clip(static_cast<T>(a.pg_rho_clip)) {}
  };

  static PPO_HD Loaded load(const From& from, int back) {
    return {from.transitions.load(back), from.log_rhos(back)};
  }
  static PPO_HD void complete(const From& from, int back, Loaded& x) {
    from.transitions.complete(back, x.transition);
  }
  static PPO_HD Element front(const From& from, int back, const Loaded& x) {
    const Front<true, T> front = from.transitions.front(back, x.transition);
    const T rho = math::exp(x.log_rho);
    const T scaled = front.coefficient * clipped_weight(rho, from.c_clip);
    const T weighted = clipped_weight(rho, from.rho_clip) * front.error;
    return {front.value,
            front.after,
            x.transition.reward,
            rho,
            front.masked ? T(0) : weighted,
            front.coefficient < T(0) ? kCut<T> : scaled,
            front.masked};
  }
  static PPO_HD Results<T> finish(const From& from, int back, const Element& x, T correction,
                                  T later) {
    // Within an episode vs_{t+1} follows; at its end, and at the end of the data, V'.
    const bool ends = x.coefficient < T(0) || (back == 1 && from.transitions.is_end);
    const T next_vs = ends ? x.after : from.next_values(back) + later;
    const T error = td_error(x.reward, from.transitions.gamma, next_vs, x.value);
    const T advantage = clipped_weight(x.rho, from.pg_rho_clip) * error;
    return {x.value + correction, x.masked ? T(0) : advantage};
  }
};

}  // namespace ppo::inline PPO_ISA
