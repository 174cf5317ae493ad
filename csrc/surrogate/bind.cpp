// _core.loss.
#include "bind.h"
#include "surrogate/call.h"

namespace ppo {
namespace {

[[noreturn]] void refuse(const LossArguments& from, const LossPolicy& policy,
                         const Problem& problem) {
  switch (problem.kind) {
    case Problem::kParameters:
      refuse_parameters(*policy.dist, problem.row);
    case Problem::kOldParameters:
      refuse_parameters(*policy.old, problem.row);
    case Problem::kAction:
      refuse_action(*policy.dist, from.actions, problem.row);
    case Problem::kWeight:
      Argument{from.function, "weights"}.value_error(
          "must be finite and not negative, got " +
          py::str(from.weights.object()[py::int_(problem.row)]).cast<std::string>() +
          " for sample " + std::to_string(problem.row));
    default: {
      const bool by_mask = !from.mask.is_none();
      Argument{from.function, by_mask ? "mask" : "weights"}.value_error(
          "leaves no sample; at least one must count");
    }
  }
}

template <typename T>
py::list run(const LossArguments& from, const LossPolicy& policy) {
  LossCall<T> call = read_call<T>(from, policy);
  const std::vector<py::ssize_t> first_shape = policy.first.shape();
  const auto output = [](bool wanted, const std::vector<py::ssize_t>& shape, T*& data) {
    if (!wanted) return py::object(py::none());
    py::array_t<T> array(shape);
    data = array.mutable_data();
    return py::object(array);
  };
  const bool has_second = policy.dist && policy.dist->has_second();
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
    const arrays::ReleaseGil release(policy.first.size() >= kReleaseFrom);
    const ScratchMemory scratch(scratch_bytes(call.policy.dist) + scratch_bytes(call.old));
    call.scratch = scratch.get();
    if constexpr (std::is_same_v<T, float>) {
      problem = PPO_SELECT_ISA(surrogate_kernels).loss_float(call);
    } else {
      problem = PPO_SELECT_ISA(surrogate_kernels).loss_double(call);
    }
  }
  if (problem.kind != Problem::kNone) refuse(from, policy, problem);
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

// Returns the loss as an array of no dimensions, the stats, and the gradients with respect to those of the
// first four arrays that are given.
py::list loss(const char* function, const py::tuple& form, const py::tuple& given,
              const py::tuple& settings) {
  require_loss_sizes(form, given, settings);
  const LossArguments from(function, arrays::all(given), settings);
  const LossPolicy policy(from, form);
  return (policy.float32 ? &run<float> : &run<double>)(from, policy);
}

// Arrays [n] without gaps; the mask may be None.
template <typename T>
void normalize_items(const Array& x, const Given& mask, double eps, int ddof, const Array& out) {
  const Argument valid{"normalize", "valid"};
  NormalizeCall<T> call;
  call.size = x.size();
  call.x = Argument{"normalize", "x"}.view1<T>(x);
  if (!mask.is_none()) {
    valid.require_shape(valid.array(mask), {call.size}, "like x");
    call.mask = valid.view1<bool>(mask.array());
  }
  Argument{"normalize", "out"}.require_shape(out, {call.size}, "like x");
  call.ddof = ddof;
  call.eps = eps;
  call.out = static_cast<T*>(out.mutable_data());
  const arrays::ReleaseGil release(x.size() >= kReleaseFrom);
  if constexpr (std::is_same_v<T, float>) {
    PPO_SELECT_ISA(surrogate_kernels).normalize_float(call);
  } else {
    PPO_SELECT_ISA(surrogate_kernels).normalize_double(call);
  }
}

void normalize(const py::array& x, const py::object& mask, double eps, int ddof,
               const py::array& out) {
  const Given given(x);
  const Argument argument{"normalize", "x"};
  const bool float32 = argument.is_float32(argument.array(given));
  argument.require_shape(given.array(), {given.array().size()}, "");
  (float32 ? &normalize_items<float> : &normalize_items<double>)(given.array(), Given(mask), eps,
                                                                 ddof, Array(out));
}

}  // namespace

void bind_surrogate(py::module_& m) {
  m.attr("LOSS_STATS") =
      py::make_tuple("policy_loss", "value_loss", "entropy", "approx_kl", "approx_kl_k1",
                     "clip_fraction", "ratio_mean", "ratio_max", "effective_sample_size",
                     "limited_fraction", "explained_variance", "kl");
  m.def("normalize", &normalize, py::arg("x"), py::arg("mask"), py::arg("eps"), py::arg("ddof"),
        py::arg("out"));
  m.def("loss", &loss, py::arg("function"), py::arg("form"), py::arg("given"), py::arg("settings"));
}

}  // namespace ppo
