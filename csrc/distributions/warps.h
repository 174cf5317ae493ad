// Distributions by warps: a lane has a sample at a time, through the head of its family (softmax_head.h, product_head.h).
//
// To raise an error would mean to wait for the device. What the CPU refuses (no distribution, an action out of range) makes
// NaN of the sample's results here; an action that is drawn nevertheless is in range.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "distributions/cuda.h"
#include "distributions/heads.h"
#include "distributions/sample_cut.h"

namespace ppo::inline PPO_ISA {

// Sizes of the components of a multi-categorical distribution, on their way into a kernel.
struct Components {
  std::int64_t sizes[cuda::kMostComponents];

  template <typename T>
  void take(const Distribution<T>& dist) {
    if (dist.sizes == nullptr) return;
    for (std::ptrdiff_t c = 0; c < dist.components; ++c) sizes[c] = dist.sizes[c];
  }
  // The distribution with its sizes where the device can read them.
  template <typename T>
  PPO_HD Distribution<T> with_sizes(Distribution<T> dist) const {
    if (dist.sizes != nullptr) dist.sizes = sizes;
    return dist;
  }
};

// What every body below has: the samples of its lanes, and what heads keep of them in scratch memory.
struct WarpSamples {
  SampleCut cut;
  Components components;
  char* heads;  // [warps, bytes]
  std::ptrdiff_t bytes;

  template <typename Warp>
  PPO_HD Scratch scratch(std::ptrdiff_t w, const Warp& warp) const {
    return Scratch(heads + w * bytes, warp.lane());
  }
  // body(group) for each sample of the lane.
  template <typename Warp, typename Body>
  PPO_HD void for_each(std::ptrdiff_t w, const Warp& warp, const Body& body) const {
    for (std::ptrdiff_t i = cut.begin(w, warp.lane()); i < cut.batch; i += cut.stride()) {
      body(whole_group(i, cut.batch));
    }
  }
};

template <typename T>
inline constexpr T kNotANumber = std::numeric_limits<T>::quiet_NaN();

template <typename T, typename Head>
struct SampleActions {
  SampleCall<T> call;
  const std::int64_t* device_step;
  WarpSamples samples;

  template <typename Warp>
  PPO_HD void operator()(std::ptrdiff_t w, const Warp& warp) const {
    const SampleCall<T>& a = call;
    const std::uint64_t step =
        device_step == nullptr ? a.step : static_cast<std::uint64_t>(*device_step);
    Scratch scratch = samples.scratch(w, warp);
    Head head(samples.components.with_sizes(a.dist), scratch);
    samples.for_each(w, warp, [&](const Group& g) {
      const bool is_bad = head.load(g) >= 0;
      if (a.deterministic || is_bad) {
        head.mode();
      } else if (a.noise.latent) {
        head.draw_state_noise(g, a.noise, a.seed, a.first_id, step);
      } else {
        head.draw(g, a.seed, a.first_id, step);
      }
      head.store_actions(g, a.actions);
      Lane<T> logp;
      Lane<T> entropy;
      head.evaluate(logp, entropy);
      a.logp[g.first] = is_bad ? kNotANumber<T> : logp[0];
      if (a.entropy.data != nullptr) a.entropy[g.first] = is_bad ? kNotANumber<T> : entropy[0];
    });
  }
};

template <typename T, typename Head>
struct EvaluateActions {
  EvaluateCall<T> call;
  WarpSamples samples;

  template <typename Warp>
  PPO_HD void operator()(std::ptrdiff_t w, const Warp& warp) const {
    Scratch scratch = samples.scratch(w, warp);
    Head head(samples.components.with_sizes(call.dist), scratch);
    samples.for_each(w, warp, [&](const Group& g) {
      bool is_bad = head.load(g) >= 0;
      is_bad |= head.load_actions(g, call.actions) >= 0;
      Lane<T> logp;
      Lane<T> entropy;
      head.evaluate(logp, entropy);
      call.logp[g.first] = is_bad ? kNotANumber<T> : logp[0];
      call.entropy[g.first] = is_bad ? kNotANumber<T> : entropy[0];
    });
  }
};

template <typename T, typename Head>
struct Divergences {
  KlCall<T> call;
  WarpSamples samples;

  template <typename Warp>
  PPO_HD void operator()(std::ptrdiff_t w, const Warp& warp) const {
    Scratch scratch = samples.scratch(w, warp);
    Head head(samples.components.with_sizes(call.dist), scratch);
    Head old(samples.components.with_sizes(call.old), scratch);
    samples.for_each(w, warp, [&](const Group& g) {
      bool is_bad = head.load(g) >= 0;
      is_bad |= old.load(g) >= 0;
      Lane<T> kl;
      head.divergence(old, kl);
      call.kl[g.first] = is_bad ? kNotANumber<T> : kl[0];
    });
  }
};

template <typename T, typename Head>
struct Gradients {
  BackwardCall<T> call;
  WarpSamples samples;
  double* sums;  // [dims, warps], of a second parameter that all samples share

  template <typename Warp>
  PPO_HD void operator()(std::ptrdiff_t w, const Warp& warp) const {
    const BackwardCall<T>& a = call;
    const bool with_kl = a.old.batch > 0;
    Scratch scratch = samples.scratch(w, warp);
    Head head(samples.components.with_sizes(a.dist), scratch);
    Head old(samples.components.with_sizes(a.old), scratch);
    if (a.dist.shares_second) head.share_second(scratch);
    samples.for_each(w, warp, [&](const Group& g) {
      Lane<T> w_logp = load_lane_or_zero(g, a.w_logp);
      Lane<T> w_entropy = load_lane_or_zero(g, a.w_entropy);
      Lane<T> w_kl = load_lane_or_zero(g, a.w_kl);
      Lane<T> unused;
      bool is_bad = head.load(g) >= 0;
      if (with_kl) {
        is_bad |= old.load(g) >= 0;
        head.mode();  // any action: what `gradient` weighs by 0 must not be left unwritten
        head.evaluate(unused, unused);
        head.divergence(old, unused);
      } else {
        is_bad |= head.load_actions(g, a.actions) >= 0;
        head.evaluate(unused, unused);
      }
      if (is_bad) w_logp[0] = w_entropy[0] = w_kl[0] = kNotANumber<T>;
      head.gradient(g, w_logp, w_entropy, w_kl, with_kl, a.first, a.second);
    });
    if (!a.dist.shares_second) return;
    for (std::ptrdiff_t k = 0; k < a.dist.dims; ++k) {
      const double sum = warp.total(head.shared(k), Add());
      if (warp.lane() == 0) sums[k * samples.cut.warps + w] = sum;
    }
  }
};

// By one block.
template <typename T>
struct AddGradients {
  BackwardCall<T> call;
  SampleCut cut;
  const double* sums;

  template <typename Warp>
  PPO_HD void each(std::ptrdiff_t w, const Warp& warp) const {
    for (std::ptrdiff_t k = w; k < call.dist.dims; k += kLossLanes) {
      const double sum = total_of_warps(sums + k * cut.warps, cut, warp, Add());
      if (warp.lane() == 0) call.second[k] = static_cast<T>(sum);
    }
  }
  template <typename Warp>
  PPO_HD void finish(const Warp&) const {}
};

}  // namespace ppo::inline PPO_ISA
