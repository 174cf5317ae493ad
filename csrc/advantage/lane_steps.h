// Consecutive steps of one column that a lane of a GPU has (cut.h), for any estimator (elements.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "advantage/cut.h"
#include "advantage/elements.h"

namespace ppo::inline PPO_ISA {

// kRows: neighbours in memory are steps.
template <typename Elements, int kMost, bool kRows>
struct LaneSteps {
  using Arguments = typename Elements::Arguments;
  using From = typename Elements::From;
  using T = typename Arguments::Value;

  Steps steps;
  std::ptrdiff_t n;
  typename Elements::Element elements[kMost];  // the last step first

  PPO_HD LaneSteps(const Arguments& a, const Steps& steps_, std::ptrdiff_t n_)
      : steps(steps_), n(n_) {
    const From from(a, steps.end, n);
    if (steps.count == kMost) {  // a number that compilers know: nothing is asked step by step
      load(from, kMost);
    } else {
      load(from, steps.count);
    }
  }

  // What they hand on.
  PPO_HD Summary summary() const {
    T b = T(0);
    double c = 1;
    bool is_cut = false;
    PPO_UNROLL
    for (int k = 0; k < kMost; ++k) {
      const T coefficient = elements[k].coefficient;
      recur(elements[k].delta, coefficient, b);
      c *= static_cast<double>(coefficient);
      is_cut |= coefficient < T(0);
    }
    return {static_cast<double>(b), is_cut ? 0.0 : c};
  }

  // A that is carried in, once all that is carried in is known.
  PPO_HD double settled(double carry) const { return carry; }

  // Replaces what is carried in by A of the first step.
  PPO_HD void advance(T& carry) const {
    PPO_UNROLL
    for (int k = 0; k < kMost; ++k) recur(elements[k].delta, elements[k].coefficient, carry);
  }

  // Writes the results; gives A of the first step.
  PPO_HD T finish(const Arguments& a, T carry) const {
    const From from(a, steps.end, n);
    if (steps.count == kMost) return finish(from, kMost, carry);
    return finish(from, steps.count, carry);
  }

 private:
  // All loads are under way before the first one is waited for.
  PPO_HD void load(const From& from, int count) {
    typename Elements::Loaded loaded[kMost] = {};
    Elements::template load<kRows>(from, count, loaded);
    PPO_UNROLL
    for (int k = 0; k < kMost; ++k) {
      if (k < count) Elements::complete(from, k, loaded[k]);
    }
    PPO_UNROLL
    for (int k = 0; k < kMost; ++k) {
      if (k < count) elements[k] = Elements::front(from, k, loaded);
    }
  }

  PPO_HD T finish(const From& from, int count, T carry) const {
    T first[kMost] = {};
    T second[kMost] = {};
    PPO_UNROLL
    for (int k = 0; k < kMost; ++k) {
      const T later = carry;
      recur(elements[k].delta, elements[k].coefficient, carry);
      if (k >= count) continue;
      const auto results = Elements::finish(from, k, elements[k], carry, later);
      first[k] = results.first;
      second[k] = results.second;
    }
    store(from.first, first, count);
    store(from.second, second, count);
    return carry;
  }

  PPO_HD void store(const Backward<T>& to, const T (&results)[kMost], int count) const {
    if (to.data == nullptr) return;
    if constexpr (kRows) {
      if (auto* run = to.template run<kMost>(count)) {
        PPO_UNROLL
        for (int k = 0; k < kMost; ++k) run->items[kMost - 1 - k] = results[k];
        return;
      }
    }
    to.template each<kMost>(0, count, [&](int k, T& result) { result = results[k]; });
  }
};

}  // namespace ppo::inline PPO_ISA
