// _core.loss.
#include <cmath>
#include <limits>
#include <optional>

#include "bind.h"
#include "distributions/arguments.h"
#include "surrogate/cpu.h"

namespace ppo {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The arguments of a call, as Python passes them. `policy` is the tuple of a distribution, or an array of
// log-probabilities; whatever may be left out is None.
struct Arguments {
  const char* function;
  py::object policy, actions, old, old_logp, advantages, kl, values, returns, old_values;
  py::object weights, mask;
  std::string objective;
  py::object clip_range, clip_range_high, dual_clip, clip_range_values;
  py::object kl_coef, kl_hinge, kl_hinge_from, entropy_coef, value_coef;
  py::object normalize_advantages;
};

// A number above `least`, or infinity for None.
double limit(const Argument& argument, const py::object& object, double least,
             const char* condition) {
  if (object.is_none()) return kInfinity;
  const double value = argument.number(object);
  if (!(value > least)) {
    argument.value_error(std::string("must be ") + condition + ", got " +
                         py::repr(object).cast<std::string>());
  }
  return value;
}

double coefficient(const Argument& argument, const py::object& object) {
  const double value = argument.number(object);
  if (!std::isfinite(value)) {
    argument.value_error("must be finite, got " + py::repr(object).cast<std::string>());
  }
  return value;
}

template <typename T>
void read_settings(const Arguments& from, LossCall<T>& call) {
  const auto named = [&](const char* name) { return Argument{from.function, name}; };
  const double low = limit(named("clip_range"), from.clip_range, 0, "positive");
  const double high = from.clip_range_high.is_none()
                          ? low
                          : limit(named("clip_range_high"), from.clip_range_high, 0, "positive");
  if (from.objective == "policy_gradient") {
    call.objective = Objective::kPolicyGradient;
  } else if (from.objective != "importance" && from.objective != "clipped") {
    named("objective")
        .value_error("must be policy_gradient, importance or clipped, got " + from.objective);
  }
  const bool clips = from.objective == "clipped";
  if (clips && from.clip_range.is_none()) {
    named("clip_range").value_error("is missing; the clipped objective needs it");
  }
  call.ratio_low = clips ? 1.0 - low : -kInfinity;
  call.ratio_high = clips ? 1.0 + high : kInfinity;
  call.dual_clip = limit(named("dual_clip"), from.dual_clip, 1, "above 1");
  if (!clips && (!from.clip_range_high.is_none() || !from.dual_clip.is_none())) {
    const bool is_high = !from.clip_range_high.is_none();
    named(is_high ? "clip_range_high" : "dual_clip")
        .value_error("has no meaning without the clipped objective; pass clip_range");
  }
  call.clip_range_values = limit(named("clip_range_values"), from.clip_range_values, 0, "positive");
  call.kl_coef = coefficient(named("kl_coef"), from.kl_coef);
  call.kl_hinge = coefficient(named("kl_hinge"), from.kl_hinge);
  call.kl_hinge_from = coefficient(named("kl_hinge_from"), from.kl_hinge_from);
  call.entropy_coef = coefficient(named("entropy_coef"), from.entropy_coef);
  call.value_coef = coefficient(named("value_coef"), from.value_coef);
  call.normalize_advantages = named("normalize_advantages").boolean(from.normalize_advantages);
}

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
py::tuple run(const Arguments& from, const DistributionArgument* dist,
              const DistributionArgument* old, const py::array& first) {
  LossCall<T> call;
  call.batch = first.shape(0);
  const std::string like = dist ? dist->first_name() : "logp";
  read_settings(from, call);
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
  return py::make_tuple(rounded, first_gradient, second_gradient, values_gradient, kl_gradient,
                        stats);
}

py::tuple loss_of_distribution(const Arguments& from) {
  const DistributionArgument dist(from.function, "", from.policy);
  if (dist.batch() < 1) {
    const std::string name = dist.first_name();
    Argument{from.function, name.c_str()}.value_error("must have at least one sample, got " +
                                                      arrays::shape_text(dist.first));
  }
  std::optional<DistributionArgument> old;
  if (!from.old.is_none()) {
    old.emplace(from.function, "old_dist.", from.old);
    require_same_form(*old, dist);
  }
  const auto chosen = dist.float32 ? &run<float> : &run<double>;
  return chosen(from, &dist, old ? &*old : nullptr, dist.first);
}

py::tuple loss_of_logp(const Arguments& from) {
  const Argument argument{from.function, "logp"};
  const py::array logp = argument.array(from.policy);
  const bool float32 = argument.is_float32(logp);
  if (logp.ndim() != 1 || logp.shape(0) < 1) {
    argument.value_error("must have shape (B,) with at least one sample, got " +
                         arrays::shape_text(logp));
  }
  return (float32 ? &run<float> : &run<double>)(from, nullptr, nullptr, logp);
}

// (loss as an array of no dimensions, its gradients with respect to the first parameter or logp, to the
// second, values and kl, each None where there is none, and the stats)
py::tuple loss(const char* function, py::object policy, py::object actions, py::object old_dist,
               py::object old_logp, py::object advantages, py::object kl, py::object values,
               py::object returns, py::object old_values, py::object weights, py::object mask,
               std::string objective, py::object clip_range, py::object clip_range_high,
               py::object dual_clip, py::object clip_range_values, py::object kl_coef,
               py::object kl_hinge, py::object kl_hinge_from, py::object entropy_coef,
               py::object value_coef, py::object normalize_advantages) {
  const Arguments from = {function,
                          policy,
                          actions,
                          old_dist,
                          old_logp,
                          advantages,
                          kl,
                          values,
                          returns,
                          old_values,
                          weights,
                          mask,
                          objective,
                          clip_range,
                          clip_range_high,
                          dual_clip,
                          clip_range_values,
                          kl_coef,
                          kl_hinge,
                          kl_hinge_from,
                          entropy_coef,
                          value_coef,
                          normalize_advantages};
  return py::isinstance<py::tuple>(policy) ? loss_of_distribution(from) : loss_of_logp(from);
}

}  // namespace

void bind_surrogate(py::module_& m) {
  m.attr("LOSS_STATS") =
      py::make_tuple("policy_loss", "value_loss", "entropy", "approx_kl", "approx_kl_k1",
                     "clip_fraction", "ratio_mean", "ratio_max", "effective_sample_size",
                     "limited_fraction", "explained_variance", "kl");
  m.def("loss", &loss, py::arg("function"), py::arg("policy"), py::arg("actions"),
        py::arg("old_dist"), py::arg("old_logp"), py::arg("advantages"), py::arg("kl"),
        py::arg("values"), py::arg("returns"), py::arg("old_values"), py::arg("weights"),
        py::arg("mask"), py::arg("objective"), py::arg("clip_range"), py::arg("clip_range_high"),
        py::arg("dual_clip"), py::arg("clip_range_values"), py::arg("kl_coef"), py::arg("kl_hinge"),
        py::arg("kl_hinge_from"), py::arg("entropy_coef"), py::arg("value_coef"),
        py::arg("normalize_advantages"));
}

}  // namespace ppo
