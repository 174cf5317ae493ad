// A loss by warps: a lane has a sample at a time, through the head of the policy's family. Sums go from lanes to warps to
// all of them in one order, which the number of samples decides alone: results do not change from run to run.
//
// To raise an error would mean to wait for the device. What the CPU refuses (no distribution, an action out of range, a
// weight that is none, no sample that counts) makes NaN of the loss and of gradients here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "distributions/warps.h"
#include "surrogate/cuda.h"
#include "surrogate/spread.h"
#include "surrogate/terms.h"

namespace ppo::inline PPO_ISA {

PPO_HD void read(const DeviceCoefficients& from, LossCoefficients& to) {
  if (from.clip_range) to.ratio_low = 1.0 - *from.clip_range;
  if (from.clip_range_high) to.ratio_high = 1.0 + *from.clip_range_high;
  if (from.dual_clip) to.dual_clip = *from.dual_clip;
  if (from.clip_range_values) to.clip_range_values = *from.clip_range_values;
  if (from.kl_coef) to.kl_coef = *from.kl_coef;
  if (from.kl_hinge) to.kl_hinge = *from.kl_hinge;
  if (from.kl_hinge_from) to.kl_hinge_from = *from.kl_hinge_from;
  if (from.entropy_coef) to.entropy_coef = *from.entropy_coef;
  if (from.value_coef) to.value_coef = *from.value_coef;
}

// Everything that a kernel of a loss is given.
template <typename T>
struct DeviceLoss {
  LossCall<T> call;
  DeviceCoefficients coefficients;
  Components components;
  SampleCut cut;
  T* loss;

  // In scratch memory.
  Spread* spreads;  // [warps], then of all samples
  double* sums;     // [rows(), warps]
  FarRatios* far;   // [warps], then of all samples
  double* totals;   // [kNumSums + 1]
  double* mean_kl;  // [1]
  char* heads;      // [warps, head_bytes]
  std::ptrdiff_t head_bytes;

  PPO_HD bool is_weighted() const {
    return call.weights.data != nullptr || call.mask.data != nullptr;
  }
  PPO_HD bool counts_samples() const { return is_weighted() || call.normalize_advantages; }
  PPO_HD bool needs_mean_kl() const { return call.old.batch > 0 && call.kl_hinge != 0.0; }
  // Of `sums`: those of the loss, the largest ratio, and the gradient of a shared second parameter.
  PPO_HD std::ptrdiff_t rows() const { return kNumSums + 1 + shared_dims(); }
  PPO_HD std::ptrdiff_t shared_dims() const {
    return call.policy.dist.shares_second ? call.policy.dist.dims : 0;
  }

  // The call with its numbers as they are now.
  PPO_HD LossCall<T> current() const {
    LossCall<T> a = call;
    read(coefficients, a);
    a.policy.dist = components.with_sizes(a.policy.dist);
    a.old = components.with_sizes(a.old);
    return a;
  }
  PPO_HD Samples<T> samples() const {
    if (!is_weighted()) {
      return Samples<T>(call.batch, {}, {}, 0, static_cast<double>(call.batch));
    }
    const Spread& all = spreads[cut.warps];
    return Samples<T>(call.batch, call.weights, call.mask, all.first,
                      all.number == 0 ? std::numeric_limits<double>::quiet_NaN() : all.total);
  }
};

struct Larger {
  PPO_HD double operator()(double a, double b) const { return a > b ? a : b; }
};
struct JoinSpreads {
  PPO_HD Spread operator()(const Spread& a, const Spread& b) const { return Spread::join(a, b); }
};
struct JoinFar {
  PPO_HD FarRatios operator()(FarRatios a, const FarRatios& b) const {
    a.add(b);
    return a;
  }
};

// The first pass, if weights or the advantages' moments ask for one: what samples() and moments() tell.
template <typename T>
struct CountSamples {
  DeviceLoss<T> d;

  template <typename Warp>
  PPO_HD void operator()(std::ptrdiff_t w, const Warp& warp) const {
    const Samples<T> samples(d.call.batch, d.call.weights, d.call.mask, 0, 0.0);
    const View1<const T>& x = d.call.advantages;
    Spread mine;
    for (std::ptrdiff_t i = d.cut.begin(w, warp.lane()); i < d.cut.batch; i += d.cut.stride()) {
      mine = Spread::join(mine, Spread::of(i, samples.weight(i), static_cast<double>(x[i])));
    }
    const Spread all = warp.total(mine, JoinSpreads());
    if (warp.lane() == 0) d.spreads[w] = all;
  }
};

// By one block.
template <typename T>
struct JoinCounts {
  DeviceLoss<T> d;

  template <typename Warp>
  PPO_HD void each(std::ptrdiff_t w, const Warp& warp) const {
    // A place that is written was read by this warp.
    Spread mine;
    for (std::ptrdiff_t part = w * kLossLanes + warp.lane(); part < d.cut.warps;
         part += kLossLanes * kLossLanes) {
      mine = Spread::join(mine, d.spreads[part]);
    }
    const Spread all = warp.total(mine, JoinSpreads());
    if (warp.lane() == 0 && w * kLossLanes < d.cut.warps) d.spreads[w * kLossLanes] = all;
  }
  template <typename Warp>
  PPO_HD void finish(const Warp& warp) const {
    const std::ptrdiff_t part = warp.lane() * kLossLanes;
    const Spread all = warp.total(part < d.cut.warps ? d.spreads[part] : Spread(), JoinSpreads());
    if (warp.lane() == 0) d.spreads[d.cut.warps] = all;
  }
};

// Writes a lane's sum into the row of sums, added up over its warp.
template <typename T, typename Warp, typename Join>
PPO_HD void store_sum(const DeviceLoss<T>& d, std::ptrdiff_t w, const Warp& warp,
                      std::ptrdiff_t row, double x, const Join& join) {
  const double all = warp.total(x, join);
  if (warp.lane() == 0) d.sums[row * d.cut.warps + w] = all;
}
// A row of sums of all warps.
template <typename T, typename Warp, typename Join>
PPO_HD double total_of(const DeviceLoss<T>& d, const Warp& warp, std::ptrdiff_t row,
                       const Join& join) {
  return total_of_warps(d.sums + row * d.cut.warps, d.cut, warp, join);
}

template <typename T, typename Warp>
PPO_HD void store_sums(const DeviceLoss<T>& d, std::ptrdiff_t w, const Warp& warp,
                       const Sums& sums) {
  double all[kNumSums + 1];
  PPO_UNROLL
  for (int s = 0; s < kNumSums; ++s) all[s] = warp.total(sums.of[s].part[0], Add());
  all[kNumSums] = warp.total(sums.ratio_max[0], Larger());
  const bool none_is_far = all[kSumLimited] == 0.0;
  const FarRatios far = none_is_far ? FarRatios() : warp.total(sums.far, JoinFar());
  if (warp.lane() != 0) return;
  PPO_UNROLL
  for (int s = 0; s <= kNumSums; ++s) d.sums[s * d.cut.warps + w] = all[s];
  d.far[w] = far;
}

// The pass before, where a hinge of the mean KL needs it.
template <typename T, typename Head>
struct SumKl {
  DeviceLoss<T> d;

  template <typename Warp>
  PPO_HD void operator()(std::ptrdiff_t w, const Warp& warp) const {
    const LossCall<T> a = d.current();
    const Samples<T> samples = d.samples();
    Scratch scratch(d.heads + w * d.head_bytes, warp.lane());
    Head head(a.policy.dist, scratch);
    Head old(a.old, scratch);
    LaneSum sum;
    Lane<double> weights;
    Lane<T> kl;
    for (std::ptrdiff_t i = d.cut.begin(w, warp.lane()); i < d.cut.batch; i += d.cut.stride()) {
      const Group g = samples.group(i, weights);
      head.load(g);
      old.load(g);
      head.divergence(old, kl);
      sum.add(weights, kl);
    }
    store_sum(d, w, warp, kSumKl, sum.part[0], Add());
  }
};

template <typename T>
struct JoinKl {
  DeviceLoss<T> d;

  template <typename Warp>
  PPO_HD void each(std::ptrdiff_t, const Warp&) const {}
  template <typename Warp>
  PPO_HD void finish(const Warp& warp) const {
    const double sum = total_of(d, warp, kSumKl, Add());
    if (warp.lane() == 0) *d.mean_kl = sum / d.samples().total();
  }
};

template <typename T>
PPO_HD Moments moments_of(const DeviceLoss<T>& d) {
  return d.call.normalize_advantages ? d.spreads[d.cut.warps].moments() : Moments{0.0, 1.0};
}

// The pass: loss and gradients of each sample.
template <typename T, typename Head>
struct LossOfDistribution {
  DeviceLoss<T> d;

  template <typename Warp>
  PPO_HD void operator()(std::ptrdiff_t w, const Warp& warp) const {
    constexpr T kNaN = std::numeric_limits<T>::quiet_NaN();
    const LossCall<T> a = d.current();
    const Samples<T> samples = d.samples();
    const Moments moments = moments_of(d);
    const bool has_kl = a.old.batch > 0;
    double kl_weight = has_kl ? a.kl_coef : 0.0;
    if (d.needs_mean_kl()) kl_weight += 2.0 * a.kl_hinge * hinge(a, *d.mean_kl);

    Scratch scratch(d.heads + w * d.head_bytes, warp.lane());
    Head head(a.policy.dist, scratch);
    Head old(a.old, scratch);
    if (a.policy.dist.shares_second) head.share_second(scratch);
    Sums sums;
    const Scales scales = scales_of(a, samples.total(), kl_weight);
    for (std::ptrdiff_t i = d.cut.begin(w, warp.lane()); i < d.cut.batch; i += d.cut.stride()) {
      Lane<double> weights;
      Lane<T> logp;
      Lane<T> entropy;
      Lane<T> kl = {};
      const Group g = samples.group(i, weights);
      // All loads before anything waits for one.
      const Inputs<T> inputs = load_inputs(a, g);
      head.read(g);
      if (has_kl) old.read(g);
      bool is_bad = head.load_actions(g, a.policy.actions) >= 0;
      is_bad |= head.prepare(g) >= 0;
      head.evaluate(logp, entropy);
      if (has_kl) {
        is_bad |= old.prepare(g) >= 0;
        head.divergence(old, kl);
      }
      Shares<T> shares = shares_of<T>(weights, scales);
      if (is_bad) {
        logp[0] = entropy[0] = kl[0] = kNaN;
        shares.policy[0] = shares.entropy[0] = kNaN;
      }
      sums[kSumKl].add(weights, kl);
      const Lane<T> w_logp = policy_terms(a, inputs, weights, logp, shares.policy, moments, sums);
      sums[kSumEntropy].add(weights, entropy);
      if (a.values.data != nullptr) {
        value_terms(a, g, inputs, weights, shares.value, samples.first(), sums);
      }
      head.gradient(g, w_logp, shares.entropy, shares.kl, kl_weight != 0.0, a.policy.first_gradient,
                    a.policy.second_gradient);
    }
    store_sums(d, w, warp, sums);
    for (std::ptrdiff_t k = 0; k < d.shared_dims(); ++k) {
      store_sum(d, w, warp, kNumSums + 1 + k, head.shared(k), Add());
    }
  }
};

// The same for a policy that is known by its log-probabilities.
template <typename T>
struct LossOfLogp {
  DeviceLoss<T> d;

  template <typename Warp>
  PPO_HD void operator()(std::ptrdiff_t w, const Warp& warp) const {
    const LossCall<T> a = d.current();
    const Samples<T> samples = d.samples();
    const Moments moments = moments_of(d);
    Sums sums;
    const Scales scales = scales_of(a, samples.total(), a.kl_coef);
    for (std::ptrdiff_t i = d.cut.begin(w, warp.lane()); i < d.cut.batch; i += d.cut.stride()) {
      Lane<double> weights;
      const Group g = samples.group(i, weights);
      const Shares<T> shares = shares_of<T>(weights, scales);
      const Inputs<T> inputs = load_inputs(a, g);
      const Lane<T> logp = load_lane(g, a.policy.logp);
      Lane<T> w_logp = policy_terms(a, inputs, weights, logp, shares.policy, moments, sums);
      store_lane(g, w_logp, a.policy.first_gradient);
      if (a.kl.data == nullptr) continue;
      sums[kSumKl].add(weights, load_lane(g, a.kl));
      store_lane(g, shares.kl, a.kl_gradient);
    }
    store_sums(d, w, warp, sums);
  }
};

// By one block: the sums of all warps, and what is made of them.
template <typename T>
struct FinishLoss {
  DeviceLoss<T> d;

  template <typename Warp>
  PPO_HD void each(std::ptrdiff_t w, const Warp& warp) const {
    for (std::ptrdiff_t row = w; row < d.rows(); row += kLossLanes) {
      const bool is_max = row == kNumSums;
      const double x = is_max ? total_of(d, warp, row, Larger()) : total_of(d, warp, row, Add());
      if (warp.lane() != 0) continue;
      if (row <= kNumSums) {
        d.totals[row] = x;
      } else {
        d.call.policy.second_gradient[row - kNumSums - 1] = static_cast<T>(x);
      }
    }
    if (w != kLossLanes - 1) return;
    FarRatios far;
    if (total_of(d, warp, kSumLimited, Add()) != 0.0) {
      for (std::ptrdiff_t k = warp.lane(); k < d.cut.warps; k += kLossLanes) far.add(d.far[k]);
      far = warp.total(far, JoinFar());
    }
    if (warp.lane() == 0) d.far[d.cut.warps] = far;
  }
  template <typename Warp>
  PPO_HD void finish(const Warp& warp) const {
    if (warp.lane() != 0) return;
    Totals totals;
    for (int s = 0; s < kNumSums; ++s) totals.of[s] = d.totals[s];
    totals.ratio_max = d.totals[kNumSums];
    totals.far = d.far[d.cut.warps];
    const LossCall<T> a = d.current();
    const bool has_kl = a.old.batch > 0 || a.kl.data != nullptr;
    *d.loss = static_cast<T>(write_results(a, totals, d.samples().total(), has_kl));
  }
};

}  // namespace ppo::inline PPO_ISA
