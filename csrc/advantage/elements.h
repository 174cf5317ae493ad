// The estimators one element at a time, read through the views of a call: what a lane of a GPU does. The CPU's loops
// (estimators.h) read runs instead; the arithmetic is that of formula.h in both.
//
// A lane first has the views of the call `From` where its steps end. They are then read in three rounds: `load`, view by view,
// of which nothing is looked at while loads are to be under way; `complete`, what can only be loaded once flags are known;
// `front`, delta and c. From A, and A one step later, `finish` makes the results. Steps count backward: k is the one `k + 1`
// steps before the end.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

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

// Calls body(k, element) for the steps first to count - 1 before `at`, `at` being that of step `first` - 1.
template <int kMost, typename T, typename Body>
PPO_HD void each_before(T* at, std::ptrdiff_t stride, int first, int count, const Body& body) {
  PPO_UNROLL
  for (int k = 0; k < kMost; ++k) {
    if (k < first || k >= count) continue;
    at -= stride;
    body(k, *at);
  }
}

// Neighbours in memory that go to registers and back in one piece: each piece of a sector would be an access of its own.
template <typename T, int kMost>
struct alignas(sizeof(T) * kMost < 16 ? sizeof(T) * kMost : 16) Run {
  std::remove_const_t<T> items[kMost];
};

// The kMost elements before `end`, if there are so many and they are neighbours that lie as a run must; else null.
template <int kMost, typename T>
PPO_HD auto* run_before(T* end, std::ptrdiff_t stride, int count) {
  using Items = std::conditional_t<std::is_const_v<T>, const Run<T, kMost>, Run<T, kMost>>;
  T* first = end - kMost;
  const bool fits = count == kMost && stride == 1 &&
                    reinterpret_cast<std::uintptr_t>(first) % alignof(Items) == 0;
  return fits ? reinterpret_cast<Items*>(first) : nullptr;
}

// Calls body(k, element) for all steps before `at`, the last one first.
template <bool kRows, int kMost, typename T, typename Body>
PPO_HD void all_before(T* at, std::ptrdiff_t stride, int count, const Body& body) {
  if constexpr (kRows) {
    if (auto* run = run_before<kMost>(at, stride, count)) {
      const auto loaded = *run;
      PPO_UNROLL
      for (int k = 0; k < kMost; ++k) body(k, loaded.items[kMost - 1 - k]);
      return;
    }
  }
  each_before<kMost>(at, stride, 0, count, body);
}

// A view from a step of a column on.
template <typename T>
struct Backward {
  T* data;
  T* start;
  std::ptrdiff_t stride;

  PPO_HD Backward(const View2<T>& view, std::ptrdiff_t t, std::ptrdiff_t n)
      : data(view.data), start(view.data + place_in(view, t, n)), stride(view.stride_t) {}

  PPO_HD T& operator()(int k) const { return start[-(k + 1) * stride]; }

  template <int kMost, typename Body>
  PPO_HD void each(int first, int count, const Body& body) const {
    each_before<kMost>(start - first * stride, stride, first, count, body);
  }
  template <bool kRows, int kMost, typename Body>
  PPO_HD void all(int count, const Body& body) const {
    all_before<kRows, kMost>(start, stride, count, body);
  }
  template <int kMost>
  PPO_HD auto* run(int count) const {
    return run_before<kMost>(start, stride, count);
  }
  // The same, with zeros if there is no view.
  template <int kMost, typename Body>
  PPO_HD void each_or_zero(int first, int count, const Body& body) const {
    if (data == nullptr) {
      zeros<kMost>(first, body);
    } else {
      each<kMost>(first, count, body);
    }
  }
  template <bool kRows, int kMost, typename Body>
  PPO_HD void all_or_zero(int count, const Body& body) const {
    if (data == nullptr) {
      zeros<kMost>(0, body);
    } else {
      all<kRows, kMost>(count, body);
    }
  }

 private:
  template <int kMost, typename Body>
  PPO_HD void zeros(int first, const Body& body) const {
    PPO_UNROLL
    for (int k = first; k < kMost; ++k) body(k, T(0));
  }
};

struct BackwardFlags {
  const void* data;
  FlagType type;
  std::ptrdiff_t stride;
  std::ptrdiff_t place;

  PPO_HD BackwardFlags(const FlagView& view, std::ptrdiff_t t, std::ptrdiff_t n)
      : data(view.data), type(view.type), stride(view.stride_t), place(place_in(view, t, n)) {}

  // The bits of flags as they come, where they fit; `is_set` looks at them.
  template <int kMost, typename Body>
  PPO_HD void each(int first, int count, const Body& body) const {
    read<kMost>(first, body, [&]<typename T>(const T* end, const auto& take) {
      each_before<kMost>(end - first * stride, stride, first, count, take);
    });
  }
  template <bool kRows, int kMost, typename Body>
  PPO_HD void all(int count, const Body& body) const {
    read<kMost>(0, body, [&]<typename T>(const T* end, const auto& take) {
      all_before<kRows, kMost>(end, stride, count, take);
    });
  }
  // Of flags that are bytes.
  template <int kMost, typename Body>
  PPO_HD void each_byte(int first, int count, const Body& body) const {
    each_before<kMost>(end<std::uint8_t>() - first * stride, stride, first, count, body);
  }
  template <bool kRows, int kMost, typename Body>
  PPO_HD void all_bytes(int count, const Body& body) const {
    all_before<kRows, kMost>(end<std::uint8_t>(), stride, count, body);
  }
  PPO_HD bool is_set(std::uint32_t bits) const {
    return (type == FlagType::kFloat ? bits << 1 : bits) != 0;  // -0.0 is not set
  }

 private:
  // from(end, take) reads elements of the flags' type, of which `take` makes bits.
  template <int kMost, typename Body, typename From>
  PPO_HD void read(int first, const Body& body, const From& from) const {
    if (data == nullptr) {
      PPO_UNROLL
      for (int k = first; k < kMost; ++k) body(k, 0u);
    } else if (type == FlagType::kByte) {
      from(end<std::uint8_t>(), body);
    } else if (type == FlagType::kFloat) {
      from(end<float>(), [&](int k, float x) { body(k, std::bit_cast<std::uint32_t>(x)); });
    } else if (type == FlagType::kInt32) {
      from(end<std::uint32_t>(), body);
    } else if (type == FlagType::kInt64) {
      from(end<std::int64_t>(), [&](int k, std::int64_t x) { body(k, x != 0 ? 1u : 0u); });
    } else {
      from(end<double>(), [&](int k, double x) { body(k, x != 0 ? 1u : 0u); });
    }
  }
  template <typename T>
  PPO_HD const T* end() const {
    return static_cast<const T*>(data) + place;
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

// Transitions before step t of column n. kPlain: in the form that most calls have (has_plain_form in cut.h).
template <typename T, bool kPlain>
struct TransitionsFrom {
  Backward<const T> rewards;
  Backward<const T> values;
  Backward<const T> after;
  Backward<const T> after_first;  // of k = 0, which may be the last transition of all
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

  // x[k] for k < count, view by view.
  template <bool kRows, int kMost, typename Into>
  PPO_HD void load(int count, Into (&x)[kMost]) const {
    rewards.template all<kRows, kMost>(count, [&](int k, T y) { x[k].reward = y; });
    const auto set_value = [&](int k, T y) { x[k].value = y; };
    const auto set_next = [&](int k, T y) { x[k].next_value = y; };
    const auto set_terminated = [&](int k, std::uint32_t y) { x[k].terminated = y; };
    if constexpr (kPlain) {
      values.template all<kRows, kMost>(count, set_value);
      after_first.template each<1>(0, count, set_next);
      terminated_first.template each_byte<1>(0, count, set_terminated);
      if (kRows && !is_end) {
        terminated.template all_bytes<kRows, kMost>(count, set_terminated);
      } else {
        terminated.template each_byte<kMost>(1, count, set_terminated);
      }
    } else {
      values.template all_or_zero<kRows, kMost>(count, set_value);
      after_first.template each_or_zero<1>(0, count, set_next);
      after.template each_or_zero<kMost>(1, count, set_next);
      terminated_first.template each<1>(0, count, set_terminated);
      terminated.template each<kMost>(1, count, set_terminated);
      truncated.template all<kRows, kMost>(count,
                                           [&](int k, std::uint32_t y) { x[k].truncated = y; });
      masked.template all<kRows, kMost>(count, [&](int k, std::uint32_t y) { x[k].masked = y; });
    }
  }
  PPO_HD std::uint8_t flags(int k, const Loaded<T>& x) const {
    const bool terminates =
        k == 0 ? terminated_first.is_set(x.terminated) : terminated.is_set(x.terminated);
    return flag_code(terminates, truncated.is_set(x.truncated), masked.is_set(x.masked),
                     on_truncation);
  }
  // A truncated transition is followed by its final value.
  PPO_HD void complete(int k, Loaded<T>& x) const {
    if (kPlain || final_values.data == nullptr) return;
    if ((flags(k, x) & kTruncated) != 0) x.next_value = final_values(k);
  }
  // Before importance weights.
  template <int kMost, typename From>
  PPO_HD auto front(int k, const From (&all)[kMost]) const {
    const Loaded<T>& x = all[k];
    if constexpr (kPlain) {
      const T next = k > 0 ? all[k > 0 ? k - 1 : 0].value : x.next_value;
      const std::uint8_t ends = x.terminated != 0 ? 1 : 0;
      return Front<false, T>(x.reward, x.value, next, next, ends, decay, gamma);
    } else {
      return Front<true, T>(x.reward, x.value, x.next_value, x.next_value, flags(k, x), decay,
                            gamma);
    }
  }
};

template <typename T>
struct Results {
  T first;
  T second;
};

// A lane without a step has an element that hands on everything.

template <typename T, bool kPlain>
struct GaeElements {
  template <bool kRows>
  static constexpr int kWarps = kPlain && kRows ? kPlainRowWarps : ppo::kWarps;
  using Arguments = GaeArguments<T>;
  using Loaded = ppo::Loaded<T>;

  struct Element {
    T value = T(0);
    T delta = T(0);
    T coefficient = T(1);
  };
  struct From {
    TransitionsFrom<T, kPlain> transitions;
    Backward<T> first;   // advantages
    Backward<T> second;  // returns

    PPO_HD From(const Arguments& a, std::ptrdiff_t t, std::ptrdiff_t n)
        : transitions(a, t, n), first(a.advantages, t, n), second(a.returns, t, n) {}
  };

  template <bool kRows, int kMost>
  static PPO_HD void load(const From& from, int count, Loaded (&x)[kMost]) {
    from.transitions.template load<kRows>(count, x);
  }
  static PPO_HD void complete(const From& from, int k, Loaded& x) {
    from.transitions.complete(k, x);
  }
  template <int kMost>
  static PPO_HD Element front(const From& from, int k, const Loaded (&all)[kMost]) {
    const auto front = from.transitions.front(k, all);
    return {front.value, front.delta(), front.coefficient};
  }
  static PPO_HD Results<T> finish(const From&, int, const Element& x, T advantage, T) {
    return {advantage, advantage + x.value};
  }
};

template <typename T>
struct VtraceElements {
  template <bool kRows>
  static constexpr int kWarps = ppo::kWarps;
  using Arguments = VtraceArguments<T>;

  struct Loaded : ppo::Loaded<T> {
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
    TransitionsFrom<T, false> transitions;
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

  template <bool kRows, int kMost>
  static PPO_HD void load(const From& from, int count, Loaded (&x)[kMost]) {
    from.transitions.template load<kRows>(count, x);
    from.log_rhos.template all<kRows, kMost>(count, [&](int k, T y) { x[k].log_rho = y; });
  }
  static PPO_HD void complete(const From& from, int k, Loaded& x) {
    from.transitions.complete(k, x);
  }
  template <int kMost>
  static PPO_HD Element front(const From& from, int k, const Loaded (&all)[kMost]) {
    const Loaded& x = all[k];
    const auto front = from.transitions.front(k, all);
    const T rho = math::exp(x.log_rho);
    const T scaled = front.coefficient * clipped_weight(rho, from.c_clip);
    const T weighted = clipped_weight(rho, from.rho_clip) * front.error;
    return {front.value,
            front.after,
            x.reward,
            rho,
            front.masked ? T(0) : weighted,
            front.coefficient < T(0) ? kCut<T> : scaled,
            front.masked};
  }
  static PPO_HD Results<T> finish(const From& from, int k, const Element& x, T correction,
                                  T later) {
    // Within an episode vs_{t+1} follows; at its end, and at the end of the data, V'.
    const bool ends = x.coefficient < T(0) || (k == 0 && from.transitions.is_end);
    const T next_vs = ends ? x.after : from.next_values(k) + later;
    const T error = td_error(x.reward, from.transitions.gamma, next_vs, x.value);
    const T advantage = clipped_weight(x.rho, from.pg_rho_clip) * error;
    return {x.value + correction, x.masked ? T(0) : advantage};
  }
};

}  // namespace ppo::inline PPO_ISA
