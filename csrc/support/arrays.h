// Checked conversions between Python arguments and the views that kernels take. Every failure is a
// TypeError or ValueError that names the function, the argument, what came and how to mend it.
// Nothing is copied or converted silently.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "support/given.h"
#include "support/view.h"

namespace ppo::arrays {

namespace py = pybind11;

inline std::string describe(const py::handle& object) {
  return py::str(py::type::handle_of(object).attr("__name__")).cast<std::string>();
}

inline std::string shape_text(const Array& array) {
  const py::list shape(array.object().attr("shape"));
  return py::str(py::tuple(shape)).cast<std::string>();
}

// "float32", of torch's float32 too.
inline std::string dtype_text(const Array& array) {
  const auto text = py::str(array.object().attr("dtype")).cast<std::string>();
  return array.on_device() ? text.substr(text.rfind('.') + 1) : text;
}

// An argument on its way into a kernel: who asks for it, under what name.
struct Argument {
  const char* function;
  const char* name;

  std::string start() const { return std::string(function) + ": " + name; }

  [[noreturn]] void type_error(const std::string& rest) const {
    throw py::type_error(start() + " " + rest);
  }
  [[noreturn]] void value_error(const std::string& rest) const {
    throw py::value_error(start() + " " + rest);
  }

  const Array& array(const Given& given) const {
    const py::object& object = given.object();
    if (given.is_none()) type_error("is missing, got None");
    if (!given.is_array()) {
      type_error("must be a NumPy array, got " + describe(object) + "; wrap it in np.asarray(...)");
    }
    const bool is_plain =
        given.on_device() || Py_TYPE(object.ptr()) == py::detail::npy_api::get().PyArray_Type_;
    if (!is_plain && py::hasattr(object, "filled")) {
      type_error("must be a plain array, got " + describe(object) +
                 ", whose mask would be lost; fill it with " + name + ".filled(...)");
    }
    return given.array();
  }
  Array array(Given&& given) const { return array(static_cast<const Given&>(given)); }

  // float32 or float64; true for float32.
  bool is_float32(const Array& array) const {
    if (array.holds<float>()) return true;
    if (array.holds<double>()) return false;
    type_error("must be float32 or float64, got " + dtype_text(array) + "; cast with " + name +
               ".astype(np.float32)");
  }

  template <typename T>
  void require_dtype(const Array& array, const char* like) const {
    if (!array.template holds<T>()) {
      const std::string want = py::str(py::dtype::of<T>()).template cast<std::string>();
      type_error("must be " + want + " like " + like + ", got " + dtype_text(array) +
                 "; cast with " + name + ".astype(np." + want + ")");
    }
  }

  template <typename Shape = std::initializer_list<py::ssize_t>>
  void require_shape(const Array& array, const Shape& shape, const char* like) const {
    bool equal = array.ndim() == static_cast<py::ssize_t>(shape.size());
    py::ssize_t axis = 0;
    for (py::ssize_t size : shape) equal = equal && array.shape(axis++) == size;
    if (!equal) refuse_shape(array, shape, like);
  }
  template <typename Shape>
  [[noreturn]] void refuse_shape(const Array& array, const Shape& shape, const char* like) const {
    std::string text = "must have shape (";
    for (py::ssize_t size : shape) {
      if (text.back() != '(') text += ", ";
      text += std::to_string(size);
    }
    text += shape.size() == 1 ? ",)" : ")";
    if (*like) text.append(" ").append(like);
    value_error(text.append(", got ").append(shape_text(array)));
  }

  void require_bool(const Array& array) const {
    if (array.holds<bool>()) return;
    type_error("must be bool, got " + dtype_text(array) + "; cast with " + name + ".astype(bool)");
  }

  // As require_dtype, for an array that is written: casting it would lose the result.
  template <typename T>
  void require_output_dtype(const Array& array, const char* like) const {
    if (!array.template holds<T>()) {
      const std::string want = py::str(py::dtype::of<T>()).template cast<std::string>();
      type_error("must be " + want + " like " + like + ", got " + dtype_text(array));
    }
  }

  // A number, as a double.
  double number(const Given& given) const {
    refuse_on_device(given);
    const double value = PyFloat_AsDouble(given.object().ptr());
    if (value == -1.0 && PyErr_Occurred()) {
      PyErr_Clear();
      type_error("must be a number, got " + describe(given.object()));
    }
    return value;
  }

  bool boolean(const Given& given) const {
    const PyObject* object = given.object().ptr();
    if (object == Py_True || object == Py_False) return object == Py_True;
    type_error("must be True or False, got " + describe(given.object()));
  }

  py::ssize_t integer(const Given& given) const {
    refuse_on_device(given);
    const py::ssize_t value = PyNumber_AsSsize_t(given.object().ptr(), PyExc_OverflowError);
    if (value == -1 && PyErr_Occurred()) {
      PyErr_Clear();
      type_error("must be an integer, got " + describe(given.object()));
    }
    return value;
  }

  void require_writable(const Array& array) const {
    if (!array.writable()) value_error("must be writable, got a read-only array");
  }

  // Elements between neighbours along an axis.
  std::ptrdiff_t stride(const Array& array, py::ssize_t axis) const {
    if (!array.is_aligned()) {
      value_error("is not aligned to its items; copy it with " + std::string(name) + ".copy()");
    }
    return array.strides(axis);
  }

  template <typename T>
  View1<const T> view1(const Array& array) const {
    return {static_cast<const T*>(array.data()), stride(array, 0)};
  }
  template <typename T>
  View2<const T> view2(const Array& array) const {
    return {static_cast<const T*>(array.data()), stride(array, 0), stride(array, 1)};
  }
  template <typename T>
  View1<T> mutable_view1(const Array& array) const {
    require_writable(array);
    return {static_cast<T*>(array.mutable_data()), stride(array, 0)};
  }
  template <typename T>
  View2<T> mutable_view2(const Array& array) const {
    require_writable(array);
    return {static_cast<T*>(array.mutable_data()), stride(array, 0), stride(array, 1)};
  }

 private:
  // Reading it would wait for the device.
  void refuse_on_device(const Given& given) const {
    if (given.on_device()) type_error("must be a number, got a tensor");
  }
};

// Releases the GIL for work that is long enough to be worth it (about 10 us and more).
class ReleaseGil {
 public:
  explicit ReleaseGil(bool worth) {
    if (worth) release_.emplace();
  }

 private:
  std::optional<py::gil_scoped_release> release_;
};

}  // namespace ppo::arrays
