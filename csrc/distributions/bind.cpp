// _core.Family, sample, evaluate, evaluate_backward, kl and kl_backward.
#include <pybind11/native_enum.h>

#include "bind.h"
#include "distributions/call.h"

namespace ppo {
namespace {

template <typename T>
const DistributionKernelsOf<T>& kernels() {
  const DistributionKernels& table = PPO_SELECT_ISA(distribution_kernels);
  if constexpr (std::is_same_v<T, float>) {
    return table.of_float;
  } else {
    return table.of_double;
  }
}

bool is_long(const DistributionArgument& dist) {
  return dist.batch() * dist.dims() >= kReleaseFrom;
}

template <typename T>
void run_sample(const DistributionArgument& dist, const std::vector<Given>& noise,
                std::uint64_t seed, std::uint32_t first_id, std::uint64_t step, bool deterministic,
                SampleResults& results) {
  const auto made = [](auto number, const std::vector<py::ssize_t>& shape) {
    return Given(py::array_t<decltype(number)>(shape));
  };
  SampleCall<T> call = read_sample<T>(dist, noise, results, made);
  call.seed = seed;
  call.first_id = first_id;
  call.step = step;
  call.deterministic = deterministic;
  Problem problem;
  {
    const arrays::ReleaseGil release(is_long(dist));
    const ScratchMemory scratch(scratch_bytes(call.dist));
    call.scratch = scratch.get();
    problem = kernels<T>().sample(call);
  }
  if (problem.kind != Problem::kNone) refuse_parameters(dist, problem.row);
}

// (actions, logp, entropy): those that were given, or new ones.
py::tuple sample(const py::tuple& dist, const py::object& noise, std::uint64_t seed,
                 std::uint32_t first_id, std::uint64_t step, bool deterministic,
                 const py::object& actions, const py::object& logp, const py::object& entropy) {
  const DistributionArgument argument("sample", "", arrays::all(dist));
  const std::vector<Given> parts = noise.is_none() ? std::vector<Given>() : arrays::all(noise);
  const auto run = argument.float32 ? &run_sample<float> : &run_sample<double>;
  SampleResults results{actions, logp, entropy};
  run(argument, parts, seed, first_id, step, deterministic, results);
  return results.objects();
}

template <typename T>
py::tuple run_evaluate(const DistributionArgument& dist, const Given& actions) {
  EvaluateCall<T> call;
  call.dist = dist.view<T>();
  call.actions = read_actions<T>(dist, actions);
  py::array_t<T> logp(dist.batch());
  py::array_t<T> entropy(dist.batch());
  call.logp = logp.mutable_data();
  call.entropy = entropy.mutable_data();
  Problem problem;
  {
    const arrays::ReleaseGil release(is_long(dist));
    const ScratchMemory scratch(scratch_bytes(call.dist));
    call.scratch = scratch.get();
    problem = kernels<T>().evaluate(call);
  }
  if (problem.kind == Problem::kParameters) refuse_parameters(dist, problem.row);
  if (problem.kind == Problem::kAction) refuse_action(dist, actions, problem.row);
  return py::make_tuple(logp, entropy);
}

// (logp [B], entropy [B])
py::tuple evaluate(const py::tuple& dist, const py::object& actions) {
  const DistributionArgument argument("evaluate", "", arrays::all(dist));
  return (argument.float32 ? &run_evaluate<float> : &run_evaluate<double>)(argument, actions);
}

// The gradients of the parameters: [B, dims], and [B, dims], [dims] or None.
template <typename T>
py::tuple run_backward(const DistributionArgument& dist, BackwardCall<T>& call,
                       std::ptrdiff_t old_bytes) {
  py::array_t<T> first({dist.batch(), dist.dims()});
  call.first = first.mutable_data();
  py::object second = py::none();
  if (dist.has_second()) {
    py::array_t<T> gradient(call.dist.shares_second
                                ? std::vector<py::ssize_t>{dist.dims()}
                                : std::vector<py::ssize_t>{dist.batch(), dist.dims()});
    call.second = gradient.mutable_data();
    second = gradient;
  }
  {
    const arrays::ReleaseGil release(is_long(dist));
    const ScratchMemory scratch(scratch_bytes(call.dist) + old_bytes);
    call.scratch = scratch.get();
    kernels<T>().backward(call);
  }
  return py::make_tuple(first, second);
}

template <typename T>
py::tuple run_evaluate_backward(const DistributionArgument& dist, const Given& actions,
                                const Given& w_logp, const Given& w_entropy) {
  BackwardCall<T> call = read_evaluate_backward<T>(dist, actions, w_logp, w_entropy);
  return run_backward(dist, call, scratch_bytes(call.old));
}

py::tuple evaluate_backward(const py::tuple& dist, const py::object& actions,
                            const py::object& w_logp, const py::object& w_entropy) {
  const DistributionArgument argument("evaluate", "", arrays::all(dist));
  const auto run =
      argument.float32 ? &run_evaluate_backward<float> : &run_evaluate_backward<double>;
  return run(argument, actions, w_logp, w_entropy);
}

template <typename T>
py::array run_kl(const DistributionArgument& old, const DistributionArgument& dist) {
  KlCall<T> call;
  call.dist = dist.view<T>();
  call.old = old.view<T>();
  py::array_t<T> result(dist.batch());
  call.kl = result.mutable_data();
  Problem problem;
  {
    const arrays::ReleaseGil release(is_long(dist));
    const ScratchMemory scratch(scratch_bytes(call.dist) + scratch_bytes(call.old));
    call.scratch = scratch.get();
    problem = kernels<T>().kl(call);
  }
  if (problem.kind == Problem::kParameters) refuse_parameters(dist, problem.row);
  if (problem.kind == Problem::kOldParameters) refuse_parameters(old, problem.row);
  return result;
}

// KL(old || dist), [B]
py::array kl(const py::tuple& old, const py::tuple& dist) {
  const DistributionArgument old_argument("kl", "", arrays::all(old));
  const DistributionArgument argument("kl", "other.", arrays::all(dist));
  require_same_form(old_argument, argument);
  return (argument.float32 ? &run_kl<float> : &run_kl<double>)(old_argument, argument);
}

template <typename T>
py::tuple run_kl_backward(const DistributionArgument& old, const DistributionArgument& dist,
                          const Given& weight) {
  BackwardCall<T> call = read_kl_backward<T>(old, dist, weight);
  return run_backward(dist, call, scratch_bytes(call.old));
}

py::tuple kl_backward(const py::tuple& old, const py::tuple& dist, const py::object& weight) {
  const DistributionArgument old_argument("kl", "", arrays::all(old));
  const DistributionArgument argument("kl", "other.", arrays::all(dist));
  const auto run = argument.float32 ? &run_kl_backward<float> : &run_kl_backward<double>;
  return run(old_argument, argument, weight);
}

}  // namespace

void bind_distributions(py::module_& m) {
  py::native_enum<Family>(m, "Family", "enum.IntEnum")
      .value("categorical", Family::kCategorical)
      .value("bernoulli", Family::kBernoulli)
      .value("gaussian", Family::kGaussian)
      .value("squashed_gaussian", Family::kSquashedGaussian)
      .finalize();
  define_functions(m, &sample, &evaluate, &evaluate_backward, &kl, &kl_backward);
}

}  // namespace ppo
