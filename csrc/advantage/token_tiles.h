// What a block does with its share of token sequences (tokens.h has them for the CPU): rows of tokens.
//
// The value behind a token is that of the next one that counts, so it is carried backward as well, by a recurrence
// whose coefficients are 0 and 1. Packed sequences are one row, in which nothing is carried over an end.
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

  struct Loaded {
    T reward;
    T value;
    std::uint32_t counted;
  };
  // delta and coefficient are known once the value behind is.
  struct Element {
    T reward = T(0);
    T value = T(0);
    T decay = T(0);
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
    x.decay = static_cast<T>(a.gamma * (a.lambdas ? a.lambdas[sequence] : a.gae_lambda));
    if (x.is_last) x.bootstrap = a.bootstrap_of(sequence);
    return x;
  }
  static PPO_HD Results<T> finish(const From&, int, const Element& x, T advantage, T) {
    const T counted = x.counted ? advantage : T(0);
    return {counted, counted + x.value};
  }
};

template <typename T>
using TokenSteps = LaneSteps<TokenElements<T>, kRowSteps, true>;

// What a token does to the value carried past it.
template <typename T>
PPO_HD Summary value_step(const typename TokenElements<T>::Element& x, bool skip) {
  if (x.counted) return {static_cast<double>(x.value), 0};
  if (!skip) return {0, 0};
  return x.is_last ? Summary{static_cast<double>(x.bootstrap), 0} : kNothing;
}

// What the tokens of a lane do to it.
template <typename T>
PPO_HD Summary value_summary(const TokenSteps<T>& tokens, bool skip) {
  Summary all = kNothing;
  PPO_UNROLL
  for (int k = 0; k < kRowSteps; ++k) {
    if (k < tokens.steps.count) all = joined(value_step<T>(tokens.elements[k], skip), all);
  }
  return all;
}

// delta and coefficient of the tokens of a lane, `next` being the value behind them.
template <typename T>
PPO_HD void set_deltas(const TokenArguments<T>& a, TokenSteps<T>& tokens, double next) {
  PPO_UNROLL
  for (int k = 0; k < kRowSteps; ++k) {
    if (k >= tokens.steps.count) continue;
    auto& x = tokens.elements[k];
    const T after = x.is_last ? x.bootstrap : static_cast<T>(next);
    const TokenRule<T> rule(a.skip, static_cast<T>(a.gamma), x.decay);
    x.delta = rule.delta(x.counted, x.reward, after, x.value);
    x.coefficient = x.is_last ? kCut<T> : rule.coefficient(x.counted);
    next = carried_out(value_step<T>(x, a.skip), next);
  }
}

// The two recurrences of a block, values and A.
template <typename Block>
struct TokenCarries {
  Carries<true, Block> values;
  Carries<true, Block> advantages;

  PPO_HD TokenCarries(const Cut& cut, const Block& block)
      : values(cut, block, 0), advantages(cut, block, 1) {}
  static std::size_t bytes(const Cut& cut) { return 2 * Carries<true, Block>::bytes(cut); }
};

// The three passes of a block, the first two only where there are several parts.

template <typename T, typename Block>
PPO_HD void summarize_token_values(const TokenArguments<T>& a, const Cut& cut, const Share& share,
                                   const Block& block, Summary* values) {
  if (share.part == 0) return;
  TokenCarries<Block> carries(cut, block);
  Summary all = kNothing;
  each_tile<TokenElements<T>, true>(a, cut, share, block, [&](const TokenSteps<T>& tokens) {
    all = carries.values.with(value_summary(tokens, a.skip), all);
  });
  store_summary<true>(cut, share, block, all, values);
}

template <typename T, typename Block>
PPO_HD void summarize_tokens(const TokenArguments<T>& a, const Cut& cut, const Share& share,
                             const Block& block, const Summary* values, Summary* summaries) {
  if (share.part == 0) return;
  TokenCarries<Block> carries(cut, block);
  carries.values.start(carry_into_part<true>(cut, values, share, block));
  Summary all = kNothing;
  each_tile<TokenElements<T>, true>(a, cut, share, block, [&](TokenSteps<T>&& tokens) {
    set_deltas(a, tokens, carries.values.into(value_summary(tokens, a.skip)));
    all = carries.advantages.with(tokens.summary(), all);
  });
  store_summary<true>(cut, share, block, all, summaries);
}

template <typename T, typename Block>
PPO_HD void compute_tokens(const TokenArguments<T>& a, const Cut& cut, const Share& share,
                           const Block& block, const Summary* values, const Summary* summaries) {
  TokenCarries<Block> carries(cut, block);
  carries.values.start(carry_into_part<true>(cut, values, share, block));
  carries.advantages.start(carry_into_part<true>(cut, summaries, share, block));
  T carry = T(0);
  each_tile<TokenElements<T>, true>(a, cut, share, block, [&](TokenSteps<T>&& tokens) {
    set_deltas(a, tokens, carries.values.into(value_summary(tokens, a.skip)));
    if (cut.is_serial()) {
      const auto advance = [&](T& x) { tokens.advance(x); };
      tokens.finish(a, into_in_order(block.in_warp(), advance, carry));
    } else {
      tokens.finish(a, static_cast<T>(carries.advantages.into(tokens.summary())));
    }
  });
}

}  // namespace ppo::inline PPO_ISA
