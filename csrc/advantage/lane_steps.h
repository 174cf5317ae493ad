// Consecutive steps of one column that a lane of a GPU has (cut.h), for any estimator (elements.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "advantage/cut.h"
#include "advantage/elements.h"

namespace ppo::inline PPO_ISA {

template <typename Elements, int kMost>
struct LaneSteps {
  using Arguments = typename Elements::Arguments;
  using From = typename Elements::From;
  using T = typename Arguments::Value;

  Steps steps;
  std::ptrdiff_t n;
  typename Elements::Element elements[kMost];  // the last step first

  // All loads are under way before the first one is waited for.
  PPO_HD LaneSteps(const Arguments& a, const Steps& steps_, std::ptrdiff_t n_)
      : steps(steps_), n(n_) {
    const From from(a, steps.end, n);
    typename Elements::Loaded loaded[kMost];
    Elements::load(from, steps.count, loaded);
    PPO_UNROLL
    for (int k = 0; k < kMost; ++k) {
      if (k < steps.count) Elements::complete(from, k, loaded[k]);
    }
    PPO_UNROLL
    for (int k = 0; k < kMost; ++k) {
      if (k < steps.count) elements[k] = Elements::front(from, k, loaded[k]);
    }
  }

  // What they hand on.
  PPO_HD Summary summary() const {
    T b = T(0);
    double c = 1;
    PPO_UNROLL
    for (int k = 0; k < kMost; ++k) {
      const T coefficient = elements[k].coefficient;
      recur(elements[k].delta, coefficient, b);
      c = coefficient < T(0) ? 0.0 : c * static_cast<double>(coefficient);
    }
    return {static_cast<double>(b), c};
  }

  // Replaces what is carried in by A of the first step.
  PPO_HD void advance(T& carry) const {
    PPO_UNROLL
    for (int k = 0; k < kMost; ++k) recur(elements[k].delta, elements[k].coefficient, carry);
  }

  // Writes the results; gives A of the first step.
  PPO_HD T finish(const Arguments& a, T carry) const {
    const From from(a, steps.end, n);
    T first[kMost] = {};
    T second[kMost] = {};
    PPO_UNROLL
    for (int k = 0; k < kMost; ++k) {
      const T later = carry;
      recur(elements[k].delta, elements[k].coefficient, carry);
      if (k >= steps.count) continue;
      const auto results = Elements::finish(from, k, elements[k], carry, later);
      first[k] = results.first;
      second[k] = results.second;
    }
    store(from.first, first);
    store(from.second, second);
    return carry;
  }

 private:
  // Results of a row lie side by side and go to memory in one piece where they can: each piece of a sector would be a write
  // of its own.
  struct alignas(16) Run {
    T items[kMost];
  };

  PPO_HD void store(const Backward<T>& to, const T (&results)[kMost]) const {
    if (to.data == nullptr) return;
    if (steps.count == kMost && to.stride == 1) {
      T* start = &to(kMost - 1);
      if (reinterpret_cast<std::uintptr_t>(start) % alignof(Run) == 0) {
        Run run;
        PPO_UNROLL
        for (int k = 0; k < kMost; ++k) run.items[kMost - 1 - k] = results[k];
        *reinterpret_cast<Run*>(start) = run;
        return;
      }
    }
    to.template each<kMost>(0, steps.count, [&](int k, T& result) { result = results[k]; });
  }
};

}  // namespace ppo::inline PPO_ISA
