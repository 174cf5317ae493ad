// _cuda.advantage: the functions of this room for tensors on a device.
#include <stdexcept>
#include <string>
#include <string_view>

#include "advantage/cuda.h"
#include "advantage/functions.h"
#include "bind.h"
#include "support/device_tensors.h"

namespace ppo {
namespace {

// Starts a call on the device's current stream.
class RunOnDevice {
 public:
  explicit RunOnDevice(DeviceTensors& tensors) : tensors_(tensors) {}

  Given given(const py::handle& object) const { return tensors_.given(object); }

  // A tensor of the shape of another, with strides in items. All of a call have the same form.
  template <typename T>
  Given made(const Array& like, const py::ssize_t* strides) {
    if (!form_) form_ = tensors_.library().form<T>(like.ndim(), like.shape().data(), strides);
    return tensors_.made(form_);
  }

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
    const Given each = is_one ? held(gae_lambda.object().attr("expand")(columns)) : gae_lambda;
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
    const Given converted = held(array.object().attr(method)().attr("contiguous")());
    return static_cast<const T*>(converted.array().data());
  }

  Given held(const py::object& tensor) {
    held_.push_back(given(tensor));
    return held_.back();
  }

  template <typename Arguments>
  void start(const Arguments& args, const Frame& frame, bool along_time, bool exact) const {
    const Cut cut = cut_of(args, along_time, exact);
    const Given memory = tensors_.memory(cuda::scratch_bytes(args, cut));
    require_started(frame.function(),
                    cuda::start(args, cut, address<void>(memory), tensors_.stream()));
  }

  DeviceTensors& tensors_;
  py::tuple form_ = py::reinterpret_steal<py::tuple>(py::handle());  // of results
  std::vector<Given> held_;  // tensors that are held until the kernels are on the stream
};

// Refuses what is no tensor of the library of the first argument, and what it would have to differentiate.
void require_tensors(const py::tuple& given, PyTypeObject* type) {
  for (const py::handle& x : given) {
    if (x.is_none()) continue;
    if (PyObject_TypeCheck(x.ptr(), type)) {
      if (tensor_library().requires_grad(x)) throw py::type_error("a tensor requires grad");
    } else if (PyTuple_CheckExact(x.ptr())) {
      require_tensors(py::reinterpret_borrow<py::tuple>(x), type);
    } else if (!arrays::is_scalar(x) && !PyUnicode_Check(x.ptr())) {
      throw py::type_error("an argument is neither a tensor nor a number");
    }
  }
}

}  // namespace

void bind_cuda_advantage(py::module_& m) {
  // given: the arguments of _core's function of that name. Gives its results, tensors that were given or new ones in the
  // layout of the rewards. TypeError where it takes another look in Python to see what is wrong, or what has to be converted.
  m.def(
      "advantage",
      [](const std::string_view function, const py::tuple& given) -> py::object {
        require_tensors(given, Py_TYPE(py::handle(given[0]).ptr()));
        DeviceTensors tensors;
        RunOnDevice run(tensors);
        const auto a = [&](std::size_t k) { return tensors.given(given[k]); };
        const Given rewards = a(0);
        const Given out = a(given.size() - 2);
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
        throw py::value_error("advantage: there is no function " + std::string(function));
      },
      py::arg("function"), py::arg("given"));
}

}  // namespace ppo
