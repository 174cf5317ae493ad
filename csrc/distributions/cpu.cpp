// Sampling, log-probabilities, entropies and divergences: groups of kLossLanes samples through the
// head of the family.
#include "distributions/cpu.h"

#include "distributions/heads.h"

namespace ppo::inline PPO_ISA {
namespace {

template <typename T>
void store(const Group& g, const Lane<T>& from, T* out) {
  for (int l = 0; l < g.lanes(); ++l) out[g.first + l] = from[l];
}

// The logp is that of the action as it was written, by the formula of the losses: the ratio of a
// fresh policy is then exactly 1.
template <typename T>
Problem sample(const SampleCall<T>& a) {
  return with_head<T>(a.dist.family, [&a]<typename Head>() -> Problem {
    Scratch scratch(a.scratch);
    Head head(a.dist, scratch);
    for (std::ptrdiff_t first = 0; first < a.dist.batch; first += kLanes) {
      const Group g = whole_group(first, a.dist.batch);
      const std::ptrdiff_t bad = head.load(g);
      if (bad >= 0) return {Problem::kParameters, bad};
      if (a.deterministic) {
        head.mode();
      } else if (a.noise.latent) {
        head.draw_state_noise(g, a.noise, a.seed, a.first_id, a.step);
      } else {
        head.draw(g, a.seed, a.first_id, a.step);
      }
      head.store_actions(g, a.actions);
      Lane<T> logp;
      Lane<T> entropy;
      head.evaluate(logp, entropy);
      for (int l = 0; l < g.lanes(); ++l) a.logp[first + l] = logp[l];
      if (a.entropy.data == nullptr) continue;
      for (int l = 0; l < g.lanes(); ++l) a.entropy[first + l] = entropy[l];
    }
    return {};
  });
}

template <typename T>
Problem evaluate(const EvaluateCall<T>& a) {
  return with_head<T>(a.dist.family, [&a]<typename Head>() -> Problem {
    Scratch scratch(a.scratch);
    Head head(a.dist, scratch);
    for (std::ptrdiff_t first = 0; first < a.dist.batch; first += kLanes) {
      const Group g = whole_group(first, a.dist.batch);
      const std::ptrdiff_t bad = head.load(g);
      if (bad >= 0) return {Problem::kParameters, bad};
      const std::ptrdiff_t bad_action = head.load_actions(g, a.actions);
      if (bad_action >= 0) return {Problem::kAction, bad_action};
      Lane<T> logp;
      Lane<T> entropy;
      head.evaluate(logp, entropy);
      store(g, logp, a.logp);
      store(g, entropy, a.entropy);
    }
    return {};
  });
}

template <typename T>
Problem kl(const KlCall<T>& a) {
  return with_head<T>(a.dist.family, [&a]<typename Head>() -> Problem {
    Scratch scratch(a.scratch);
    Head head(a.dist, scratch);
    Head old(a.old, scratch);
    for (std::ptrdiff_t first = 0; first < a.dist.batch; first += kLanes) {
      const Group g = whole_group(first, a.dist.batch);
      const std::ptrdiff_t bad = head.load(g);
      if (bad >= 0) return {Problem::kParameters, bad};
      const std::ptrdiff_t bad_old = old.load(g);
      if (bad_old >= 0) return {Problem::kOldParameters, bad_old};
      Lane<T> divergence;
      head.divergence(old, divergence);
      store(g, divergence, a.kl);
    }
    return {};
  });
}

// The parameters were checked when the results were computed.
template <typename T>
Problem backward(const BackwardCall<T>& a) {
  return with_head<T>(a.dist.family, [&a]<typename Head>() -> Problem {
    Scratch scratch(a.scratch);
    Head head(a.dist, scratch);
    Head old(a.old, scratch);
    const bool with_kl = a.old.batch > 0;
    if (a.dist.shares_second) head.share_second(scratch);
    for (std::ptrdiff_t first = 0; first < a.dist.batch; first += kLanes) {
      const Group g = whole_group(first, a.dist.batch);
      Lane<T> unused;
      head.load(g);
      if (with_kl) {
        old.load(g);
        head.mode();  // any action: what `gradient` weighs by 0 must not be left unwritten
        head.evaluate(unused, unused);
        head.divergence(old, unused);
      } else {
        if (head.load_actions(g, a.actions) >= 0) return {Problem::kAction, first};
        head.evaluate(unused, unused);
      }
      head.gradient(g, load_lane_or_zero(g, a.w_logp), load_lane_or_zero(g, a.w_entropy),
                    load_lane_or_zero(g, a.w_kl), with_kl, a.first, a.second);
    }
    head.finish(a.second);
    return {};
  });
}

template <typename T>
constexpr DistributionKernelsOf<T> kKernelsOf = {&sample<T>, &evaluate<T>, &kl<T>, &backward<T>};
constexpr DistributionKernels kKernels = {kKernelsOf<float>, kKernelsOf<double>};

}  // namespace
}  // namespace ppo::inline PPO_ISA

const ppo::DistributionKernels& ppo::PPO_ISA_TABLE(distribution_kernels) { return kKernels; }
