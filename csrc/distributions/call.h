// The arguments of a distribution's functions on their way from Python into the kernels of either device.
#pragma once

#include <string>
#include <vector>

#include "distributions/arguments.h"
#include "distributions/cpu.h"

namespace ppo {

template <typename T>
MutableActions<T> read_output_actions(const DistributionArgument& dist, const Given& given) {
  const Argument argument{dist.function, "actions"};
  const Array& array = argument.array(given);
  argument.require_writable(array);
  MutableActions<T> actions;
  if (dist.has_discrete_actions()) {
    argument.require_output_dtype<std::int64_t>(array, "Gymnasium's Discrete");
  } else {
    argument.require_output_dtype<T>(array, "mean");
  }
  if (dist.one_action()) {
    argument.require_shape(array, {dist.batch()}, "(one per row of logits)");
    const auto view = argument.mutable_view1<std::int64_t>(array);
    actions.discrete = {view.data, view.stride, 0};
    return actions;
  }
  argument.require_shape(array, {dist.batch(), dist.components()}, "(one row per sample)");
  if (dist.has_discrete_actions()) {
    actions.discrete = argument.mutable_view2<std::int64_t>(array);
  } else {
    actions.continuous = argument.mutable_view2<T>(array);
  }
  return actions;
}

template <typename T>
View1<T> read_output_column(const DistributionArgument& dist, const char* name,
                            const Given& given) {
  const Argument argument{dist.function, name};
  const Array& array = argument.array(given);
  const std::string like = dist.first_name();
  argument.require_output_dtype<T>(array, like.c_str());
  argument.require_shape(array, {dist.batch()}, "(one per row of logits)");
  return argument.mutable_view1<T>(array);
}

// noise: latent [B, L], log_std [L, D] and sample_freq, or nothing.
template <typename T>
StateNoise<T> read_noise(const DistributionArgument& dist, const std::vector<Given>& parts) {
  StateNoise<T> noise;
  if (parts.empty()) return noise;
  const Argument latent_argument{dist.function, "latent"};
  const Array& latent = latent_argument.array(parts[0]);
  latent_argument.require_dtype<T>(latent, "mean");
  if (latent.ndim() != 2 || latent.shape(0) != dist.batch()) {
    latent_argument.value_error("must have shape (" + std::to_string(dist.batch()) + ", L), got " +
                                arrays::shape_text(latent));
  }
  const Argument std_argument{dist.function, "log_std"};
  const Array& log_std = std_argument.array(parts[1]);
  std_argument.require_dtype<T>(log_std, "mean");
  std_argument.require_shape(log_std, {latent.shape(1), dist.dims()}, "like latent and mean");
  noise.size = latent.shape(1);
  noise.latent = latent_argument.view2<T>(latent);
  noise.log_std = std_argument.view2<T>(log_std);
  noise.sample_freq = parts[2].object().cast<std::uint64_t>();
  return noise;
}

// Where draws go: arrays that the caller gave, entropy being optional, or new ones where all are None.
struct SampleResults {
  Given actions;
  Given logp;
  Given entropy;

  py::tuple objects() const {
    return py::make_tuple(actions.object(), logp.object(), entropy.object());
  }

  // made(T(), shape) is an array of T.
  template <typename T, typename Made>
  void complete(const DistributionArgument& dist, const Made& made) {
    if (!actions.is_none()) return;
    if (!logp.is_none() || !entropy.is_none()) {
      Argument{dist.function, "actions"}.type_error("is missing, got None");
    }
    const std::vector<py::ssize_t> column = {dist.batch()};
    const std::vector<py::ssize_t> rows = {dist.batch(), dist.components()};
    const auto& shape = dist.one_action() ? column : rows;
    actions = dist.has_discrete_actions() ? made(std::int64_t(), shape) : made(T(), shape);
    logp = made(T(), column);
    entropy = made(T(), column);
  }
};

// Without seed, step and such.
template <typename T, typename Made>
SampleCall<T> read_sample(const DistributionArgument& dist, const std::vector<Given>& noise,
                          SampleResults& results, const Made& made) {
  SampleCall<T> call;
  call.dist = dist.view<T>();
  call.noise = read_noise<T>(dist, noise);
  results.complete<T>(dist, made);
  call.actions = read_output_actions<T>(dist, results.actions);
  call.logp = read_output_column<T>(dist, "logp", results.logp);
  if (!results.entropy.is_none()) {
    call.entropy = read_output_column<T>(dist, "entropy", results.entropy);
  }
  return call;
}

template <typename T>
BackwardCall<T> read_evaluate_backward(const DistributionArgument& dist, const Given& actions,
                                       const Given& w_logp, const Given& w_entropy) {
  BackwardCall<T> call;
  call.dist = dist.view<T>();
  call.actions = read_actions<T>(dist, actions);
  const std::string like = dist.first_name();
  call.w_logp = read_column<T>(dist.function, "logp_gradient", w_logp, dist.batch(), like.c_str());
  call.w_entropy =
      read_column<T>(dist.function, "entropy_gradient", w_entropy, dist.batch(), like.c_str());
  return call;
}

template <typename T>
BackwardCall<T> read_kl_backward(const DistributionArgument& old, const DistributionArgument& dist,
                                 const Given& weight) {
  BackwardCall<T> call;
  call.dist = dist.view<T>();
  call.old = old.view<T>();
  call.w_kl = read_column<T>(dist.function, "gradient", weight, dist.batch(), "logits");
  return call;
}

// Python's functions, of the same arguments for either device.
template <typename Sample, typename Evaluate, typename EvaluateBackward, typename Kl,
          typename KlBackward>
void define_functions(py::module_& m, Sample sample, Evaluate evaluate,
                      EvaluateBackward evaluate_backward, Kl kl, KlBackward kl_backward) {
  m.def("sample", sample, py::arg("dist"), py::arg("noise"), py::arg("seed"), py::arg("first_id"),
        py::arg("step"), py::arg("deterministic"), py::arg("actions"), py::arg("logp"),
        py::arg("entropy"));
  m.def("evaluate", evaluate, py::arg("dist"), py::arg("actions"));
  m.def("evaluate_backward", evaluate_backward, py::arg("dist"), py::arg("actions"),
        py::arg("logp_gradient"), py::arg("entropy_gradient"));
  m.def("kl", kl, py::arg("old"), py::arg("dist"));
  m.def("kl_backward", kl_backward, py::arg("old"), py::arg("dist"), py::arg("gradient"));
}

}  // namespace ppo
