// A fused loss with all that it may have, without a GPU (tests/cuda), against the CPU's; several samples to a lane, weights, a
// hinge of the KL, and a log_std that all samples share.
#include <cmath>
#include <vector>

#include "check.h"
#include "support/counter_rng.h"
#include "surrogate/cuda.h"

namespace {

constexpr std::ptrdiff_t kDims = 3;

struct Data {
  explicit Data(std::ptrdiff_t batch) : size(batch) {
    for (std::vector<double>* column : {&old_logp, &advantages, &values, &returns, &weights})
      fill(*column, 1);
    for (std::vector<double>* rows : {&mean, &old_mean, &actions}) fill(*rows, kDims);
    log_std = {-0.1, 0.2, 0.0};
  }

  void fill(std::vector<double>& to, std::ptrdiff_t columns) {
    ++id;
    for (std::ptrdiff_t i = 0; i < size * columns; ++i) {
      to.push_back(
          ppo::counter_uniform(3, ppo::Stream::kActions, id, static_cast<std::uint64_t>(i)));
    }
  }

  ppo::Distribution<double> distribution(const std::vector<double>& rows) const {
    ppo::Distribution<double> d;
    d.family = ppo::Family::kGaussian;
    d.batch = size;
    d.dims = d.components = kDims;
    d.first = {rows.data(), kDims, 1};
    d.second = {log_std.data(), 0, 1};
    d.shares_second = true;
    return d;
  }

  ppo::LossCall<double> call() const {
    ppo::LossCall<double> c;
    c.batch = size;
    c.policy.dist = distribution(mean);
    c.policy.actions.continuous = {actions.data(), kDims, 1};
    c.old = distribution(old_mean);
    c.old_logp = {old_logp.data(), 1};
    c.advantages = {advantages.data(), 1};
    c.values = {values.data(), 1};
    c.returns = {returns.data(), 1};
    c.weights = {weights.data(), 1};
    c.ratio_low = 0.8;
    c.ratio_high = 1.2;
    c.dual_clip = c.clip_range_values = HUGE_VAL;
    c.kl_coef = 0.5;
    c.kl_hinge = 2;
    c.kl_hinge_from = 0.01;
    c.entropy_coef = 0.01;
    c.value_coef = 0.5;
    c.normalize_advantages = true;
    return c;
  }

  std::ptrdiff_t size;
  std::uint32_t id = 0;
  std::vector<double> old_logp, advantages, values, returns, weights, mean, old_mean, actions,
      log_std;
};

struct Results {
  explicit Results(std::ptrdiff_t batch)
      : rows(batch * kDims), stds(kDims), values(batch), stats(ppo::kNumLossStats) {}

  void go_into(ppo::LossCall<double>& c) {
    c.policy.first_gradient = rows.data();
    c.policy.second_gradient = stds.data();
    c.values_gradient = values.data();
    c.stats = stats.data();
    c.loss = &loss;
  }

  std::vector<double> rows, stds, values, stats;
  double loss = 0;
};

bool close(const std::vector<double>& a, const std::vector<double>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!(std::fabs(a[i] - b[i]) <= 1e-12 * (1 + std::fabs(b[i])))) return false;
  }
  return a.size() == b.size();
}

void check(std::ptrdiff_t batch) {
  const Data data(batch);
  ppo::LossCall<double> call = data.call();
  Results ours(batch);
  Results expected(batch);

  ours.go_into(call);
  std::vector<char> scratch(static_cast<std::size_t>(ppo::cuda::scratch_bytes(call)) + 64);
  call.scratch = scratch.data();
  CHECK(ppo::cuda::start(call, {}, &ours.loss, nullptr) == cudaSuccess);

  expected.go_into(call);
  std::vector<ppo::Distribution<double>> both = {call.policy.dist, call.old};
  std::vector<char> lanes(static_cast<std::size_t>(2 * ppo::scratch_bytes(both[0])) + 64);
  const auto address = reinterpret_cast<std::uintptr_t>(lanes.data());
  call.scratch = reinterpret_cast<void*>((address + 63) / 64 * 64);
  CHECK(PPO_SELECT_ISA(surrogate_kernels).loss_double(call).kind == ppo::Problem::kNone);

  CHECK(close({ours.loss}, {expected.loss}));
  CHECK(close(ours.stats, expected.stats));
  CHECK(close(ours.rows, expected.rows));
  CHECK(close(ours.stds, expected.stds));
  CHECK(close(ours.values, expected.values));
}

}  // namespace

int main() {
  for (std::ptrdiff_t batch : {2, 33, 1000, 66000}) check(batch);
  return 0;
}
