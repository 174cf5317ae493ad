// Products of independent one-dimensional distributions for a group of samples; `Formula` is one
// dimension: Bernoulli, Gaussian, SquashedGaussian. The members are those of SoftmaxHead.
#pragma once

#include <type_traits>

#include "distributions/lanes.h"
#include "distributions/noise.h"
#include "distributions/squashed.h"
#include "distributions/terms.h"
#include "support/counter_rng.h"

namespace ppo::inline PPO_ISA {

template <typename T, typename Formula, int kMost = 0>
class ProductHead {
 public:
  using Action = typename Formula::Action;

  PPO_HD_CALL ProductHead(const Distribution<T>& d, Scratch& scratch)
      : d_(d),
        first_(scratch, d.dims),
        second_(scratch, d.dims),
        action_(scratch, d.dims),
        logp_first_(scratch, d.dims),
        logp_second_(scratch, d.dims),
        entropy_first_(scratch, d.dims),
        entropy_second_(scratch, d.dims),
        kl_first_(scratch, d.dims),
        kl_second_(scratch, d.dims) {}

  PPO_HD_CALL std::ptrdiff_t load(const Group& g) {
    read(g);
    return prepare(g);
  }
  PPO_HD_CALL void read(const Group& g) {
    load_rows(g, d_.dims, d_.first, first_);
    if (Formula::kHasSecond && !has_shared_second_) load_rows(g, d_.dims, d_.second, second_);
    has_shared_second_ = d_.shares_second;
  }
  PPO_HD_CALL std::ptrdiff_t prepare(const Group& g) {
    Lane<int> possible;
    for (int l = 0; l < kLanes; ++l) possible[l] = 1;
    each_column<kMost>(0, d_.dims, [&](std::ptrdiff_t k) {
      for (int l = 0; l < kLanes; ++l) {
        possible[l] &= Formula::possible(first_[k][l], Formula::kHasSecond ? second_[k][l] : T(0));
      }
    });
    return first_impossible(g, possible);
  }

  PPO_HD_CALL std::ptrdiff_t load_actions(const Group& g, const Actions<T>& actions) {
    Lane<int> possible;
    for (int l = 0; l < kLanes; ++l) possible[l] = 1;
    if constexpr (std::is_same_v<Action, T>) {
      load_rows(g, d_.dims, actions.continuous, action_);
    } else {
      load_rows(g, d_.dims, actions.discrete, action_);
      each_column<kMost>(0, d_.dims, [&](std::ptrdiff_t k) {
        for (int l = 0; l < kLanes; ++l) possible[l] &= Formula::possible_action(action_[k][l]);
      });
    }
    return first_impossible(g, possible);
  }

  PPO_HD_CALL void evaluate(Lane<T>& logp, Lane<T>& entropy) {
    Lane<T> logp_sum = {};
    Lane<T> entropy_sum = {};
    each_column<kMost>(0, d_.dims, [&](std::ptrdiff_t k) {
      for (int l = 0; l < kLanes; ++l) {
        const Terms<T> terms = Formula::terms(first_[k][l], second(k, l), action_[k][l]);
        logp_sum[l] += terms.logp;
        entropy_sum[l] += terms.entropy;
        logp_first_[k][l] = terms.logp_first;
        logp_second_[k][l] = terms.logp_second;
        entropy_first_[k][l] = terms.entropy_first;
        entropy_second_[k][l] = terms.entropy_second;
      }
      if constexpr (Formula::kHasQuadrature) add_expectation(k, entropy_sum);
    });
    logp = logp_sum;
    entropy = entropy_sum;
  }

  PPO_HD_CALL void divergence(const ProductHead& old, Lane<T>& kl) {
    Lane<T> sum = {};
    each_column<kMost>(0, d_.dims, [&](std::ptrdiff_t k) {
      for (int l = 0; l < kLanes; ++l) {
        const Slope<T> terms =
            Formula::divergence(old.first_[k][l], old.second(k, l), first_[k][l], second(k, l));
        sum[l] += terms.value;
        kl_first_[k][l] = terms.first;
        kl_second_[k][l] = terms.second;
      }
    });
    kl = sum;
  }

  // A second parameter that all samples share has its gradient summed: `shared` is one of its elements,
  // `finish` hands it out.
  PPO_HD_CALL void gradient(const Group& g, const Lane<T>& w_logp, const Lane<T>& w_entropy,
                            const Lane<T>& w_kl, bool with_kl, T* first, T* second) {
    each_column<kMost>(0, d_.dims, [&](std::ptrdiff_t k) {
      combine(w_logp, w_entropy, w_kl, with_kl, entropy_first_[k], kl_first_[k], logp_first_[k]);
    });
    store_rows(g, d_.dims, logp_first_, first);
    if constexpr (Formula::kHasSecond) {
      each_column<kMost>(0, d_.dims, [&](std::ptrdiff_t k) {
        combine(w_logp, w_entropy, w_kl, with_kl, entropy_second_[k], kl_second_[k],
                logp_second_[k]);
      });
      if (!d_.shares_second) {
        store_rows(g, d_.dims, logp_second_, second);
        return;
      }
      each_column<kMost>(0, d_.dims, [&](std::ptrdiff_t k) {
        for (int l = 0; l < kLanes; ++l) {
          shared_[k][l] += g.counts[l] ? static_cast<double>(logp_second_[k][l]) : 0.0;
        }
      });
    }
  }

  // To be called before the first gradient if all samples share the second parameter.
  PPO_HD_CALL void share_second(Scratch& scratch) {
    shared_ = Columns<double, kMost>(scratch, d_.dims);
    each_column<kMost>(0, d_.dims, [&](std::ptrdiff_t k) { shared_[k] = {}; });
  }
  PPO_HD_CALL double shared(std::ptrdiff_t k) const {
    double sum = 0;
    for (int l = 0; l < kLanes; ++l) sum += shared_.at(k, l);
    return sum;
  }
  void finish(T* second) const {
    if (!d_.shares_second) return;
    for (std::ptrdiff_t k = 0; k < d_.dims; ++k) second[k] = static_cast<T>(shared(k));
  }

  // One number per dimension: normal for the Gaussians, else uniform.
  PPO_HD_CALL void draw(const Group& g, std::uint64_t seed, std::uint32_t first_id,
                        std::uint64_t step) {
    for (std::ptrdiff_t k = 0; k < d_.dims; ++k) {
      const std::uint32_t index = static_cast<std::uint32_t>(k);
      Lane<double> number;
      if (Formula::kDrawsNormal) {
        number = draw_normal(g, seed, Stream::kActions, first_id, step, index);
      } else {
        for (int l = 0; l < kLanes; ++l) {
          const std::uint32_t id = first_id + static_cast<std::uint32_t>(g.row[l]);
          number[l] = counter_uniform(seed, Stream::kActions, id, step, index);
        }
      }
      for (int l = 0; l < kLanes; ++l) {
        action_[k][l] = Formula::draw(first_[k][l], second(k, l), number[l]);
      }
    }
  }

  // Gaussians: the mean and the state's noise.
  PPO_HD_CALL void draw_state_noise(const Group& g, const StateNoise<T>& noise, std::uint64_t seed,
                                    std::uint32_t first_id, std::uint64_t step) {
    for (std::ptrdiff_t k = 0; k < d_.dims; ++k) {
      const Lane<double> deviation = state_noise(g, noise, d_.dims, k, seed, first_id, step);
      for (int l = 0; l < kLanes; ++l) {
        action_[k][l] = static_cast<Action>(static_cast<double>(first_[k][l]) + deviation[l]);
      }
    }
  }

  PPO_HD_CALL void mode() {
    for (std::ptrdiff_t k = 0; k < d_.dims; ++k) {
      for (int l = 0; l < kLanes; ++l) action_[k][l] = Formula::mode(first_[k][l], second(k, l));
    }
  }

  PPO_HD_CALL void store_actions(const Group& g, const MutableActions<T>& out) const {
    for (int l = 0; l < g.lanes(); ++l) {
      for (std::ptrdiff_t k = 0; k < d_.dims; ++k) {
        if constexpr (std::is_same_v<Action, T>) {
          out.continuous(g.first + l, k) = action_[k][l];
        } else {
          out.discrete(g.first + l, k) = action_[k][l];
        }
      }
    }
  }

 private:
  PPO_HD T second(std::ptrdiff_t k, int l) const {
    return Formula::kHasSecond ? second_[k][l] : T(0);
  }

  PPO_HD_CALL void add_expectation(std::ptrdiff_t k, Lane<T>& entropy) {
    Lane<T> std;
    for (int l = 0; l < kLanes; ++l) std[l] = limited_exp(second_[k][l]);
    const Lane<T> mean = first_[k];
    Lane<T> value = {};
    Lane<T> first = {};
    Lane<T> second = {};
    for (int j = -kNodes; j <= kNodes; ++j) {
      for (int l = 0; l < kLanes; ++l) {
        const Slope<T> node = Formula::node(mean[l], std[l], j);
        value[l] += node.value;
        first[l] += node.first;
        second[l] += node.second;
      }
    }
    for (int l = 0; l < kLanes; ++l) {
      entropy[l] += value[l];
      entropy_first_[k][l] += first[l];
      entropy_second_[k][l] += second[l];
    }
  }

  // w_logp logp + w_entropy entropy + w_kl kl, in place of logp.
  PPO_HD static void combine(const Lane<T>& w_logp, const Lane<T>& w_entropy, const Lane<T>& w_kl,
                             bool with_kl, const Lane<T>& entropy, const Lane<T>& kl,
                             Lane<T>& logp) {
    for (int l = 0; l < kLanes; ++l) {
      logp[l] = weighted(w_logp[l], logp[l]) + weighted(w_entropy[l], entropy[l]);
    }
    if (!with_kl) return;
    for (int l = 0; l < kLanes; ++l) logp[l] += weighted(w_kl[l], kl[l]);
  }

  Distribution<T> d_;
  Columns<T, kMost> first_;  // [dims] each
  Columns<T, kMost> second_;
  Columns<Action, kMost> action_;
  Columns<T, kMost> logp_first_;
  Columns<T, kMost> logp_second_;
  Columns<T, kMost> entropy_first_;
  Columns<T, kMost> entropy_second_;
  Columns<T, kMost> kl_first_;
  Columns<T, kMost> kl_second_;
  bool has_shared_second_ = false;  // loaded with the first group
  Columns<double, kMost> shared_;
};

}  // namespace ppo::inline PPO_ISA
