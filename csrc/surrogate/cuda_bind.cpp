// _cuda.loss: the losses for tensors on a device.
#include <string>
#include <type_traits>
#include <vector>

#include "bind.h"
#include "distributions/cuda_arguments.h"
#include "support/device_tensors.h"
#include "surrogate/call.h"
#include "surrogate/cuda.h"

namespace ppo {
namespace {

// The settings with a number in the place of each coefficient that is in device memory, whose address goes into
// `coefficients`. The number is one that no check refuses.
py::tuple split_settings(const char* function, const std::vector<Given>& settings,
                         DeviceCoefficients& coefficients) {
  constexpr double kSomeNumber = 2.0;
  const struct {
    const char* name;
    const double** address;
  } places[] = {{"clip_range", &coefficients.clip_range},
                {"clip_range_high", &coefficients.clip_range_high},
                {"dual_clip", &coefficients.dual_clip},
                {"clip_range_values", &coefficients.clip_range_values},
                {"kl_coef", &coefficients.kl_coef},
                {"kl_hinge", &coefficients.kl_hinge},
                {"kl_hinge_from", &coefficients.kl_hinge_from},
                {"entropy_coef", &coefficients.entropy_coef},
                {"value_coef", &coefficients.value_coef}};
  py::tuple plain(settings.size());
  for (std::size_t k = 0; k < settings.size(); ++k) plain[k] = settings[k].object();
  std::size_t k = 1;  // after the objective
  for (const auto& place : places) {
    const Given& given = settings[k++];
    if (!given.is_array()) continue;
    const Argument argument{function, place.name};
    const Array& array = given.array();
    if (!array.holds<double>()) {
      argument.type_error("must be a number or a float64 tensor, got " + arrays::dtype_text(array));
    }
    argument.require_shape(array, {}, "(a single number)");
    *place.address = static_cast<const double*>(array.data());
    plain[k - 1] = py::float_(kSomeNumber);
  }
  // What read_settings does for numbers.
  if (settings[0].object().cast<std::string>() != "clipped") {
    coefficients.clip_range = coefficients.clip_range_high = nullptr;
  } else if (settings[2].is_none()) {
    coefficients.clip_range_high = coefficients.clip_range;
  }
  return plain;
}

template <typename T>
py::list run(const LossArguments& from, const LossPolicy& policy,
             const DeviceCoefficients& coefficients, DeviceTensors& tensors) {
  LossCall<T> call = read_call<T>(from, policy);
  py::list results;
  const auto output = [&](const std::vector<py::ssize_t>& shape, auto*& data) {
    using Item = std::remove_reference_t<decltype(*data)>;
    const Given tensor = tensors.made<Item>(shape);
    data = address<Item>(tensor);
    results.append(tensor.object());
  };
  T* loss = nullptr;
  output({}, loss);
  output({static_cast<py::ssize_t>(kNumLossStats)}, call.stats);
  output(policy.first.shape(), call.policy.first_gradient);
  if (policy.dist && policy.dist->has_second()) {
    output(from.log_std.array().shape(), call.policy.second_gradient);
  }
  if (!from.values.is_none()) output({call.batch}, call.values_gradient);
  if (!from.kl.is_none()) output({call.batch}, call.kl_gradient);
  const Given scratch = tensors.memory(cuda::scratch_bytes(call));
  call.scratch = address<void>(scratch);
  require_started(from.function, cuda::start(call, coefficients, loss, tensors.stream()));
  return results;
}

// As _core.loss, of tensors; coefficients may be float64 tensors, too.
py::list loss(const char* function, const py::tuple& form, const py::tuple& given,
              const py::tuple& settings) {
  require_loss_sizes(form, given, settings);
  DeviceTensors tensors;
  DeviceCoefficients coefficients;
  const LossArguments from(function, tensors.all(given),
                           split_settings(function, tensors.all(settings), coefficients));
  const LossPolicy policy(from, form);
  if (policy.dist) require_few_components(*policy.dist);
  return (policy.float32 ? &run<float> : &run<double>)(from, policy, coefficients, tensors);
}

}  // namespace

void bind_cuda_surrogate(py::module_& m) {
  m.def("loss", &loss, py::arg("function"), py::arg("form"), py::arg("given"), py::arg("settings"));
}

}  // namespace ppo
