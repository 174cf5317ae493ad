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
  RunOnDevice(DeviceTensors& tensors, py::object rewards)
      : tensors_(tensors), rewards_(std::move(rewards)) {}

  Given given(const py::handle& object) const { return tensors_.given(object); }

  template <typename Arguments>
  void operator()(const TransitionCall<Arguments>& call, const Frame& frame, bool exact) const {
    start(call.args, frame, frame.batch_major() || frame.columns() == 1, exact);
  }
  template <typename T>
  void operator()(TokenArguments<T>& args, const Frame& frame, bool exact) const {
    if (args.starts != nullptr) args.num_columns = 1;
    start(args, frame, true, exact);
  }

  // They are not read here: kernels keep to the tokens whatever they say.
  Starts starts(Frame& frame, const Argument& argument, const Array& array) {
    if (array.shape(0) < 2 && frame.steps() > 0) {
      argument.value_error("must go from 0 to the number of tokens, " +
                           std::to_string(frame.steps()) + ", got no sequence");
    }
    Starts result;
    result.data = items<std::int64_t>(frame, array, "long");
    result.longest = frame.steps();
    return result;
  }

  // Nor are these.
  Lambdas lambdas(Frame& frame, const Given& gae_lambda, py::ssize_t columns, const char* per) {
    const Argument argument{frame.function(), "gae_lambda"};
    Lambdas result;
    if (!gae_lambda.is_array()) {
      result.one = require_factor(argument, gae_lambda);
      return result;
    }
    argument.is_float32(gae_lambda.array());
    const bool is_one = gae_lambda.array().ndim() == 0;
    const Given each = is_one ? made(gae_lambda.object().attr("expand")(columns)) : gae_lambda;
    argument.require_shape(each.array(), {columns}, per);
    result.each = items<double>(frame, each.array(), "double");
    return result;
  }

 private:
  // The items of an array [n] as the kernels read them; `method` of a tensor converts to T.
  template <typename T>
  const T* items(Frame& frame, const Array& array, const char* method) {
    if (array.holds<T>() && array.is_contiguous()) {
      frame.note(array);
      return static_cast<const T*>(array.data());
    }
    const Given converted = made(array.object().attr(method)().attr("contiguous")());
    return static_cast<const T*>(converted.array().data());
  }

  Given made(const py::object& tensor) {
    made_.push_back(given(tensor));
    return made_.back();
  }

  template <typename Arguments>
  void start(const Arguments& args, const Frame& frame, bool along_time, bool exact) const {
    const Cut cut = cut_of(args, along_time, exact);
    using T = typename Arguments::Value;
    const std::ptrdiff_t bytes = cuda::scratch_bytes(args, cut);
    const std::ptrdiff_t count = whole_units(bytes, static_cast<std::ptrdiff_t>(sizeof(T)));
    // It may go once the kernels are on the stream: its library gives it to later work on that stream only.
    const Given memory = bytes == 0 ? Given() : given(rewards_.attr("new_empty")(count));
    require_started(frame.function(),
                    cuda::start(args, cut, address<void>(memory), tensors_.stream()));
  }

  DeviceTensors& tensors_;
  py::object rewards_;
  std::vector<Given> made_;  // tensors that are held until the kernels are on the stream
};

// Refuses what is no tensor of the library of the first argument, and what it would have to differentiate.
void require_tensors(const py::tuple& given, PyTypeObject* type) {
  static const py::handle requires_grad = py::str("requires_grad").release();
  for (const py::handle& x : given) {
    if (x.is_none()) continue;
    if (PyObject_TypeCheck(x.ptr(), type)) {
      if (x.attr(requires_grad).ptr() != Py_False) throw py::type_error("a tensor requires grad");
    } else if (PyTuple_CheckExact(x.ptr())) {
      require_tensors(py::reinterpret_borrow<py::tuple>(x), type);
    } else if (!arrays::is_scalar(x) && !PyUnicode_Check(x.ptr())) {
      throw py::type_error("an argument is neither a tensor nor a number");
    }
  }
}

// Results are laid out like the rewards if these are contiguous and no axis of size 1 leaves that open.
bool is_plain(const Array& rewards) {
  for (py::ssize_t axis = 0; axis < rewards.ndim(); ++axis) {
    if (rewards.shape(axis) < 2) return false;
  }
  return rewards.is_contiguous();
}

}  // namespace

void bind_cuda_advantage(py::module_& m) {
  // given: the arguments of _core's function of that name. Gives its results, tensors that were given, or new ones by
  // empty_like(rewards), or by new_out(function, given) where they are to have another layout. TypeError where it takes
  // another look in Python to see what is wrong, or what has to be converted.
  m.def(
      "advantage",
      [](const py::capsule& exchange_api, const std::string& function, const py::tuple& given,
         const py::object& empty_like, const py::object& new_out) -> py::object {
        const py::object first = given[0];
        require_tensors(given, Py_TYPE(first.ptr()));
        DeviceTensors tensors(exchange_api);
        RunOnDevice run(tensors, first);
        const auto a = [&](std::size_t k) { return tensors.given(given[k]); };
        const Given rewards = a(0);
        Given out = a(given.size() - 2);
        if (out.is_none()) {
          const bool is_pair = function != "lambda_returns" && function != "discounted_returns";
          if (!is_plain(rewards.array())) {
            out = tensors.given(new_out(function, given));
          } else if (is_pair) {
            out = tensors.given(py::make_tuple(empty_like(first), empty_like(first)));
          } else {
            out = tensors.given(empty_like(first));
          }
        }
        const auto options = [&](std::size_t k) {
          return Options{a(k),     a(k + 1), a(k + 2), a(k + 3), a(k + 4),
                         a(k + 5), a(k + 6), a(k + 7), a(k + 8)};
        };
        if (function == "gae") {
          return gae(run, rewards, a(1), a(2), a(3), options(4), a(13), out, a(15));
        }
        if (function == "lambda_returns") {
          return lambda_returns(run, rewards, a(1), a(2), a(3), options(4), a(13), out, a(15));
        }
        if (function == "vtrace") {
          return vtrace(run, rewards, a(1), a(2), a(3), a(4), a(5), a(6), a(7), options(8), a(17),
                        out, a(19));
        }
        if (function == "discounted_returns") {
          const Options o = {a(2), Given(), a(3), a(4), a(5), a(6), a(7), a(8), a(9)};
          return discounted_returns(run, rewards, a(1), o, a(10), out, a(12));
        }
        if (function == "token_gae") {
          return token_gae(run, rewards, a(1), a(2), a(3), a(4), a(5), a(6), a(7), out, a(9));
        }
        throw py::value_error("advantage: there is no function " + function);
      },
      py::arg("exchange_api"), py::arg("function"), py::arg("given"), py::arg("empty_like"),
      py::arg("new_out"));
}

}  // namespace ppo
