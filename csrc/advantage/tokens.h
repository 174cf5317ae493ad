// The estimator of token sequences: GAE over the tokens that a mask counts.
//
// skip:  a token that is not counted is no step at all: A and V are carried past it (verl, NeMo-RL).
// decay: it is a step with reward 0 and value 0 (OpenRLHF).
// Results at such tokens are A = 0, R = V.
#pragma once

#include <cstddef>
#include <cstdint>

#include "advantage/arguments.h"
#include "advantage/formula.h"
#include "advantage/runs.h"

namespace ppo::inline PPO_ISA {

template <typename Arguments>
class TokenEstimator {
 public:
  using T = typename Arguments::Value;

  explicit TokenEstimator(const Arguments& a) : a_(a), gamma_(static_cast<T>(a.gamma)) {}

  std::ptrdiff_t num_steps(std::ptrdiff_t n) const {
    if (!a_.starts) return a_.num_steps;
    const std::int64_t* start = a_.starts + a_.first_sequence + n;
    const std::ptrdiff_t length = start[1] - start[0];
    return length <= a_.longest ? length : 0;
  }

  // V of the first counted token from t on, or the bootstrap behind the last one.
  void start(std::ptrdiff_t lane, std::ptrdiff_t n, std::ptrdiff_t t) {
    const std::ptrdiff_t length = num_steps(n);
    next_[lane] = t < length && !a_.skip ? T(0) : a_.bootstrap[a_.first_sequence + n];
    while (t < length) {
      const Span run = {t, length - t < kRun ? length - t : kRun, 0, 1};
      const std::uint8_t* mask = fetch_flags(row(a_.mask, n), run, mask_, nullptr);
      std::ptrdiff_t i = 0;
      while (i < run.steps && mask[i] == 0 && a_.skip) ++i;
      if (i < run.steps) {
        const Span one = {t + i, 1, 0, 1};
        if (mask[i] != 0) next_[lane] = *fetch<T>(row(a_.values, n), one, values_, nullptr);
        return;
      }
      t += run.steps;
    }
  }

  void front(const Span& s, std::ptrdiff_t offset, std::ptrdiff_t lane) {
    const Span run = {s.t, s.steps, 0, 1};
    const T* rewards = fetch<T>(row(a_.rewards, s.n), run, rewards_, nullptr);
    const T* values = fetch<T>(row(a_.values, s.n), run, values_, nullptr);
    const std::uint8_t* mask = fetch_flags(row(a_.mask, s.n), run, mask_, nullptr);
    T next = next_[lane];
    for (std::ptrdiff_t i = s.steps - 1; i >= 0; --i) {
      after_[i] = next;
      next = mask[i] != 0 ? values[i] : (a_.skip ? next : T(0));
    }
    next_[lane] = next;

    const double trace = a_.gae_lambda[a_.lambda_per_column ? a_.first_sequence + s.n : 0];
    const auto decay = static_cast<T>(a_.gamma * trace);
    const T other_decay = a_.skip ? T(1) : decay;
    T* __restrict d = delta + offset;
    T* __restrict c = coefficient + offset;
    for (std::ptrdiff_t i = 0; i < s.steps; ++i) {
      const bool counted = mask[i] != 0;
      const T error = td_error(rewards[i], gamma_, after_[i], values[i]);
      const T other = a_.skip ? T(0) : gamma_ * after_[i];
      d[i] = counted ? error : other;
      c[i] = counted ? decay : other_decay;
    }
  }

  void back(const Span& s, std::ptrdiff_t, const T* advantage, const T*) {
    const Span run = {s.t, s.steps, 0, 1};
    const T* values = fetch<T>(row(a_.values, s.n), run, values_, nullptr);
    const std::uint8_t* mask = fetch_flags(row(a_.mask, s.n), run, mask_, nullptr);
    for (std::ptrdiff_t i = 0; i < s.steps; ++i) {
      results_[i] = mask[i] != 0 ? advantage[i] : T(0);
      returns_[i] = results_[i] + values[i];
    }
    put(row(a_.advantages, s.n), run, results_, a_.streaming);
    put(row(a_.returns, s.n), run, returns_, a_.streaming);
  }

  alignas(64) T delta[kRun];
  alignas(64) T coefficient[kRun];

 private:
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
    const std::ptrdiff_t size = view.type == FlagType::kByte ? 1 : view.type == FlagType::kFloat ? 4 : 8;
    return {static_cast<const char*>(view.data) + start_of(view, n) * size, view.stride_t, 0,
            view.type};
  }

  const Arguments& a_;
  T gamma_;
  T next_[kLanes];
  alignas(64) T rewards_[kRun];
  alignas(64) T values_[kRun];
  alignas(64) T after_[kRun];
  alignas(64) T results_[kRun];
  alignas(64) T returns_[kRun];
  alignas(64) std::uint8_t mask_[kRun];
};

}  // namespace ppo::inline PPO_ISA
