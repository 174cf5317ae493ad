// Python arguments of _core.Learner on their way into the engine.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>
#include <vector>

#include "learner/learner.h"
#include "support/arrays.h"
#include "surrogate/settings.h"

namespace ppo {

namespace py = pybind11;
using arrays::Argument;
using arrays::Array;
using arrays::Given;

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

// Actions: a contiguous array of so many T, whatever its axes.
template <typename T>
Array action_array(const char* function, const py::handle& object, std::ptrdiff_t size) {
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
const T* readable_actions(const char* function, const py::handle& object, std::ptrdiff_t size) {
  return static_cast<const T*>(action_array<T>(function, object, size).data());
}
template <typename T>
T* writable_actions(const char* function, const py::handle& object, std::ptrdiff_t size) {
  const Array array = action_array<T>(function, object, size);
  Argument{function, "actions"}.require_writable(array);
  return static_cast<T*>(array.mutable_data());
}

inline void require_length(const char* function, const char* name, const py::tuple& tuple,
                           std::size_t length) {
  if (tuple.size() == length) return;
  Argument{function, name}.value_error("must have " + std::to_string(length) + " elements, got " +
                                       std::to_string(tuple.size()));
}

inline int checked_threads(const char* function, int threads) {
  if (threads < 1) {
    Argument{function, "threads"}.value_error("must be positive, got " + std::to_string(threads));
  }
  return threads;
}

// Of `epoch`, from here on.

inline constexpr const char* kEpoch = "epoch";

// What it learns from besides observations: EpochColumns of ppo_fast.learners.native. Some may be None.
struct EpochColumns {
  Given actions, logp, advantages, returns, old_values, old_first, old_log_std;

  explicit EpochColumns(const py::tuple& given) {
    require_length(kEpoch, "columns", given, 7);
    std::size_t i = 0;
    for (Given* column :
         {&actions, &logp, &advantages, &returns, &old_values, &old_first, &old_log_std}) {
      *column = Given(given[i++]);
    }
  }
};

// How it steps: EpochStep of ppo_fast.learners.native. None is no limit.
struct EpochStep {
  Given minibatch_size, learning_rate, max_grad_norm, stop_kl, stop_on, steps_taken, threads;

  explicit EpochStep(const py::tuple& given) {
    require_length(kEpoch, "step", given, 7);
    std::size_t i = 0;
    for (Given* item : {&minibatch_size, &learning_rate, &max_grad_norm, &stop_kl, &stop_on,
                        &steps_taken, &threads}) {
      *item = Given(given[i++]);
    }
  }
};

// obs: [S, inputs].
inline SampleArrays read_samples(const PolicyForm& policy, const Array& obs,
                                 const EpochColumns& columns) {
  const py::ssize_t size = obs.shape(0);
  const auto array = [](const char* name, const Given& given,
                        std::initializer_list<py::ssize_t> shape) {
    return static_cast<const float*>(contiguous<float>(kEpoch, name, given.object(), shape).data());
  };
  const auto required = [&](const char* name, const Given& given) {
    if (given.is_none()) Argument{kEpoch, name}.value_error("is missing");
    return array(name, given, {size});
  };
  SampleArrays samples;
  samples.obs = static_cast<const float*>(obs.data());
  const std::ptrdiff_t actions = size * policy.components;
  const py::object& given_actions = columns.actions.object();
  if (policy.is_discrete()) {
    samples.actions.discrete = {readable_actions<std::int64_t>(kEpoch, given_actions, actions),
                                policy.components, 1};
  } else {
    samples.actions.continuous = {readable_actions<float>(kEpoch, given_actions, actions),
                                  policy.components, 1};
  }
  samples.logp = required("logp", columns.logp);
  samples.advantages = required("advantages", columns.advantages);
  samples.returns = required("returns", columns.returns);
  if (!columns.old_values.is_none()) {
    samples.old_values = array("old_values", columns.old_values, {size});
  }
  if (!columns.old_first.is_none()) {
    samples.old_first = array("old policy", columns.old_first, {size, policy.dims});
  }
  if (!columns.old_log_std.is_none()) {
    samples.old_log_std = policy.log_std == LogStd::kParameter
                              ? array("old log_std", columns.old_log_std, {policy.dims})
                              : array("old log_std", columns.old_log_std, {size, policy.dims});
  }
  const bool has_old = policy.is_discrete() || samples.old_log_std != nullptr;
  if (!has_old) samples.old_first = nullptr;
  return samples;
}

// loss: those of ppo_fast.surrogate.loss_settings.
inline EpochSettings read_epoch_settings(const py::tuple& loss, const EpochStep& step) {
  const auto number = [](const char* name, const Given& given) {
    return given.is_none() ? std::numeric_limits<double>::infinity()
                           : Argument{kEpoch, name}.number(given);
  };
  EpochSettings settings;
  require_length(kEpoch, "settings", loss, kLossSettings);
  read_settings(kEpoch, loss, settings.loss);
  settings.minibatch = Argument{kEpoch, "minibatch_size"}.integer(step.minibatch_size);
  if (settings.minibatch < 1) Argument{kEpoch, "minibatch_size"}.value_error("must be positive");
  settings.learning_rate = number("learning_rate", step.learning_rate);
  settings.max_grad_norm = number("max_grad_norm", step.max_grad_norm);
  settings.stop_kl = number("stop_kl", step.stop_kl);
  settings.stop_on = static_cast<int>(Argument{kEpoch, "stop_on"}.integer(step.stop_on));
  if (settings.stop_on < 0 || settings.stop_on >= kNumLossStats) {
    Argument{kEpoch, "stop_on"}.value_error("must be the place of a statistic");
  }
  settings.steps_taken = number("steps_taken", step.steps_taken);
  settings.threads = checked_threads(kEpoch, step.threads.object().cast<int>());
  return settings;
}

inline void require_what_the_loss_needs(const LossCall<float>& loss, const SampleArrays& samples) {
  if (std::isfinite(loss.clip_range_values) && samples.old_values == nullptr) {
    Argument{kEpoch, "old_values"}.value_error("is missing; clip_range_values needs it");
  }
  if ((loss.kl_coef != 0 || loss.kl_hinge != 0) && samples.old_first == nullptr) {
    Argument{kEpoch, "old policy"}.value_error("is missing; the KL penalty needs it");
  }
}

// Places of samples in the order of passes over them: [E, count].
struct EpochOrder {
  const std::int64_t* indices;
  std::ptrdiff_t epochs;
  std::ptrdiff_t count;
};

// order: [count] of one pass, or [E, count]; places below `size`.
inline EpochOrder read_order(const py::array& order, std::ptrdiff_t size) {
  const bool has_passes = order.ndim() == 2;
  const Array array = has_passes ? contiguous<std::int64_t>(kEpoch, "order", order, {-1, -1})
                                 : contiguous<std::int64_t>(kEpoch, "order", order, {-1});
  const EpochOrder passes = {static_cast<const std::int64_t*>(array.data()),
                             has_passes ? array.shape(0) : 1, array.shape(array.ndim() - 1)};
  for (std::ptrdiff_t i = 0; i < passes.epochs * passes.count; ++i) {
    if (passes.indices[i] >= 0 && passes.indices[i] < size) continue;
    Argument{kEpoch, "order"}.value_error("must be within the samples, got " +
                                          std::to_string(passes.indices[i]));
  }
  return passes;
}

}  // namespace ppo
