// _core.loss.
#include <cmath>
#include <limits>
#include <optional>

#include "bind.h"
#include "distributions/arguments.h"
#include "surrogate/cpu.h"
#include "surrogate/settings.h"

namespace ppo {
namespace {

// The arguments of a call, as Python passes them; whatever may be left out is None.
struct Arguments {
  const char* function;
  py::tuple settings;
  py::object first, log_std, values, kl, dist_mask, actions, old_first, old_log_std, old_mask;
  py::object old_logp, advantages, returns, old_values, weights, mask;

  // The order of both tuples is that of ppo_fast.surrogate.
  Arguments(const char* name, const py::tuple& arrays, const py::tuple& all_settings)
      : function(name), settings(all_settings) {
    std::size_t i = 0;
    for (py::object* array :
         {&first, &log_std, &values, &kl, &dist_mask, &actions, &old_first, &old_log_std, &old_mask,
          &old_logp, &advantages, &returns, &old_values, &weights, &mask}) {
      *array = arrays[i++];
    }
  }
};
constexpr std::size_t kArrays = 15;

template <typename T>
void read_columns(const Arguments& from, const char* like, LossCall<T>& call) {
  const auto column = [&](const char* name, const py::object& object) {
    return read_column<T>(from.function, name, object, call.batch, like);
  };
  const auto optional = [&](const char* name, const py::object& object) {
    return object.is_none() ? View1<const T>{} : column(name, object);
  };
  const auto missing = [&](const char* name, const char* why) {
    Argument{from.function, name}.value_error(std::string("is missing; ") + why);
  };
  if (call.objective == Objective::kPolicyGradient) {
    call.old_logp = optional("old_logp", from.old_logp);
  } else {
    call.old_logp = column("old_logp", from.old_logp);
  }
  call.advantages = column("advantages", from.advantages);
  if (from.values.is_none() != from.returns.is_none()) {
    missing(from.values.is_none() ? "values" : "returns",
            "the value loss needs values and returns; pass both, or neither for the policy alone");
  }
  call.values = optional("values", from.values);
  call.returns = optional("returns", from.returns);
  call.old_values = optional("old_values", from.old_values);
  if (std::isfinite(call.clip_range_values) && from.old_values.is_none()) {
    missing("old_values", "clip_range_values limits how far values move from there");
  }
  call.weights = optional("weights", from.weights);
  if (!from.mask.is_none()) {
    const Argument argument{from.function, "mask"};
    const py::array array = argument.array(from.mask);
    argument.require_bool(array);
    argument.require_shape(array, {call.batch}, "(one per sample)");
    call.mask = argument.view1<bool>(array);
  }
}

[[noreturn]] void refuse(const Arguments& from, const DistributionArgument* dist,
                         const DistributionArgument* old, const Problem& problem) {
  switch (problem.kind) {
    case Problem::kParameters:
      refuse_parameters(*dist, problem.row);
    case Problem::kOldParameters:
      refuse_parameters(*old, problem.row);
    case Problem::kAction:
      refuse_action(*dist, from.actions, problem.row);
    case Problem::kWeight:
      Argument{from.function, "weights"}.value_error(
          "must be finite and not negative, got " +
          py::str(from.weights[py::int_(problem.row)]).cast<std::string>() + " for sample " +
          std::to_string(problem.row));
    default: {
      const bool by_mask = !from.mask.is_none();
      Argument{from.function, by_mask ? "mask" : "weights"}.value_error(
          "leaves no sample; at least one must count");
    }
  }
}

template <typename T>
py::list run(const Arguments& from, const DistributionArgument* dist,
             const DistributionArgument* old, const py::array& first) {
  LossCall<T> call;
  call.batch = first.shape(0);
  const std::string like = dist ? dist->first_name() : "logp";
  read_settings(from.function, from.settings, call);
  std::vector<py::ssize_t> first_shape = {call.batch};
  if (dist) {
    call.policy.dist = dist->view<T>();
    call.policy.actions = read_actions<T>(*dist, from.actions);
    first_shape.push_back(dist->dims());
  } else {
    call.policy.logp = Argument{from.function, "logp"}.view1<T>(first);
  }
  read_columns(from, like.c_str(), call);
  if (old) call.old = old->view<T>();
  if (!from.kl.is_none()) {
    call.kl = read_column<T>(from.function, "kl", from.kl, call.batch, like.c_str());
  }

  if ((call.kl_coef != 0 || call.kl_hinge != 0) && !old && !call.kl.data) {
    Argument{from.function, dist ? "old_dist" : "kl"}.value_error(
        "is missing; the KL penalty needs it");
  }

  const auto output = [](bool wanted, const std::vector<py::ssize_t>& shape, T*& data) {
    if (!wanted) return py::object(py::none());
    py::array_t<T> array(shape);
    data = array.mutable_data();
    return py::object(array);
  };
  const bool has_second = dist && dist->has_second();
  const bool shares = call.policy.dist.shares_second;
  const py::object first_gradient = output(true, first_shape, call.policy.first_gradient);
  const py::object second_gradient =
      output(has_second, shares ? std::vector<py::ssize_t>{call.policy.dist.dims} : first_shape,
             call.policy.second_gradient);
  const py::object values_gradient =
      output(call.values.data != nullptr, {call.batch}, call.values_gradient);
  const py::object kl_gradient = output(call.kl.data != nullptr, {call.batch}, call.kl_gradient);
  py::array_t<double> stats(static_cast<py::ssize_t>(kNumLossStats));
  call.stats = stats.mutable_data();
  double loss = 0;
  call.loss = &loss;
  Problem problem;
  {
    const arrays::ReleaseGil release(first.size() >= kReleaseFrom);
    const ScratchMemory scratch(scratch_bytes(call.policy.dist) + scratch_bytes(call.old));
    call.scratch = scratch.get();
    if constexpr (std::is_same_v<T, float>) {
      problem = PPO_SELECT_ISA(surrogate_kernels).loss_float(call);
    } else {
      problem = PPO_SELECT_ISA(surrogate_kernels).loss_double(call);
    }
  }
  if (problem.kind != Problem::kNone) refuse(from, dist, old, problem);
  py::array_t<T> rounded((std::vector<py::ssize_t>()));
  *rounded.mutable_data() = static_cast<T>(loss);
  py::list results;
  results.append(rounded);
  results.append(stats);
  for (const py::object& gradient :
       {first_gradient, second_gradient, values_gradient, kl_gradient}) {
    if (!gradient.is_none()) results.append(gradient);
  }
  return results;
}

py::list loss_of_distribution(const Arguments& from, int family, const py::object& nvec,
                              const py::object& old_nvec) {
  const DistributionArgument dist(
      from.function, "", py::make_tuple(family, from.first, from.log_std, from.dist_mask, nvec));
  if (dist.batch() < 1) {
    const std::string name = dist.first_name();
    Argument{from.function, name.c_str()}.value_error("must have at least one sample, got " +
                                                      arrays::shape_text(dist.first));
  }
  std::optional<DistributionArgument> old;
  if (!from.old_first.is_none()) {
    old.emplace(from.function, "old_dist.",
                py::make_tuple(family, from.old_first, from.old_log_std, from.old_mask, old_nvec));
    require_same_form(*old, dist);
  }
  const auto chosen = dist.float32 ? &run<float> : &run<double>;
  return chosen(from, &dist, old ? &*old : nullptr, dist.first);
}

py::list loss_of_logp(const Arguments& from) {
  const Argument argument{from.function, "logp"};
  const py::array logp = argument.array(from.first);
  const bool float32 = argument.is_float32(logp);
  if (logp.ndim() != 1 || logp.shape(0) < 1) {
    argument.value_error("must have shape (B,) with at least one sample, got " +
                         arrays::shape_text(logp));
  }
  return (float32 ? &run<float> : &run<double>)(from, nullptr, nullptr, logp);
}

// `form` is (family, nvec, old_nvec), with family -1 for a policy that is known by its log-probabilities.
// Returns the loss as an array of no dimensions, the stats, and the gradients with respect to those of the
// first four arrays that are given.
py::list loss(const char* function, const py::tuple& form, const py::tuple& arrays,
              const py::tuple& settings) {
  if (form.size() != 3 || arrays.size() != kArrays || settings.size() != kLossSettings) {
    throw py::type_error("loss: takes a form of 3, 15 arrays and 11 settings");
  }
  const Arguments from(function, arrays, settings);
  const int family = form[0].cast<int>();
  return family < 0 ? loss_of_logp(from) : loss_of_distribution(from, family, form[1], form[2]);
}

}  // namespace

void bind_surrogate(py::module_& m) {
  m.attr("LOSS_STATS") =
      py::make_tuple("policy_loss", "value_loss", "entropy", "approx_kl", "approx_kl_k1",
                     "clip_fraction", "ratio_mean", "ratio_max", "effective_sample_size",
                     "limited_fraction", "explained_variance", "kl");
  m.def("loss", &loss, py::arg("function"), py::arg("form"), py::arg("arrays"),
        py::arg("settings"));
}

}  // namespace ppo
