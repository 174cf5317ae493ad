// The estimator of token sequences: GAE over the tokens that a mask counts; formula.h has what others come to. Results
// at those are A = 0, R = V.
#pragma once

#include <cstddef>
#include <cstdint>

#include "advantage/arguments.h"
#include "advantage/formula.h"
#include "advantage/runs.h"
#include "support/vector.h"

namespace ppo::inline PPO_ISA {

template <typename Arguments>
class TokenEstimator {
 public:
  using T = typename Arguments::Value;
  static constexpr bool kNeedsLater = false;

  explicit TokenEstimator(const Arguments& a) : a_(a), gamma_(static_cast<T>(a.gamma)) {}

  std::ptrdiff_t num_steps(std::ptrdiff_t n) const {
    if (!a_.starts) return a_.num_steps;
    const std::int64_t* start = a_.starts + a_.first_sequence + n;
    const std::ptrdiff_t length = start[1] - start[0];
    return length <= a_.longest ? length : 0;
  }

  // Prepares for the spans of `columns` sequences from n on, the last of which ends at t or at the
  // end of the sequence: finds V of the first counted token behind it, or the bootstrap.
  void start(std::ptrdiff_t n, std::ptrdiff_t columns, std::ptrdiff_t t) {
    for (std::ptrdiff_t k = 0; k < columns; ++k) next_[k] = value_from(n + k, t);
  }

  void front(const Span& s) {
    for (std::ptrdiff_t k = 0; k < s.columns; ++k) {
      const Span one = steps_of(s, k);
      T* d = delta + k * s.steps;
      T* c = coefficient + k * s.steps;
      if (one.steps > 0) fill(s.n + k, one, next_[k], d, c);
      for (std::ptrdiff_t i = one.steps; i < s.steps; ++i) {  // behind the end: carries on nothing
        d[i] = T(0);
        c[i] = T(1);
      }
    }
  }

  void back(const Span& s, const T* advantage, const T*) {
    for (std::ptrdiff_t k = 0; k < s.columns; ++k, advantage += s.steps) {
      const Span one = steps_of(s, k);
      if (one.steps == 0) continue;
      const std::ptrdiff_t n = s.n + k;
      const T* values = fetch<T>(row(a_.values, n), one, values_, nullptr);
      const std::uint8_t* mask = fetch(row(a_.mask, n), one, mask_, nullptr);
      for (std::ptrdiff_t i = 0; i < one.steps; ++i) {
        const T value = values[i];
        const T counted = mask[i] != 0 ? advantage[i] : T(0);
        results_[i] = counted;
        returns_[i] = counted + value;
      }
      put(row(a_.advantages, n), one, results_);
      put(row(a_.returns, n), one, returns_);
    }
  }

  alignas(64) T delta[kRun];
  alignas(64) T coefficient[kRun];

 private:
  // The part of a span that sequence s.n + k has.
  Span steps_of(const Span& s, std::ptrdiff_t k) const {
    const std::ptrdiff_t left = num_steps(s.n + k) - s.t;
    const std::ptrdiff_t steps = left < 0 ? 0 : (left < s.steps ? left : s.steps);
    return {s.t, steps, 0, 1};
  }

  T value_from(std::ptrdiff_t n, std::ptrdiff_t t) {
    const std::ptrdiff_t length = num_steps(n);
    // A scan asks for one block after the other: what was found once need not be searched again.
    if (n != known_row_ || t < known_from_ || t > known_at_) {
      known_row_ = n;
      known_from_ = t;
      known_at_ = length;
    } else {
      t = known_at_;
    }
    while (t < length) {
      const Span run = {t, length - t < kRun ? length - t : kRun, 0, 1};
      const std::uint8_t* mask = fetch(row(a_.mask, n), run, mask_, nullptr);
      std::ptrdiff_t i = 0;
      while (i < run.steps && mask[i] == 0 && a_.skip) ++i;
      if (i < run.steps) {
        const Span one = {t + i, 1, 0, 1};
        known_at_ = t + i;
        return mask[i] != 0 ? *fetch<T>(row(a_.values, n), one, values_, nullptr) : T(0);
      }
      t += run.steps;
    }
    return a_.bootstrap_of(a_.first_sequence + n);
  }

  void fill(std::ptrdiff_t n, const Span& run, T& next, T* __restrict d, T* __restrict c) {
    const T* rewards = fetch<T>(row(a_.rewards, n), run, rewards_, nullptr);
    const T* values = fetch<T>(row(a_.values, n), run, values_, nullptr);
    const std::uint8_t* mask = fetch(row(a_.mask, n), run, mask_, nullptr);
    std::uint8_t all = 1;
    for (std::ptrdiff_t i = 0; i < run.steps; ++i) {
      all = static_cast<std::uint8_t>(all & (mask[i] != 0));
    }
    T behind = next;
    if (all) {  // most runs lie within a response
      after_[run.steps - 1] = next;
      for (std::ptrdiff_t i = 0; i + 1 < run.steps; ++i) after_[i] = values[i + 1];
      behind = values[0];
    } else {
      for (std::ptrdiff_t i = run.steps - 1; i >= 0; --i) {
        after_[i] = behind;
        const T passed = a_.skip ? behind : T(0);
        behind = mask[i] != 0 ? values[i] : passed;
      }
    }
    next = behind;

    const double trace = a_.lambdas ? a_.lambdas[a_.first_sequence + n] : a_.gae_lambda;
    const auto decay = static_cast<T>(a_.gamma * trace);
    const TokenRule<T> rule(a_.skip, gamma_, decay);
    PPO_INDEPENDENT
    for (std::ptrdiff_t i = 0; i < run.steps; ++i) {
      const bool counted = mask[i] != 0;
      d[i] = rule.delta(counted, rewards[i], after_[i], values[i]);
      c[i] = rule.coefficient(counted);
    }
  }

  // Elements between the start of the array and that of sequence n.
  template <typename View>
  std::ptrdiff_t start_of(const View& view, std::ptrdiff_t n) const {
    return a_.starts ? a_.starts[a_.first_sequence + n] * view.stride_t
                     : (a_.first_sequence + n) * view.stride_n;
  }
  template <typename U>
  View2<U> row(const View2<U>& view, std::ptrdiff_t n) const {
    return {view.data + start_of(view, n), view.stride_t, 0};
  }
  FlagView row(const FlagView& view, std::ptrdiff_t n) const {
    return {static_cast<const char*>(view.data) + start_of(view, n) * flag_size(view.type),
            view.stride_t, 0, view.type};
  }

  const Arguments& a_;
  T gamma_;
  T next_[kLanes];
  std::ptrdiff_t known_row_ = -1;  // the last search: in this row,
  std::ptrdiff_t known_from_ = 0;  // from here on,
  std::ptrdiff_t known_at_ = 0;    // the first counted token is this one
  alignas(64) T rewards_[kRun];
  alignas(64) T values_[kRun];
  alignas(64) T after_[kRun];
  alignas(64) T results_[kRun];
  alignas(64) T returns_[kRun];
  alignas(64) std::uint8_t mask_[kRun];
};

}  // namespace ppo::inline PPO_ISA
