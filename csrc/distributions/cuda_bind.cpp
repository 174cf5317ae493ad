// _cuda.sample, evaluate, evaluate_backward, kl and kl_backward: as those of _core, of tensors on a device.
#include <cstdint>
#include <string>
#include <vector>

#include "bind.h"
#include "distributions/call.h"
#include "distributions/cuda_arguments.h"
#include "support/device_tensors.h"

namespace ppo {
namespace {

// The tensors of one call.
class Call {
 public:
  DistributionArgument distribution(const char* function, const char* prefix,
                                    const py::tuple& parts) {
    DistributionArgument result(function, prefix, all(parts));
    require_few_components(result);
    return result;
  }
  Given given(const py::handle& tensor) { return tensors_.given(tensor); }
  std::vector<Given> all(const py::tuple& tensors) { return tensors_.all(tensors); }

  // A new tensor, and where its elements are.
  template <typename T>
  Given made(const std::vector<py::ssize_t>& shape) {
    return tensors_.made<T>(shape);
  }
  template <typename T>
  py::object made(const std::vector<py::ssize_t>& shape, T*& data) {
    const Given tensor = made<T>(shape);
    data = address<T>(tensor);
    return tensor.object();
  }

  // start(scratch, stream) puts the kernels on the stream.
  template <typename T, typename Start>
  void run(const char* function, const Distribution<T>& dist, const Distribution<T>& old,
           const Start& start) {
    if (dist.batch == 0) return;
    const Given memory = tensors_.memory(cuda::scratch_bytes(dist, old));
    require_started(function, start(address<void>(memory), tensors_.stream()));
  }

 private:
  DeviceTensors tensors_;
};

template <typename T>
void run_sample(Call& call, const DistributionArgument& dist, const std::vector<Given>& noise,
                std::uint64_t seed, std::uint32_t first_id, const Given& step, bool deterministic,
                SampleResults& results) {
  const auto made = [&](auto number, const std::vector<py::ssize_t>& shape) {
    return call.made<decltype(number)>(shape);
  };
  SampleCall<T> sample = read_sample<T>(dist, noise, results, made);
  sample.seed = seed;
  sample.first_id = first_id;
  sample.deterministic = deterministic;
  const std::int64_t* device_step = nullptr;
  if (step.is_array()) {
    const Argument argument{dist.function, "step"};
    const Array& array = step.array();
    if (!array.holds<std::int64_t>()) {
      argument.type_error("must be an integer or an int64 tensor, got " +
                          arrays::dtype_text(array));
    }
    argument.require_shape(array, {}, "(a single number)");
    device_step = address<std::int64_t>(step);
  } else {
    sample.step = step.object().cast<std::uint64_t>();
  }
  call.run(dist.function, sample.dist, {}, [&](void* scratch, cudaStream_t stream) {
    sample.scratch = scratch;
    return cuda::start(sample, device_step, stream);
  });
}

// The step may be an int64 tensor, too.
py::tuple sample(const py::tuple& dist, const py::object& noise, std::uint64_t seed,
                 std::uint32_t first_id, const py::object& step, bool deterministic,
                 const py::object& actions, const py::object& logp, const py::object& entropy) {
  Call call;
  const DistributionArgument argument = call.distribution("sample", "", dist);
  const std::vector<Given> parts = noise.is_none() ? std::vector<Given>() : call.all(noise);
  const auto run = argument.float32 ? &run_sample<float> : &run_sample<double>;
  SampleResults results{call.given(actions), call.given(logp), call.given(entropy)};
  run(call, argument, parts, seed, first_id, call.given(step), deterministic, results);
  return results.objects();
}

template <typename T>
py::tuple run_evaluate(Call& call, const DistributionArgument& dist, const Given& actions) {
  EvaluateCall<T> evaluate;
  evaluate.dist = dist.view<T>();
  evaluate.actions = read_actions<T>(dist, actions);
  const py::object logp = call.made({dist.batch()}, evaluate.logp);
  const py::object entropy = call.made({dist.batch()}, evaluate.entropy);
  call.run(dist.function, evaluate.dist, {}, [&](void* scratch, cudaStream_t stream) {
    evaluate.scratch = scratch;
    return cuda::start(evaluate, stream);
  });
  return py::make_tuple(logp, entropy);
}

py::tuple evaluate(const py::tuple& dist, const py::object& actions) {
  Call call;
  const DistributionArgument argument = call.distribution("evaluate", "", dist);
  const auto run = argument.float32 ? &run_evaluate<float> : &run_evaluate<double>;
  return run(call, argument, call.given(actions));
}

template <typename T>
py::tuple run_backward(Call& call, const DistributionArgument& dist, BackwardCall<T> backward) {
  const py::object first = call.made({dist.batch(), dist.dims()}, backward.first);
  py::object second = py::none();
  if (dist.has_second()) second = call.made(dist.parts[2].array().shape(), backward.second);
  call.run(dist.function, backward.dist, backward.old, [&](void* scratch, cudaStream_t stream) {
    backward.scratch = scratch;
    return cuda::start(backward, stream);
  });
  return py::make_tuple(first, second);
}

py::tuple evaluate_backward(const py::tuple& dist, const py::object& actions,
                            const py::object& w_logp, const py::object& w_entropy) {
  Call call;
  const DistributionArgument d = call.distribution("evaluate", "", dist);
  const Given taken = call.given(actions);
  const Given logp = call.given(w_logp);
  const Given entropy = call.given(w_entropy);
  if (d.float32) {
    return run_backward(call, d, read_evaluate_backward<float>(d, taken, logp, entropy));
  }
  return run_backward(call, d, read_evaluate_backward<double>(d, taken, logp, entropy));
}

template <typename T>
py::object run_kl(Call& call, const DistributionArgument& old, const DistributionArgument& dist) {
  KlCall<T> kl;
  kl.dist = dist.view<T>();
  kl.old = old.view<T>();
  const py::object result = call.made({dist.batch()}, kl.kl);
  call.run(dist.function, kl.dist, kl.old, [&](void* scratch, cudaStream_t stream) {
    kl.scratch = scratch;
    return cuda::start(kl, stream);
  });
  return result;
}

py::object kl(const py::tuple& old, const py::tuple& dist) {
  Call call;
  const DistributionArgument before = call.distribution("kl", "", old);
  const DistributionArgument now = call.distribution("kl", "other.", dist);
  require_same_form(before, now);
  return (now.float32 ? &run_kl<float> : &run_kl<double>)(call, before, now);
}

py::tuple kl_backward(const py::tuple& old, const py::tuple& dist, const py::object& weight) {
  Call call;
  const DistributionArgument before = call.distribution("kl", "", old);
  const DistributionArgument now = call.distribution("kl", "other.", dist);
  const Given w = call.given(weight);
  if (now.float32) return run_backward(call, now, read_kl_backward<float>(before, now, w));
  return run_backward(call, now, read_kl_backward<double>(before, now, w));
}

}  // namespace

void bind_cuda_distributions(py::module_& m) {
  define_functions(m, &sample, &evaluate, &evaluate_backward, &kl, &kl_backward);
}

}  // namespace ppo
