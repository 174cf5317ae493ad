// Categorical and multi-categorical distributions of a group of samples: a softmax per component,
// whose columns lie side by side.
//
// A head holds the parameters of one group and answers for all of its lanes at once:
//   read(group)            reads parameters
//   prepare(group)         what follows from them; the first sample that is no distribution, or -1
//   load(group)            both
//   load_actions(group)    reads actions; the first sample whose action is out of range, or -1
//   evaluate(logp, H)      terms of each sample
//   divergence(old, kl)    KL(old || this)
//   gradient(...)          writes w_logp d logp + w_entropy d H + w_kl d KL per parameter
//   draw(...), mode(...)   actions; store_actions(...) hands them out
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "distributions/categorical.h"
#include "distributions/lanes.h"
#include "support/counter_rng.h"

namespace ppo::inline PPO_ISA {

template <typename T, int kMost = 0>
class SoftmaxHead {
  static constexpr int kMostComponents = kMost == 0 ? 0 : 1;
  // As wide as T: compilers vectorise a choice by numbers of the same width only.
  using Index = std::conditional_t<sizeof(T) == sizeof(std::int32_t), std::int32_t, std::int64_t>;

 public:
  PPO_HD_CALL SoftmaxHead(const Distribution<T>& d, Scratch& scratch)
      : d_(d),
        x_(scratch, d.dims),
        p_(scratch, d.dims),
        largest_(scratch, d.components),
        log_sum_(scratch, d.components),
        entropy_(scratch, d.components),
        action_(scratch, d.components) {}

  PPO_HD_CALL std::ptrdiff_t load(const Group& g) {
    read(g);
    return prepare(g);
  }
  PPO_HD_CALL void read(const Group& g) {
    load_rows(g, d_.dims, d_.first, x_);
    if (d_.mask) hide_masked(g);
  }
  PPO_HD_CALL std::ptrdiff_t prepare(const Group& g) {
    Lane<int> possible;
    for (int l = 0; l < kLanes; ++l) possible[l] = 1;
    std::ptrdiff_t begin = 0;
    for (std::ptrdiff_t c = 0; c < components(); ++c) {
      const std::ptrdiff_t end = begin + size(c);
      softmax(begin, end, largest_[c], log_sum_[c], entropy_[c], possible);
      begin = end;
    }
    return first_impossible(g, possible);
  }

  PPO_HD_CALL std::ptrdiff_t load_actions(const Group& g, const Actions<T>& actions) {
    Lane<int> possible;
    for (int l = 0; l < kLanes; ++l) possible[l] = 1;
    for (std::ptrdiff_t c = 0; c < components(); ++c) {
      const std::int64_t choices = size(c);
      for (int l = 0; l < kLanes; ++l) {
        const std::int64_t action = actions.discrete(g.row[l], c);
        const bool in_range = action >= 0 && action < choices;
        action_[c][l] = in_range ? static_cast<Index>(action) : 0;
        possible[l] &= in_range;
      }
    }
    return first_impossible(g, possible);
  }

  PPO_HD_CALL void evaluate(Lane<T>& logp, Lane<T>& entropy) const {
    logp = {};
    entropy = {};
    std::ptrdiff_t begin = 0;
    for (std::ptrdiff_t c = 0; c < components(); ++c) {
      for (int l = 0; l < kLanes; ++l) {
        const T logit = x_.at(begin + action_[c][l], l);
        logp[l] += log_probability(logit, largest_[c][l], log_sum_[c][l]);
        entropy[l] += entropy_[c][l];
      }
      begin += size(c);
    }
  }

  PPO_HD_CALL void divergence(const SoftmaxHead& old, Lane<T>& kl) {
    old_ = old.p_;
    kl = {};
    std::ptrdiff_t begin = 0;
    for (std::ptrdiff_t c = 0; c < components(); ++c) {
      const std::ptrdiff_t end = begin + size(c);
      each_column<kMost>(begin, end, [&](std::ptrdiff_t k) {
        for (int l = 0; l < kLanes; ++l) {
          const T old_logp = log_probability(old.x_[k][l], old.largest_[c][l], old.log_sum_[c][l]);
          const T logp = log_probability(x_[k][l], largest_[c][l], log_sum_[c][l]);
          const T term = old.p_[k][l] * (old_logp - logp);
          kl[l] += old.p_[k][l] == T(0) ? T(0) : term;
        }
      });
      begin = end;
    }
  }

  // With `with_kl`, `divergence` was called for this group. A softmax has no second parameter. Ends the
  // work on a group.
  PPO_HD_CALL void gradient(const Group& g, const Lane<T>& w_logp, const Lane<T>& w_entropy,
                            const Lane<T>& w_kl, bool with_kl, T* first, T*) {
    std::ptrdiff_t begin = 0;
    for (std::ptrdiff_t c = 0; c < components(); ++c) {
      const std::ptrdiff_t end = begin + size(c);
      each_column<kMost>(begin, end, [&](std::ptrdiff_t k) {
        const Index choice = static_cast<Index>(k - begin);
        Lane<T> column;
        for (int l = 0; l < kLanes; ++l) {
          const T p = p_[k][l];
          const T log_p = log_probability(x_[k][l], largest_[c][l], log_sum_[c][l]);
          column[l] = w_logp[l] * log_probability_gradient(p, action_[c][l] == choice) +
                      w_entropy[l] * entropy_gradient(p, log_p, entropy_[c][l]);
        }
        if (with_kl) {
          for (int l = 0; l < kLanes; ++l) column[l] += w_kl[l] * (p_[k][l] - old_[k][l]);
        }
        // What is never taken has no logit to move.
        constexpr T kNever = -std::numeric_limits<T>::infinity();
        for (int l = 0; l < kLanes; ++l) column[l] = x_[k][l] == kNever ? T(0) : column[l];
        p_[k] = column;  // no longer needed
      });
      begin = end;
    }
    store_rows(g, d_.dims, p_, first);
  }
  PPO_HD_CALL void share_second(Scratch&) {}
  PPO_HD_CALL double shared(std::ptrdiff_t) const { return 0.0; }
  void finish(T*) const {}

  // Inverts the cumulative distribution at one uniform number per component.
  PPO_HD_CALL void draw(const Group& g, std::uint64_t seed, std::uint32_t first_id,
                        std::uint64_t step) {
    std::ptrdiff_t begin = 0;
    for (std::ptrdiff_t c = 0; c < components(); ++c) {
      const std::ptrdiff_t end = begin + size(c);
      for (int l = 0; l < kLanes; ++l) {
        double sum = 0;
        T plain_sum = 0;
        for (std::ptrdiff_t k = begin; k < end; ++k) {
          plain_sum += unnormalized_probability(x_[k][l], largest_[c][l]);
        }
        const double u =
            counter_uniform(seed, Stream::kActions, first_id + static_cast<std::uint32_t>(g.row[l]),
                            step, static_cast<std::uint32_t>(c));
        const double threshold = u * static_cast<double>(plain_sum);
        for (std::ptrdiff_t k = begin; k < end; ++k) {
          const T p = unnormalized_probability(x_[k][l], largest_[c][l]);
          sum += static_cast<double>(p);
          // Rounding may leave the threshold just above the last sum: the last possible one stands.
          if (p > T(0)) action_[c][l] = static_cast<Index>(k - begin);
          if (sum > threshold) break;
        }
      }
      begin = end;
    }
  }

  PPO_HD_CALL void draw_state_noise(const Group&, const StateNoise<T>&, std::uint64_t,
                                    std::uint32_t, std::uint64_t) {}

  // The first most probable choice.
  PPO_HD_CALL void mode() {
    std::ptrdiff_t begin = 0;
    for (std::ptrdiff_t c = 0; c < components(); ++c) {
      const std::ptrdiff_t end = begin + size(c);
      for (int l = 0; l < kLanes; ++l) {
        std::ptrdiff_t best = begin;
        while (best + 1 < end && x_[best][l] != largest_[c][l]) ++best;
        action_[c][l] = static_cast<Index>(best - begin);
      }
      begin = end;
    }
  }

  PPO_HD_CALL void store_actions(const Group& g, const MutableActions<T>& out) const {
    for (std::ptrdiff_t c = 0; c < components(); ++c) {
      for (int l = 0; l < g.lanes(); ++l) out.discrete(g.first + l, c) = action_[c][l];
    }
  }

 private:
  PPO_HD_CALL std::ptrdiff_t components() const {
    return kMostComponents == 0 ? d_.components : kMostComponents;
  }
  PPO_HD_CALL std::ptrdiff_t size(std::ptrdiff_t c) const {
    return kMostComponents == 0 && d_.sizes ? d_.sizes[c] : d_.dims;
  }

  PPO_HD_CALL void hide_masked(const Group& g) {
    constexpr T kNever = -std::numeric_limits<T>::infinity();
    each_column<kMost>(0, d_.dims, [&](std::ptrdiff_t k) {
      for (int l = 0; l < kLanes; ++l) x_[k][l] = d_.mask(g.row[l], k) ? x_[k][l] : kNever;
    });
  }

  // Probabilities and entropy of one component, columns begin .. end - 1.
  PPO_HD_CALL void softmax(std::ptrdiff_t begin, std::ptrdiff_t end, Lane<T>& largest,
                           Lane<T>& log_sum, Lane<T>& entropy, Lane<int>& possible) {
    Lane<T> most = x_[begin];
    each_column<kMost>(begin + 1, end, [&](std::ptrdiff_t k) {
      for (int l = 0; l < kLanes; ++l) most[l] = x_[k][l] > most[l] ? x_[k][l] : most[l];
    });
    Lane<T> sum = {};
    each_column<kMost>(begin, end, [&](std::ptrdiff_t k) {
      for (int l = 0; l < kLanes; ++l) {
        const T e = unnormalized_probability(x_[k][l], most[l]);
        p_[k][l] = e;
        sum[l] += e;
      }
    });
    // Catches NaN, infinity, and rows of -infinity, whose differences are NaN.
    constexpr T kLargest = std::numeric_limits<T>::max();
    for (int l = 0; l < kLanes; ++l) possible[l] &= (sum[l] >= T(1)) & (sum[l] <= kLargest);
    Lane<T> inverse;
    Lane<T> h = {};
    Lane<T> logs;
    for (int l = 0; l < kLanes; ++l) {
      logs[l] = math::log(sum[l]);
      inverse[l] = T(1) / sum[l];
    }
    each_column<kMost>(begin, end, [&](std::ptrdiff_t k) {
      for (int l = 0; l < kLanes; ++l) {
        const T probability = p_[k][l] * inverse[l];
        const T log_p = log_probability(x_[k][l], most[l], logs[l]);
        p_[k][l] = probability;
        h[l] -= p_log_p(probability, log_p);
      }
    });
    largest = most;
    log_sum = logs;
    entropy = h;
  }

  Distribution<T> d_;
  Columns<T, kMost> x_;                  // [dims] logits
  Columns<T, kMost> p_;                  // [dims] probabilities
  Columns<T, kMostComponents> largest_;  // [components] each
  Columns<T, kMostComponents> log_sum_;
  Columns<T, kMostComponents> entropy_;
  Columns<Index, kMostComponents> action_;
  Columns<T, kMost> old_;  // [dims] probabilities of the old policy
};

}  // namespace ppo::inline PPO_ISA
