// _cuda.advantage: the functions of this room for tensors on a device.
#include <stdexcept>
#include <string>

#include "advantage/cuda.h"
#include "advantage/functions.h"
#include "bind.h"
#include "support/device_tensors.h"

namespace ppo {
namespace {

// Starts a call on the device's current stream.
class RunOnDevice {
 public:
  // scratch(bytes): a tensor of device memory. lambdas: gae_lambda of each column as a float64 tensor, or None.
  RunOnDevice(DeviceTensors& tensors, py::object scratch, const py::object& lambdas)
      : tensors_(tensors), scratch_(std::move(scratch)), lambdas_(tensors.array(lambdas)) {}

  template <typename Arguments>
  void operator()(const TransitionCall<Arguments>& call, const Frame& frame, bool exact) const {
    Arguments args = call.args;
    args.lambdas = lambdas_of(frame, frame.columns(), "(one per environment)");
    start(args, frame, frame.batch_major() || frame.columns() == 1, exact);
  }
  template <typename T>
  void operator()(TokenArguments<T>& args, const Frame& frame, bool exact) const {
    args.lambdas = lambdas_of(frame, args.num_sequences, "(one per sequence)");
    if (args.starts != nullptr) args.num_columns = 1;
    start(args, frame, true, exact);
  }

  // They are not read here: kernels keep to the tokens whatever they say.
  Starts starts(const Argument& argument, const py::array& array, py::ssize_t tokens) const {
    if (!Argument::holds<std::int64_t>(array) || argument.stride(array, 0) != 1) {
      argument.type_error("must be contiguous int64 on a GPU");
    }
    if (array.shape(0) < 2 && tokens > 0) {
      argument.value_error("must go from 0 to the number of tokens, " + std::to_string(tokens) +
                           ", got no sequence");
    }
    Starts result;
    result.data = static_cast<const std::int64_t*>(array.data());
    result.longest = tokens;
    return result;
  }

 private:
  template <typename Arguments>
  void start(const Arguments& args, const Frame& frame, bool along_time, bool exact) const {
    const Cut cut = cut_of(args, along_time, exact);
    const std::ptrdiff_t bytes = cuda::scratch_bytes(cut);
    // It may go once the kernels are on the stream: its library gives it to later work on that stream only.
    const py::object memory = bytes == 0 ? py::none() : tensors_.array(scratch_(bytes));
    void* address = memory.is_none() ? nullptr : const_cast<void*>(py::array(memory).data());
    require_started(frame.function(), cuda::start(args, cut, address, tensors_.stream()));
  }

  const double* lambdas_of(const Frame& frame, py::ssize_t size, const char* per) const {
    if (lambdas_.is_none()) return nullptr;
    const auto array = py::reinterpret_borrow<py::array>(lambdas_);
    Argument{frame.function(), "gae_lambda"}.require_shape(array, {size}, per);
    return static_cast<const double*>(array.data());
  }

  DeviceTensors& tensors_;
  py::object scratch_;
  py::object lambdas_;
};

}  // namespace

void bind_cuda_advantage(py::module_& m) {
  // given: the arguments of _core's function of that name, results included; scratch and lambdas as above.
  m.def(
      "advantage",
      [](const py::capsule& exchange_api, const std::string& function, const py::tuple& given,
         const py::object& scratch, const py::object& lambdas) -> py::object {
        DeviceTensors tensors(exchange_api);
        const py::tuple a = tensors.arrays(given);
        const RunOnDevice run(tensors, scratch, lambdas);
        const auto options = [&](std::size_t k) {
          return Options{a[k],     a[k + 1], a[k + 2], a[k + 3], a[k + 4],
                         a[k + 5], a[k + 6], a[k + 7], a[k + 8]};
        };
        if (function == "gae") {
          return gae(run, a[0], a[1], a[2], a[3], options(4), a[13], a[14], a[15]);
        }
        if (function == "lambda_returns") {
          return lambda_returns(run, a[0], a[1], a[2], a[3], options(4), a[13], a[14], a[15]);
        }
        if (function == "vtrace") {
          return vtrace(run, a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], options(8), a[17],
                        a[18], a[19]);
        }
        if (function == "discounted_returns") {
          const Options o = {a[2], py::none(), a[3], a[4], a[5], a[6], a[7], a[8], a[9]};
          return discounted_returns(run, a[0], a[1], o, a[10], a[11], a[12]);
        }
        if (function == "token_gae") {
          return token_gae(run, a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9]);
        }
        throw py::value_error("advantage: there is no function " + function);
      },
      py::arg("exchange_api"), py::arg("function"), py::arg("given"), py::arg("scratch"),
      py::arg("lambdas"));
}

}  // namespace ppo
