// _cuda.sample, evaluate, evaluate_backward, kl and kl_backward: as those of _core, of tensors on a device, with the results
// given by the caller.
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
    DistributionArgument result(function, prefix, tensors_.all(parts));
    require_few_components(result);
    return result;
  }
  Given given(const py::handle& tensor) { return tensors_.given(tensor); }
  std::vector<Given> all(const py::tuple& tensors) { return tensors_.all(tensors); }

  // The memory of a result, which the caller made to fit; null for None.
  template <typename T>
  T* result(const py::handle& tensor) {
    return address<T>(tensors_.given(tensor));
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
                const std::vector<Given>& results) {
  SampleCall<T> sample = read_sample<T>(dist, noise, results[0], results[1], results[2]);
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

// results: (actions, logp, entropy or None)
void sample(const py::tuple& dist, const py::object& noise, std::uint64_t seed,
            std::uint32_t first_id, const py::object& step, bool deterministic,
            const py::tuple& results) {
  Call call;
  const DistributionArgument argument = call.distribution("sample", "", dist);
  const std::vector<Given> parts = noise.is_none() ? std::vector<Given>() : call.all(noise);
  const auto run = argument.float32 ? &run_sample<float> : &run_sample<double>;
  run(call, argument, parts, seed, first_id, call.given(step), deterministic, call.all(results));
}

template <typename T>
void run_evaluate(Call& call, const DistributionArgument& dist, const Given& actions,
                  const py::tuple& results) {
  EvaluateCall<T> evaluate;
  evaluate.dist = dist.view<T>();
  evaluate.actions = read_actions<T>(dist, actions);
  evaluate.logp = call.result<T>(results[0]);
  evaluate.entropy = call.result<T>(results[1]);
  call.run(dist.function, evaluate.dist, {}, [&](void* scratch, cudaStream_t stream) {
    evaluate.scratch = scratch;
    return cuda::start(evaluate, stream);
  });
}

// results: (logp, entropy)
void evaluate(const py::tuple& dist, const py::object& actions, const py::tuple& results) {
  Call call;
  const DistributionArgument argument = call.distribution("evaluate", "", dist);
  const auto run = argument.float32 ? &run_evaluate<float> : &run_evaluate<double>;
  run(call, argument, call.given(actions), results);
}

template <typename T>
void run_backward(Call& call, const char* function, BackwardCall<T> backward,
                  const py::tuple& results) {
  backward.first = call.result<T>(results[0]);
  backward.second = call.result<T>(results[1]);
  call.run(function, backward.dist, backward.old, [&](void* scratch, cudaStream_t stream) {
    backward.scratch = scratch;
    return cuda::start(backward, stream);
  });
}

// results: the gradients of the parameters, the second of which may be None.
void evaluate_backward(const py::tuple& dist, const py::object& actions, const py::object& w_logp,
                       const py::object& w_entropy, const py::tuple& results) {
  Call call;
  const DistributionArgument d = call.distribution("evaluate", "", dist);
  const Given taken = call.given(actions);
  const Given logp = call.given(w_logp);
  const Given entropy = call.given(w_entropy);
  if (d.float32) {
    run_backward(call, d.function, read_evaluate_backward<float>(d, taken, logp, entropy), results);
  } else {
    run_backward(call, d.function, read_evaluate_backward<double>(d, taken, logp, entropy),
                 results);
  }
}

template <typename T>
void run_kl(Call& call, const DistributionArgument& old, const DistributionArgument& dist,
            const py::object& result) {
  KlCall<T> kl;
  kl.dist = dist.view<T>();
  kl.old = old.view<T>();
  kl.kl = call.result<T>(result);
  call.run(dist.function, kl.dist, kl.old, [&](void* scratch, cudaStream_t stream) {
    kl.scratch = scratch;
    return cuda::start(kl, stream);
  });
}

void kl(const py::tuple& old, const py::tuple& dist, const py::object& result) {
  Call call;
  const DistributionArgument before = call.distribution("kl", "", old);
  const DistributionArgument now = call.distribution("kl", "other.", dist);
  require_same_form(before, now);
  (now.float32 ? &run_kl<float> : &run_kl<double>)(call, before, now, result);
}

void kl_backward(const py::tuple& old, const py::tuple& dist, const py::object& weight,
                 const py::tuple& results) {
  Call call;
  const DistributionArgument before = call.distribution("kl", "", old);
  const DistributionArgument now = call.distribution("kl", "other.", dist);
  const Given w = call.given(weight);
  if (now.float32) {
    run_backward(call, now.function, read_kl_backward<float>(before, now, w), results);
  } else {
    run_backward(call, now.function, read_kl_backward<double>(before, now, w), results);
  }
}

}  // namespace

void bind_cuda_distributions(py::module_& m) {
  m.def("sample", &sample, py::arg("dist"), py::arg("noise"), py::arg("seed"), py::arg("first_id"),
        py::arg("step"), py::arg("deterministic"), py::arg("results"));
  m.def("evaluate", &evaluate, py::arg("dist"), py::arg("actions"), py::arg("results"));
  m.def("evaluate_backward", &evaluate_backward, py::arg("dist"), py::arg("actions"),
        py::arg("logp_gradient"), py::arg("entropy_gradient"), py::arg("results"));
  m.def("kl", &kl, py::arg("old"), py::arg("dist"), py::arg("result"));
  m.def("kl_backward", &kl_backward, py::arg("old"), py::arg("dist"), py::arg("gradient"),
        py::arg("results"));
}

}  // namespace ppo
