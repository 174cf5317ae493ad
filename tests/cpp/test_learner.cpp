// The learner without Python: odd widths, single samples and parts of blocks, with results that do not depend on
// the number of threads, and losses that fall. Meant for the sanitizers, and a test of its own.
#include "learner/learner.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "check.h"
#include "support/counter_rng.h"

namespace {

constexpr std::ptrdiff_t kSamples = 203;
// Of the networks made next: few, or more than a narrow layer has.
std::ptrdiff_t num_inputs = 3;
constexpr std::ptrdiff_t kActions = 2;

// Layers one behind the other in the flat parameters.
struct Places {
  std::ptrdiff_t size = 0;

  ppo::Layer layer(std::ptrdiff_t inputs, std::ptrdiff_t outputs) {
    const ppo::Layer made = {inputs, outputs, size, size + inputs * outputs};
    size += (inputs + 1) * outputs;
    return made;
  }
};

ppo::Part part_of(Places& places, const std::vector<std::ptrdiff_t>& widths,
                  const std::vector<std::pair<std::ptrdiff_t, ppo::Output>>& heads) {
  ppo::Part part;
  part.inputs = num_inputs;
  std::ptrdiff_t width = num_inputs;
  for (std::ptrdiff_t next : widths) {
    part.hidden.push_back(places.layer(width, next));
    width = next;
  }
  for (const auto& [outputs, output] : heads) {
    part.heads.push_back({places.layer(width, outputs), output});
  }
  return part;
}

// Numbers within (-1, 1) that only depend on where they stand.
std::vector<float> numbers(std::ptrdiff_t count, std::uint32_t id) {
  std::vector<float> made;
  for (std::ptrdiff_t i = 0; i < count; ++i) {
    const double u =
        ppo::counter_uniform(5, ppo::Stream::kActions, id, static_cast<std::uint64_t>(i), 0);
    made.push_back(static_cast<float>(2 * u - 1));
  }
  return made;
}

// A learner with its memory, and samples to learn from.
struct Case {
  Case(const std::vector<ppo::Part>& parts, ppo::Activation activation, const ppo::PolicyForm& form,
       std::ptrdiff_t size)
      : learner(parts, activation, form),
        parameters(numbers(size, 1)),
        gradient(parameters.size()),
        exp_avg(parameters.size()),
        exp_avg_sq(parameters.size()) {
    CHECK(learner.parameter_count() <= size);
    for (float& x : parameters) x *= 0.5f;
    learner.link({parameters.data(), gradient.data(), exp_avg.data(), exp_avg_sq.data(), size});
    for (std::ptrdiff_t i = 0; i < kSamples; ++i) choices.push_back(i % kActions);
    for (std::ptrdiff_t i = 0; i < kSamples; ++i) order.push_back((i * 7) % kSamples);
  }

  ppo::SampleArrays samples() {
    ppo::SampleArrays made;
    made.obs = obs.data();
    if (learner.policy().is_discrete()) {
      made.actions.discrete = {choices.data(), 1, 1};
    } else {
      made.actions.continuous = {actions.data(), kActions, 1};
    }
    made.logp = logp.data();
    made.advantages = advantages.data();
    made.returns = returns.data();
    return made;
  }

  ppo::Learner learner;
  std::vector<float> parameters, gradient, exp_avg, exp_avg_sq;
  std::vector<std::int64_t> choices, order;
  std::vector<float> obs = numbers(kSamples * num_inputs, 2);
  std::vector<float> actions = numbers(kSamples * kActions, 3);
  std::vector<float> logp = std::vector<float>(kSamples, -1.0f);
  std::vector<float> advantages = numbers(kSamples, 4);
  std::vector<float> returns = numbers(kSamples, 5);
};

// Five epochs; the parameters that they end with.
template <typename Make>
std::vector<float> train(const Make& make, int threads, std::ptrdiff_t minibatch) {
  constexpr double kNone = std::numeric_limits<double>::infinity();
  Case c = make();
  ppo::EpochSettings settings;
  settings.loss.ratio_low = 0.8;
  settings.loss.ratio_high = 1.2;
  settings.loss.dual_clip = settings.loss.clip_range_values = kNone;
  settings.loss.value_coef = 0.5;
  settings.minibatch = minibatch;
  settings.learning_rate = 1e-2;
  settings.max_grad_norm = 0.5;
  settings.stop_kl = kNone;
  settings.threads = threads;
  double first = 0;
  double last = 0;
  for (int epoch = 0; epoch < 5; ++epoch) {
    std::vector<double> stats(static_cast<std::size_t>(kSamples * ppo::kNumLossStats));
    const ppo::EpochOutcome outcome =
        c.learner.epoch(c.samples(), c.order.data(), kSamples, settings, stats.data());
    CHECK(outcome.failure == ppo::EpochOutcome::kNone && !outcome.stopped);
    CHECK(outcome.minibatches == (kSamples + minibatch - 1) / minibatch);
    settings.steps_taken += static_cast<double>(outcome.steps);
    double sum = 0;
    for (std::ptrdiff_t k = 0; k < outcome.minibatches; ++k) {
      const double value_loss =
          stats[static_cast<std::size_t>(k * ppo::kNumLossStats + ppo::kValueLoss)];
      CHECK(std::isfinite(value_loss));
      sum += value_loss;
    }
    last = sum / static_cast<double>(outcome.minibatches);
    if (epoch == 0) first = last;
  }
  CHECK(last < first);

  // Batches that are no whole blocks see the same policy and values, sample for sample.
  std::vector<float> all(kSamples);
  std::vector<float> one(1);
  c.learner.values_of(c.obs.data(), kSamples, threads, all.data());
  for (std::ptrdiff_t i : {std::ptrdiff_t{0}, std::ptrdiff_t{64}, kSamples - 1}) {
    c.learner.values_of(c.obs.data() + i * num_inputs, 1, threads, one.data());
    CHECK(one[0] == all[static_cast<std::size_t>(i)]);
  }
  CHECK(c.learner.policy_of(c.obs.data(), kSamples, threads).batch == kSamples);
  return c.parameters;
}

template <typename Make>
void check(const Make& make) {
  for (std::ptrdiff_t minibatch :
       {std::ptrdiff_t{1}, std::ptrdiff_t{63}, std::ptrdiff_t{150}, kSamples}) {
    const std::vector<float> expected = train(make, 1, minibatch);
    for (int threads : {2, 3}) CHECK(train(make, threads, minibatch) == expected);
  }
}

Case separate_networks() {
  Places places;
  const std::vector<ppo::Part> parts = {part_of(places, {17, 5}, {{kActions, ppo::kPolicyOutput}}),
                                        part_of(places, {33}, {{1, ppo::kValueOutput}})};
  ppo::PolicyForm form;
  form.dims = kActions;
  return {parts, ppo::Activation::kTanh, form, places.size};
}

Case shared_trunk(ppo::LogStd log_std, ppo::Activation activation) {
  Places places;
  const std::ptrdiff_t columns = log_std == ppo::LogStd::kOutput ? 2 * kActions : kActions;
  const std::vector<ppo::Part> parts = {
      part_of(places, {70, 18}, {{columns, ppo::kPolicyOutput}, {1, ppo::kValueOutput}})};
  ppo::PolicyForm form;
  form.family = ppo::Family::kGaussian;
  form.dims = form.components = kActions;
  form.log_std = log_std;
  form.log_std_place = places.size;
  form.sample_freq = 4;
  if (log_std == ppo::LogStd::kParameter) places.size += kActions;
  if (log_std == ppo::LogStd::kNoise) places.size += 18 * kActions;
  return {parts, activation, form, places.size};
}

Case without_hidden_layers() {
  Places places;
  const std::vector<ppo::Part> parts = {part_of(places, {}, {{kActions, ppo::kPolicyOutput}}),
                                        part_of(places, {}, {{1, ppo::kValueOutput}})};
  ppo::PolicyForm form;
  form.dims = kActions;
  return {parts, ppo::Activation::kRelu, form, places.size};
}

}  // namespace

int main() {
  for (std::ptrdiff_t inputs : {3, 17}) {
    num_inputs = inputs;
    check(separate_networks);
    check(without_hidden_layers);
    check([] { return shared_trunk(ppo::LogStd::kParameter, ppo::Activation::kSilu); });
    check([] { return shared_trunk(ppo::LogStd::kOutput, ppo::Activation::kElu); });
    check([] { return shared_trunk(ppo::LogStd::kNoise, ppo::Activation::kTanh); });
  }
  return 0;
}
