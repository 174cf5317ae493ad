// What a block does with its share of token sequences (tokens.h has them for the CPU): rows of tokens.
//
// The value behind a token is that of the next one that counts, so it is carried backward as well, and A of the tokens before
// depends on both (TokenSummary). Packed sequences are one row, in which nothing is carried over an end.
#pragma once

#include <cstddef>
#include <cstdint>

#include "advantage/tiles.h"

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
  template <bool kRows>
  static constexpr int kWarps = ppo::kWarps;

  struct Loaded {
    T reward;
    T value;
    std::uint32_t counted;
  };
  // delta is known once the value behind is.
  struct Element {
    T reward = T(0);
    T value = T(0);
    T bootstrap = T(0);  // V behind the last token of a sequence
    T delta = T(0);
    T coefficient = T(1);
    bool counted = false;
    bool is_last = false;
  };

  struct From {
    const Arguments& arguments;
    std::ptrdiff_t t;
    std::ptrdiff_t n;
    Backward<const T> rewards;
    Backward<const T> values;
    BackwardFlags mask;
    Backward<T> first;   // advantages
    Backward<T> second;  // returns

    PPO_HD From(const Arguments& a, std::ptrdiff_t t_, std::ptrdiff_t n_)
        : arguments(a),
          t(t_),
          n(n_),
          rewards(a.rewards, t, n),
          values(a.values, t, n),
          mask(a.mask, t, n),
          first(a.advantages, t, n),
          second(a.returns, t, n) {}
  };

  template <bool kRows, int kMost>
  static PPO_HD void load(const From& from, int count, Loaded (&x)[kMost]) {
    from.rewards.template all<kRows, kMost>(count, [&](int k, T y) { x[k].reward = y; });
    from.values.template all<kRows, kMost>(count, [&](int k, T y) { x[k].value = y; });
    from.mask.template all<kRows, kMost>(count, [&](int k, std::uint32_t y) { x[k].counted = y; });
  }
  static PPO_HD void complete(const From&, int, const Loaded&) {}
  template <int kMost>
  static PPO_HD Element front(const From& from, int k, const Loaded (&all)[kMost]) {
    const Loaded& loaded = all[k];
    const Arguments& a = from.arguments;
    const std::ptrdiff_t t = from.t - 1 - k;
    const std::ptrdiff_t sequence = sequence_of(a, t, from.n);
    Element x;
    x.reward = loaded.reward;
    x.value = loaded.value;
    x.counted = from.mask.is_set(loaded.counted);
    x.is_last = t + 1 == (a.starts ? a.starts[sequence + 1] : a.num_steps);
    const double lambda = a.lambdas ? a.lambdas[sequence] : a.gae_lambda;
    const TokenRule<T> rule(a.skip, static_cast<T>(a.gamma), static_cast<T>(a.gamma * lambda));
    x.coefficient = x.is_last ? kCut<T> : rule.coefficient(x.counted);
    if (x.is_last) x.bootstrap = a.bootstrap_of(sequence);
    return x;
  }
  static PPO_HD Results<T> finish(const From&, int, const Element& x, T advantage, T) {
    const T counted = x.counted ? advantage : T(0);
    return {counted, counted + x.value};
  }
};

// Tokens of a lane, whose deltas are known once the value behind them is.
template <typename T>
struct TokenSteps : LaneSteps<TokenElements<T>, kRowSteps, true> {
  using Base = LaneSteps<TokenElements<T>, kRowSteps, true>;
  using Element = typename TokenElements<T>::Element;

  PPO_HD TokenSteps(const TokenArguments<T>& a, const Steps& steps_, std::ptrdiff_t n_)
      : Base(a, steps_, n_), rule_(a.skip, static_cast<T>(a.gamma), T(0)), skip_(a.skip) {}

  // What they hand on. Where the value behind a token is not known here, its part of delta goes into d.
  PPO_HD TokenSummary summary() const {
    T b = T(0);
    Summary advantage;
    Summary value;
    double d = 0;
    PPO_UNROLL
    for (int k = 0; k < kRowSteps; ++k) {
      if (k >= this->steps.count) continue;
      const Element& x = this->elements[k];
      const bool is_open = value.c != 0 && !x.is_last;
      const double c = x.coefficient < T(0) ? 0 : static_cast<double>(x.coefficient);
      recur(delta(x, is_open ? 0 : value.b), x.coefficient, b);
      advantage.c *= c;
      d *= c;
      if (is_open) d += static_cast<double>(rule_.of_value(x.counted));
      value = joined(value_step(x), value);
    }
    advantage.b = static_cast<double>(b);
    return {advantage, value, d};
  }

  // Sets their deltas.
  PPO_HD double settled(const TokenSummary::Carried& carry) {
    double next = carry.value;
    PPO_UNROLL
    for (int k = 0; k < kRowSteps; ++k) {
      if (k >= this->steps.count) continue;
      Element& x = this->elements[k];
      x.delta = delta(x, next);
      next = carried_out(value_step(x), next);
    }
    return carry.advantage;
  }

 private:
  // What a token does to the value carried past it.
  PPO_HD Summary value_step(const Element& x) const {
    if (x.counted) return {static_cast<double>(x.value), 0};
    if (!skip_) return {0, 0};
    return x.is_last ? Summary{static_cast<double>(x.bootstrap), 0} : Summary();
  }

  // Its delta, `next` being the value behind it, unless a sequence ends there.
  PPO_HD T delta(const Element& x, double next) const {
    const T after = x.is_last ? x.bootstrap : static_cast<T>(next);
    return rule_.delta(x.counted, x.reward, after, x.value);
  }

  TokenRule<T> rule_;  // for what does not depend on lambda
  bool skip_;
};

template <typename T>
struct TileOf<TokenElements<T>, kRowSteps, true> {
  using Type = TokenSteps<T>;
};

}  // namespace ppo::inline PPO_ISA
