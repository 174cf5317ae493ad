// _core.Learner, Activation and LogStd: checks, keeps the arrays that it works on, releases the GIL.
#include <algorithm>
#include <chrono>
#include <mutex>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <pybind11/native_enum.h>
#include <pybind11/stl.h>

#include "bind.h"
#include "distributions/cpu.h"
#include "envs/held_vector_env.h"
#include "learner/arguments.h"
#include "learner/collect.h"

namespace ppo {
namespace {

using LayerTuple = std::tuple<std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t>;
using HeadTuple = std::tuple<LayerTuple, int>;
using PartTuple = std::tuple<std::ptrdiff_t, std::vector<LayerTuple>, std::vector<HeadTuple>>;

Layer layer_of(const LayerTuple& from) {
  return {std::get<0>(from), std::get<1>(from), std::get<2>(from), std::get<3>(from)};
}

[[noreturn]] void refuse(const char* name, const std::string& rest) {
  Argument{"Learner", name}.value_error(rest);
}

std::vector<Part> parts_of(const std::vector<PartTuple>& from) {
  std::vector<Part> parts;
  int heads_of[kOutputs] = {};
  for (const auto& [inputs, hidden, heads] : from) {
    Part part;
    part.inputs = inputs;
    std::ptrdiff_t width = inputs;
    const auto check = [&width](const Layer& layer) {
      if (layer.inputs != width || layer.inputs < 1 || layer.outputs < 1 || layer.weight < 0 ||
          layer.bias < 0) {
        refuse("parts", "must be layers that go together");
      }
    };
    for (const LayerTuple& tuple : hidden) {
      part.hidden.push_back(layer_of(tuple));
      check(part.hidden.back());
      width = part.hidden.back().outputs;
    }
    for (const auto& [layer, output] : heads) {
      if (output < 0 || output >= kOutputs) refuse("parts", "must have heads of output 0 or 1");
      part.heads.push_back({layer_of(layer), static_cast<Output>(output)});
      check(part.heads.back().layer);
      ++heads_of[output];
    }
    if (part.heads.empty()) refuse("parts", "must have a head each");
    parts.push_back(std::move(part));
    if (parts.front().inputs != inputs) refuse("parts", "must have the same inputs");
  }
  if (heads_of[kPolicyOutput] != 1 || heads_of[kValueOutput] != 1) {
    refuse("parts", "must have one head for the policy and one for the value");
  }
  return parts;
}

// Refuses a form that does not go with the policy's head.
Learner make_learner(std::vector<Part> parts, Activation activation, PolicyForm form) {
  std::ptrdiff_t columns = 0;
  for (const Part& part : parts) {
    for (const Head& head : part.heads) {
      if (head.output == kPolicyOutput) columns = head.layer.outputs;
    }
  }
  if (form.is_discrete() != (form.log_std == LogStd::kNone)) {
    refuse("log_std", "must be none for discrete actions, and for no others");
  }
  if (form.dims * (form.log_std == LogStd::kOutput ? 2 : 1) != columns) {
    refuse("dims", "must be those of the policy's head, got " + std::to_string(form.dims));
  }
  std::ptrdiff_t choices = 0;
  for (std::int64_t size : form.sizes) choices += size < 1 ? form.dims + 1 : size;
  const bool is_categorical = form.family == Family::kCategorical;
  if (!form.sizes.empty() && (!is_categorical || choices != form.dims)) {
    refuse("sizes", "must add up to dims, for categorical actions");
  }
  const std::ptrdiff_t components =
      !is_categorical ? form.dims
                      : (form.sizes.empty() ? 1 : static_cast<std::ptrdiff_t>(form.sizes.size()));
  if (form.components != components) {
    refuse("components",
           "must be " + std::to_string(components) + ", got " + std::to_string(form.components));
  }
  if (form.log_std_place < 0) refuse("log_std_place", "must not be negative");
  if (form.sample_freq < 1) refuse("sample_freq", "must be positive");
  return {std::move(parts), activation, std::move(form)};
}

// Gives Python's signal handlers a chance every tenth of a second of a long call without the GIL: Ctrl-C may
// raise KeyboardInterrupt.
class SignalCheck {
 public:
  void operator()() {
    const Clock::time_point now = Clock::now();
    if (now - last_ < std::chrono::milliseconds(100)) return;
    last_ = now;
    const py::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point last_ = Clock::now();
};

class PyLearner {
 public:
  PyLearner(const std::vector<PartTuple>& parts, Activation activation, Family family,
            std::ptrdiff_t dims, std::ptrdiff_t components, std::vector<std::int64_t> sizes,
            LogStd log_std, std::ptrdiff_t log_std_place, float first_log_std,
            std::uint64_t sample_freq)
      : learner_(make_learner(parts_of(parts), activation,
                              {family, dims, components, std::move(sizes), log_std, log_std_place,
                               first_log_std, sample_freq})) {}

  // The arrays stay the caller's; the learner holds on to them.
  void link(const py::array& parameters, const py::array& gradient, const py::array& exp_avg,
            const py::array& exp_avg_sq) {
    const Lock lock(mutex_);
    LearnerMemory memory;
    memory.size = parameters.size();
    memory.parameters = writable<float>("link", "parameters", parameters, {memory.size});
    memory.gradient = writable<float>("link", "gradient", gradient, {memory.size});
    memory.exp_avg = writable<float>("link", "exp_avg", exp_avg, {memory.size});
    memory.exp_avg_sq = writable<float>("link", "exp_avg_sq", exp_avg_sq, {memory.size});
    if (learner_.parameter_count() > memory.size) {
      Argument{"link", "parameters"}.value_error("must have at least " +
                                                 std::to_string(learner_.parameter_count()) +
                                                 " elements, got " + std::to_string(memory.size));
    }
    kept_ = py::make_tuple(parameters, gradient, exp_avg, exp_avg_sq);
    learner_.link(memory);
  }

  // Draws actions with their log-probabilities; the first row that is no distribution, or -1.
  std::ptrdiff_t act(const py::array& obs, const py::array& actions, const py::array& logp,
                     std::uint64_t seed, std::uint64_t step, bool deterministic, int threads) {
    const InUse in_use(*this);
    const Array rows = observations("act", obs);
    checked_threads("act", threads);
    const std::ptrdiff_t batch = rows.shape(0);
    const std::ptrdiff_t components = learner_.policy().components;
    SampleCall<float> call;
    if (learner_.policy().is_discrete()) {
      call.actions.discrete = {writable_actions<std::int64_t>("act", actions, batch * components),
                               components, 1};
    } else {
      call.actions.continuous = {writable_actions<float>("act", actions, batch * components),
                                 components, 1};
    }
    call.logp = {writable<float>("act", "logp", logp, {batch}), 1};
    call.seed = seed;
    call.step = step;
    call.deterministic = deterministic;
    const arrays::ReleaseGil release(batch > 16);
    call.dist = learner_.policy_of(static_cast<const float*>(rows.data()), batch, threads);
    call.noise = learner_.noise();
    call.scratch = scratch_.at_least(scratch_bytes(call.dist) / 4 + 1);
    const Problem problem = PPO_SELECT_ISA(distribution_kernels).of_float.sample(call);
    return problem.kind == Problem::kNone ? -1 : problem.row;
  }

  py::array_t<float> values(const py::array& obs, int threads) {
    const InUse in_use(*this);
    const Array rows = observations("values", obs);
    checked_threads("values", threads);
    py::array_t<float> result(rows.shape(0));
    float* out = result.mutable_data();
    const arrays::ReleaseGil release(rows.shape(0) > 16);
    learner_.values_of(static_cast<const float*>(rows.data()), rows.shape(0), threads, out);
    return result;
  }

  // The parameters of the policy: [B, dims], and log_std likewise if it differs between samples, else None.
  py::tuple policy(const py::array& obs, int threads) {
    const InUse in_use(*this);
    const Array rows = observations("policy", obs);
    checked_threads("policy", threads);
    const std::ptrdiff_t batch = rows.shape(0);
    const std::ptrdiff_t dims = learner_.policy().dims;
    const auto* data = static_cast<const float*>(rows.data());
    py::array_t<float> first(std::vector<py::ssize_t>{batch, dims});
    float* first_out = first.mutable_data();
    Distribution<float> dist;
    {
      const arrays::ReleaseGil release(batch > 16);
      dist = learner_.policy_of(data, batch, threads);
      copy_rows(dist.first, batch, dims, first_out);
    }
    if (!dist.second || dist.shares_second) return py::make_tuple(first, py::none());
    py::array_t<float> second(std::vector<py::ssize_t>{batch, dims});
    copy_rows(dist.second, batch, dims, second.mutable_data());
    return py::make_tuple(first, second);
  }

  // Passes over `order`, one for each row of it. Returns (stats, steps of Adam, stopped, failure), failure being
  // "" or what the last minibatch failed in.
  py::tuple epoch(const py::array& obs, const py::array& order, const py::tuple& columns,
                  const py::tuple& loss, const py::tuple& step) {
    const InUse in_use(*this);
    const Array rows = observations(kEpoch, obs);
    const SampleArrays samples = read_samples(learner_.policy(), rows, EpochColumns(columns));
    EpochSettings settings = read_epoch_settings(loss, EpochStep(step));
    require_what_the_loss_needs(settings.loss, samples);
    const EpochOrder passes = read_order(order, rows.shape(0));
    settings.minibatch = std::min(settings.minibatch, std::max<std::ptrdiff_t>(passes.count, 1));
    settings.at_step = SignalCheck();
    const std::ptrdiff_t most =
        passes.epochs * ((passes.count + settings.minibatch - 1) / settings.minibatch);
    py::array_t<double> stats(std::vector<py::ssize_t>{most, kNumLossStats});
    const EpochOutcome outcome = run_passes(samples, passes, settings, stats.mutable_data());
    const py::slice done(0, outcome.minibatches, 1);
    return py::make_tuple(stats[done], outcome.steps, outcome.stopped, failure_text(outcome));
  }

  // T steps of a native environment. arrays: (obs, actions, logp, rewards, terminated, truncated,
  // final_obs); bounds: (low, high, squashed) or None; scale: (mean, scale, most) or None. Returns the
  // seconds spent in the environments, and the row that was no distribution or -1.
  py::tuple collect(HeldVectorEnv& env, const py::tuple& arrays, std::uint64_t seed,
                    std::uint64_t first_step, const py::object& bounds, const py::object& scale,
                    int threads) {
    const char* f = "collect";
    const InUse in_use(*this);
    const HeldVectorEnv::InUse env_in_use(env);
    if (env.threw()) {
      throw std::runtime_error("collect: the environment threw in the call before; reset it first");
    }
    checked_threads(f, threads);
    require_length(f, "arrays", arrays, 7);
    const std::ptrdiff_t n = env.engine().num_envs();
    const std::ptrdiff_t width = learner_.inputs();
    const std::ptrdiff_t components = learner_.policy().components;
    const bool discrete = learner_.policy().is_discrete();
    const EnvTable& table = env.engine().table();
    const bool fits = table.obs_size == width && table.obs_type == ScalarType::kFloat32 &&
                      (discrete ? table.num_actions == learner_.policy().dims && components == 1
                                : table.num_actions == 0 && table.action_size == components);
    if (!fits) throw py::value_error("collect: the environment is not one of this network's");
    if (env.engine().autoreset() != Autoreset::kSameStep) {
      throw py::value_error(
          "collect: the environment must reset itself in the step that ends an episode");
    }
    RolloutArrays rollout;
    rollout.steps = py::array(arrays[3]).shape(0);
    const std::ptrdiff_t steps = rollout.steps;
    rollout.obs = writable<float>(f, "obs", arrays[0], {steps + 1, n, width});
    if (discrete) {
      rollout.discrete = writable_actions<std::int64_t>(f, arrays[1], steps * n * components);
    } else {
      rollout.continuous = writable_actions<float>(f, arrays[1], steps * n * components);
    }
    rollout.logp = writable<float>(f, "logp", arrays[2], {steps, n});
    rollout.rewards = writable<float>(f, "rewards", arrays[3], {steps, n});
    rollout.terminated = writable<bool>(f, "terminated", arrays[4], {steps, n});
    rollout.truncated = writable<bool>(f, "truncated", arrays[5], {steps, n});
    rollout.final_obs = writable<float>(f, "final_obs", arrays[6], {steps, n, width});
    CollectSettings settings;
    settings.seed = seed;
    settings.first_step = first_step;
    settings.threads = threads;
    settings.at_step = SignalCheck();
    if (!bounds.is_none()) {
      const py::tuple parts = bounds;
      settings.low =
          static_cast<const float*>(contiguous<float>(f, "low", parts[0], {components}).data());
      settings.high =
          static_cast<const float*>(contiguous<float>(f, "high", parts[1], {components}).data());
      settings.squashed = parts[2].cast<bool>();
    } else if (!discrete) {
      throw py::value_error("collect: continuous actions need their bounds");
    }
    if (!scale.is_none()) {
      const py::tuple parts = scale;
      settings.mean =
          static_cast<const double*>(contiguous<double>(f, "mean", parts[0], {width}).data());
      settings.scale =
          static_cast<const double*>(contiguous<double>(f, "scale", parts[1], {width}).data());
      settings.most = parts[2].cast<double>();
    }
    const CollectOutcome outcome = env.noting_throws([&] {
      const py::gil_scoped_release release;
      return ppo::collect(learner_, env.engine(), rollout, settings);
    });
    const std::ptrdiff_t bad = outcome.problem.kind == Problem::kNone ? -1 : outcome.problem.row;
    return py::make_tuple(outcome.env_seconds, bad);
  }

 private:
  Array observations(const char* function, const py::array& obs) const {
    return contiguous<float>(function, "obs", obs, {-1, learner_.inputs()});
  }

  // Until one stops or fails. The outcome is that of the last pass, with the minibatches and steps of all.
  EpochOutcome run_passes(const SampleArrays& samples, const EpochOrder& passes,
                          EpochSettings& settings, double* stats) {
    const py::gil_scoped_release release;
    EpochOutcome outcome;
    for (std::ptrdiff_t e = 0; e < passes.epochs; ++e) {
      EpochOutcome one = learner_.epoch(samples, passes.indices + e * passes.count, passes.count,
                                        settings, stats + outcome.minibatches * kNumLossStats);
      settings.steps_taken += static_cast<double>(one.steps);
      one.minibatches += outcome.minibatches;
      one.steps += outcome.steps;
      outcome = one;
      if (outcome.stopped || outcome.failure != EpochOutcome::kNone) break;
    }
    return outcome;
  }

  static void copy_rows(const View2<const float>& from, std::ptrdiff_t rows, std::ptrdiff_t columns,
                        float* to) {
    for (std::ptrdiff_t i = 0; i < rows; ++i) {
      for (std::ptrdiff_t k = 0; k < columns; ++k) to[i * columns + k] = from(i, k);
    }
  }

  static std::string failure_text(const EpochOutcome& outcome) {
    switch (outcome.failure) {
      case EpochOutcome::kNone:
        return "";
      case EpochOutcome::kLoss:
        return "loss";
      case EpochOutcome::kGradient:
        return "gradient";
      default:
        return outcome.problem.kind == Problem::kAction ? "action" : "policy";
    }
  }

  // One call at a time: the work space is for one. Others wait, without the GIL.
  class Lock {
   public:
    explicit Lock(std::mutex& mutex) : lock_(mutex, std::try_to_lock) {
      if (lock_.owns_lock()) return;
      const py::gil_scoped_release release;
      lock_.lock();
    }

   private:
    std::unique_lock<std::mutex> lock_;
  };

  class InUse {
   public:
    explicit InUse(PyLearner& self) : lock_(self.mutex_) {
      if (self.learner_.memory().parameters == nullptr) {
        throw std::runtime_error("this learner has no parameters yet; link() gives them");
      }
    }

   private:
    Lock lock_;
  };

  Learner learner_;
  FloatMemory scratch_;  // of act
  py::tuple kept_;
  std::mutex mutex_;
};

}  // namespace

void bind_learner(py::module_& m) {
  py::native_enum<Activation>(m, "Activation", "enum.IntEnum")
      .value("tanh", Activation::kTanh)
      .value("relu", Activation::kRelu)
      .value("elu", Activation::kElu)
      .value("silu", Activation::kSilu)
      .finalize();
  py::native_enum<LogStd>(m, "LogStd", "enum.IntEnum")
      .value("none", LogStd::kNone)
      .value("parameter", LogStd::kParameter)
      .value("output", LogStd::kOutput)
      .value("noise", LogStd::kNoise)
      .finalize();
  py::class_<PyLearner>(m, "Learner")
      .def(py::init<const std::vector<PartTuple>&, Activation, Family, std::ptrdiff_t,
                    std::ptrdiff_t, std::vector<std::int64_t>, LogStd, std::ptrdiff_t, float,
                    std::uint64_t>(),
           py::arg("parts"), py::arg("activation"), py::arg("family"), py::arg("dims"),
           py::arg("components"), py::arg("sizes"), py::arg("log_std"), py::arg("log_std_place"),
           py::arg("first_log_std"), py::arg("sample_freq"))
      .def("link", &PyLearner::link, py::arg("parameters"), py::arg("gradient"), py::arg("exp_avg"),
           py::arg("exp_avg_sq"))
      .def("act", &PyLearner::act, py::arg("obs"), py::arg("actions"), py::arg("logp"),
           py::arg("seed"), py::arg("step"), py::arg("deterministic"), py::arg("threads"))
      .def("values", &PyLearner::values, py::arg("obs"), py::arg("threads"))
      .def("policy", &PyLearner::policy, py::arg("obs"), py::arg("threads"))
      .def("epoch", &PyLearner::epoch, py::arg("obs"), py::arg("order"), py::arg("columns"),
           py::arg("settings"), py::arg("step"))
      .def("collect", &PyLearner::collect, py::arg("env"), py::arg("arrays"), py::arg("seed"),
           py::arg("first_step"), py::arg("bounds"), py::arg("scale"), py::arg("threads"));
}

}  // namespace ppo
