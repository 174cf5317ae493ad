// _core.Learner: checks, keeps the arrays that it works on, releases the GIL.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <pybind11/stl.h>

#include "bind.h"
#include "distributions/cpu.h"
#include "envs/held_vector_env.h"
#include "learner/collect.h"
#include "learner/learner.h"
#include "support/arrays.h"
#include "surrogate/settings.h"

namespace ppo {
namespace {

using arrays::Array;
using arrays::Given;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

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

// An enumerator of `count`.
template <typename Enum>
Enum choice(const char* name, int value, int count) {
  if (value < 0 || value >= count) {
    refuse(name,
           "must be from 0 to " + std::to_string(count - 1) + ", got " + std::to_string(value));
  }
  return static_cast<Enum>(value);
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
    refuse("log_std", "must be 0 for discrete actions, and for no others");
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

int checked_threads(const char* function, int threads) {
  if (threads < 1) {
    Argument{function, "threads"}.value_error("must be positive, got " + std::to_string(threads));
  }
  return threads;
}

// A contiguous array of T with these axes; -1 stands for any length.
template <typename T>
Array contiguous(const char* function, const char* name, const py::handle& object,
                 std::initializer_list<py::ssize_t> shape) {
  const Argument argument{function, name};
  const Array array = argument.array(object);
  argument.require_dtype<T>(array, "the learner's");
  std::vector<py::ssize_t> wanted(shape);
  for (std::size_t k = 0; k < wanted.size(); ++k) {
    const py::ssize_t axis = static_cast<py::ssize_t>(k);
    if (wanted[k] < 0 && axis < array.ndim()) wanted[k] = array.shape(axis);
  }
  argument.require_shape(array, wanted, "");
  if (!array.is_contiguous()) argument.value_error("must be contiguous");
  return array;
}

template <typename T>
T* writable(const char* function, const char* name, const py::handle& object,
            std::initializer_list<py::ssize_t> shape) {
  const Array array = contiguous<T>(function, name, object, shape);
  Argument{function, name}.require_writable(array);
  return static_cast<T*>(array.mutable_data());
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
  PyLearner(const std::vector<PartTuple>& parts, int activation, int family, std::ptrdiff_t dims,
            std::ptrdiff_t components, std::vector<std::int64_t> sizes, int log_std,
            std::ptrdiff_t log_std_place, float first_log_std, std::uint64_t sample_freq)
      : learner_(make_learner(
            parts_of(parts), choice<Activation>("activation", activation, 4),
            {choice<Family>("family", family, 4), dims, components, std::move(sizes),
             choice<LogStd>("log_std", log_std, 4), log_std_place, first_log_std, sample_freq})) {}

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

  // Passes over `order`, one for each row of it. columns: (actions, logp, advantages, returns, old_values, old_first,
  // old_log_std), of which the last three may be None. step: (minibatch_size, learning_rate,
  // max_grad_norm, stop_kl, stop_on, steps_taken, threads), where None is no limit. Returns (stats, steps of
  // Adam, stopped, failure), failure being "" or what the last minibatch failed in.
  py::tuple epoch(const py::array& obs, const py::array& order, const py::tuple& columns,
                  const py::tuple& settings, const py::tuple& given_step) {
    const char* f = "epoch";
    const InUse in_use(*this);
    const Array rows = observations(f, obs);
    require_length(f, "columns", columns, 7);
    require_length(f, "settings", settings, kLossSettings);
    require_length(f, "step", given_step, 7);
    const std::vector<Given> step = arrays::all(given_step);
    const std::ptrdiff_t size = rows.shape(0);
    const std::ptrdiff_t components = learner_.policy().components;
    const std::ptrdiff_t dims = learner_.policy().dims;
    const auto column = [&](std::size_t k, const char* name) -> const float* {
      if (columns[k].is_none()) return nullptr;
      return static_cast<const float*>(contiguous<float>(f, name, columns[k], {size}).data());
    };
    SampleArrays samples;
    samples.obs = static_cast<const float*>(rows.data());
    if (learner_.policy().is_discrete()) {
      samples.actions.discrete = {read_actions<std::int64_t>(f, columns[0], size * components),
                                  components, 1};
    } else {
      samples.actions.continuous = {read_actions<float>(f, columns[0], size * components),
                                    components, 1};
    }
    const auto required = [&](std::size_t k, const char* name) {
      if (columns[k].is_none()) Argument{f, name}.value_error("is missing");
      return column(k, name);
    };
    samples.logp = required(1, "logp");
    samples.advantages = required(2, "advantages");
    samples.returns = required(3, "returns");
    samples.old_values = column(4, "old_values");
    if (!columns[5].is_none()) {
      samples.old_first = static_cast<const float*>(
          contiguous<float>(f, "old policy", columns[5], {size, dims}).data());
    }
    if (!columns[6].is_none()) {
      const Array log_std = learner_.policy().log_std == LogStd::kParameter
                                ? contiguous<float>(f, "old log_std", columns[6], {dims})
                                : contiguous<float>(f, "old log_std", columns[6], {size, dims});
      samples.old_log_std = static_cast<const float*>(log_std.data());
    }

    EpochSettings chosen;
    read_settings(f, settings, chosen.loss);
    const auto number = [&](std::size_t k, const char* name) {
      return step[k].is_none() ? kInfinity : Argument{f, name}.number(step[k]);
    };
    if (std::isfinite(chosen.loss.clip_range_values) && samples.old_values == nullptr) {
      Argument{f, "old_values"}.value_error("is missing; clip_range_values needs it");
    }
    const bool has_old = samples.old_first != nullptr &&
                         (learner_.policy().is_discrete() || samples.old_log_std != nullptr);
    if ((chosen.loss.kl_coef != 0 || chosen.loss.kl_hinge != 0) && !has_old) {
      Argument{f, "old policy"}.value_error("is missing; the KL penalty needs it");
    }
    if (!has_old) samples.old_first = nullptr;
    chosen.minibatch = Argument{f, "minibatch_size"}.integer(step[0]);
    chosen.learning_rate = number(1, "learning_rate");
    chosen.max_grad_norm = number(2, "max_grad_norm");
    chosen.stop_kl = number(3, "stop_kl");
    chosen.stop_on = static_cast<int>(Argument{f, "stop_on"}.integer(step[4]));
    if (chosen.stop_on < 0 || chosen.stop_on >= kNumLossStats) {
      Argument{f, "stop_on"}.value_error("must be the place of a statistic");
    }
    chosen.steps_taken = number(5, "steps_taken");
    chosen.threads = checked_threads(f, step[6].object().cast<int>());
    chosen.at_step = SignalCheck();

    const Array order_array = read_order(f, order);
    const std::ptrdiff_t epochs = order_array.ndim() == 2 ? order_array.shape(0) : 1;
    const std::ptrdiff_t count = order_array.shape(order_array.ndim() - 1);
    const auto* indices = static_cast<const std::int64_t*>(order_array.data());
    if (chosen.minibatch < 1) Argument{f, "minibatch_size"}.value_error("must be positive");
    for (std::ptrdiff_t i = 0; i < epochs * count; ++i) {
      if (indices[i] >= 0 && indices[i] < size) continue;
      Argument{f, "order"}.value_error("must be within the samples, got " +
                                       std::to_string(indices[i]));
    }
    chosen.minibatch = std::min(chosen.minibatch, std::max<std::ptrdiff_t>(count, 1));
    const std::ptrdiff_t most = epochs * ((count + chosen.minibatch - 1) / chosen.minibatch);
    py::array_t<double> stats(std::vector<py::ssize_t>{most, kNumLossStats});
    double* out = stats.mutable_data();
    EpochOutcome outcome;
    {
      const py::gil_scoped_release release;
      for (std::ptrdiff_t e = 0; e < epochs; ++e) {
        const EpochOutcome one = learner_.epoch(samples, indices + e * count, count, chosen,
                                                out + outcome.minibatches * kNumLossStats);
        const std::ptrdiff_t minibatches = outcome.minibatches + one.minibatches;
        const std::ptrdiff_t steps = outcome.steps + one.steps;
        outcome = one;
        outcome.minibatches = minibatches;
        outcome.steps = steps;
        if (one.stopped || one.failure != EpochOutcome::kNone) break;
        chosen.steps_taken += static_cast<double>(one.steps);
      }
    }
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

  // Indices [S], or [E, S].
  static Array read_order(const char* function, const py::array& order) {
    if (order.ndim() == 2) return contiguous<std::int64_t>(function, "order", order, {-1, -1});
    return contiguous<std::int64_t>(function, "order", order, {-1});
  }

  static void require_length(const char* function, const char* name, const py::tuple& tuple,
                             std::size_t length) {
    if (tuple.size() == length) return;
    Argument{function, name}.value_error("must have " + std::to_string(length) + " elements, got " +
                                         std::to_string(tuple.size()));
  }

  static void copy_rows(const View2<const float>& from, std::ptrdiff_t rows, std::ptrdiff_t columns,
                        float* to) {
    for (std::ptrdiff_t i = 0; i < rows; ++i) {
      for (std::ptrdiff_t k = 0; k < columns; ++k) to[i * columns + k] = from(i, k);
    }
  }

  // Actions: a contiguous array of so many T, whatever its axes.
  template <typename T>
  static Array action_array(const char* function, const py::handle& object, std::ptrdiff_t size) {
    const Argument argument{function, "actions"};
    const Array array = argument.array(object);
    argument.require_dtype<T>(array, "the learner's");
    if (array.size() != size || !array.is_contiguous()) {
      argument.value_error("must be contiguous with " + std::to_string(size) + " elements, got " +
                           arrays::shape_text(array));
    }
    return array;
  }
  template <typename T>
  static const T* read_actions(const char* function, const py::handle& object,
                               std::ptrdiff_t size) {
    return static_cast<const T*>(action_array<T>(function, object, size).data());
  }
  template <typename T>
  static T* writable_actions(const char* function, const py::handle& object, std::ptrdiff_t size) {
    const Array array = action_array<T>(function, object, size);
    Argument{function, "actions"}.require_writable(array);
    return static_cast<T*>(array.mutable_data());
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
  py::class_<PyLearner>(m, "Learner")
      .def(py::init<const std::vector<PartTuple>&, int, int, std::ptrdiff_t, std::ptrdiff_t,
                    std::vector<std::int64_t>, int, std::ptrdiff_t, float, std::uint64_t>(),
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
