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
  // lambdas: gae_lambda of each column as a float64 tensor, or None.
  RunOnDevice(DeviceTensors& tensors, py::object rewards, const py::object& lambdas)
      : tensors_(tensors), rewards_(std::move(rewards)), lambdas_(tensors.array(lambdas)) {}

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
    using T = typename Arguments::Value;
    const std::ptrdiff_t bytes = cuda::scratch_bytes(cut);
    const std::ptrdiff_t count = whole_units(bytes, static_cast<std::ptrdiff_t>(sizeof(T)));
    // It may go once the kernels are on the stream: its library gives it to later work on that stream only.
    const py::object memory =
        bytes == 0 ? py::none() : tensors_.array(rewards_.attr("new_empty")(count));
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
  py::object rewards_;
  py::object lambdas_;
};

// Refuses what is no tensor of the library of the first argument, and what it would have to differentiate.
void require_tensors(const py::tuple& given, PyTypeObject* type) {
  static const py::handle requires_grad = py::str("requires_grad").release();
  for (const py::handle& x : given) {
    if (x.is_none()) continue;
    if (PyTuple_CheckExact(x.ptr())) {
      require_tensors(py::reinterpret_borrow<py::tuple>(x), type);
    } else if (PyObject_TypeCheck(x.ptr(), type)) {
      if (py::bool_(x.attr(requires_grad))) throw py::type_error("a tensor requires grad");
    } else if (!arrays::is_scalar(x) && !PyUnicode_Check(x.ptr())) {
      throw py::type_error("an argument is neither a tensor nor a number");
    }
  }
}

// Numbers on a device may not be read here.
void require_numbers(const py::tuple& arrays, std::initializer_list<std::size_t> places) {
  for (std::size_t k : places) {
    if (py::isinstance<py::array>(arrays[k])) throw py::type_error("a number is a tensor");
  }
}

// Results are laid out like the rewards if these are contiguous and no axis of size 1 leaves that open.
bool is_plain(const py::array& rewards) {
  for (py::ssize_t axis = 0; axis < rewards.ndim(); ++axis) {
    if (rewards.shape(axis) < 2) return false;
  }
  return (rewards.flags() & py::array::c_style) != 0;
}

}  // namespace

void bind_cuda_advantage(py::module_& m) {
  // given: the arguments of _core's function of that name. Gives its results, tensors that were given, or new ones by
  // empty_like(rewards), or by new_out(function, given) where they are to have another layout. TypeError where it takes
  // another look in Python to see what is wrong, or what has to be converted.
  m.def(
      "advantage",
      [](const py::capsule& exchange_api, const std::string& function, const py::tuple& given,
         const py::object& lambdas, const py::object& empty_like, const py::object& new_out) {
        const py::object rewards = given[0];
        require_tensors(given, Py_TYPE(rewards.ptr()));
        require_tensors(py::make_tuple(lambdas), Py_TYPE(rewards.ptr()));
        DeviceTensors tensors(exchange_api);
        py::tuple a = tensors.arrays(given);
        const RunOnDevice run(tensors, rewards, lambdas);
        py::object out = given[given.size() - 2];
        if (out.is_none()) {
          const bool is_pair = function != "lambda_returns" && function != "discounted_returns";
          if (!is_plain(a[0])) {
            out = new_out(function, given);
          } else if (is_pair) {
            out = py::make_tuple(empty_like(rewards), empty_like(rewards));
          } else {
            out = empty_like(rewards);
          }
          a[a.size() - 2] = is_pair ? py::object(tensors.arrays(out)) : tensors.array(out);
        }
        const auto options = [&](std::size_t k) {
          return Options{a[k],     a[k + 1], a[k + 2], a[k + 3], a[k + 4],
                         a[k + 5], a[k + 6], a[k + 7], a[k + 8]};
        };
        if (function == "gae") {
          require_numbers(a, {2, 3, 13, 15});
          gae(run, a[0], a[1], a[2], a[3], options(4), a[13], a[14], a[15]);
        } else if (function == "lambda_returns") {
          require_numbers(a, {2, 3, 13, 15});
          lambda_returns(run, a[0], a[1], a[2], a[3], options(4), a[13], a[14], a[15]);
        } else if (function == "vtrace") {
          require_numbers(a, {3, 4, 5, 6, 7, 17, 19});
          vtrace(run, a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], options(8), a[17], a[18],
                 a[19]);
        } else if (function == "discounted_returns") {
          require_numbers(a, {1, 10, 12});
          const Options o = {a[2], py::none(), a[3], a[4], a[5], a[6], a[7], a[8], a[9]};
          discounted_returns(run, a[0], a[1], o, a[10], a[11], a[12]);
        } else if (function == "token_gae") {
          require_numbers(a, {3, 4, 9});
          token_gae(run, a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9]);
        } else {
          throw py::value_error("advantage: there is no function " + function);
        }
        return out;
      },
      py::arg("exchange_api"), py::arg("function"), py::arg("given"), py::arg("lambdas"),
      py::arg("empty_like"), py::arg("new_out"));
}

}  // namespace ppo
