// Checked conversions between Python arguments and the views that kernels take. Every failure is a
// TypeError or ValueError that names the function, the argument, what came and how to mend it.
// Nothing is copied or converted silently.
#pragma once

#include <pybind11/gil_safe_call_once.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "support/view.h"

namespace ppo::arrays {

namespace py = pybind11;

inline std::string describe(const py::handle& object) {
  return py::str(py::type::handle_of(object).attr("__name__")).cast<std::string>();
}

inline std::string shape_text(const py::array& array) {
  return py::str(array.attr("shape")).cast<std::string>();
}

inline std::string dtype_text(const py::array& array) {
  return py::str(array.dtype()).cast<std::string>();
}

// A number: Python's own, or a NumPy scalar such as np.float32(1).
inline bool is_scalar(const py::handle& object) {
  if (PyFloat_Check(object.ptr()) || PyLong_Check(object.ptr())) return true;
  if (object.is_none() || py::isinstance<py::array>(object)) return false;
  PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<py::object> generic;
  return py::isinstance(object, generic
                                    .call_once_and_store_result(
                                        [] { return py::module_::import("numpy").attr("generic"); })
                                    .get_stored());
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

  py::array array(const py::handle& object) const {
    if (!py::isinstance<py::array>(object)) {
      type_error("must be a NumPy array, got " + describe(object) + "; wrap it in np.asarray(...)");
    }
    const bool is_plain = Py_TYPE(object.ptr()) == py::detail::npy_api::get().PyArray_Type_;
    if (!is_plain && py::hasattr(object, "filled")) {
      type_error("must be a plain array, got " + describe(object) +
                 ", whose mask would be lost; fill it with " + name + ".filled(...)");
    }
    return py::reinterpret_borrow<py::array>(object);
  }

  // As `array`, for what may not be left out.
  py::array required(const py::handle& object) const {
    if (object.is_none()) type_error("is missing, got None");
    return array(object);
  }

  // Whether the items are native T, by kind and size (int64 has two type numbers on Linux).
  template <typename T>
  static bool holds(const py::array& array) {
    const py::dtype dtype = array.dtype();
    const char kind = std::is_same_v<T, bool>       ? 'b'
                      : std::is_floating_point_v<T> ? 'f'
                      : std::is_signed_v<T>         ? 'i'
                                                    : 'u';
    return dtype.kind() == kind && dtype.itemsize() == static_cast<py::ssize_t>(sizeof(T)) &&
           dtype.byteorder() != '>';
  }

  // float32 or float64; true for float32.
  bool is_float32(const py::array& array) const {
    if (holds<float>(array)) return true;
    if (holds<double>(array)) return false;
    type_error("must be float32 or float64, got " + dtype_text(array) + "; cast with " + name +
               ".astype(np.float32)");
  }

  template <typename T>
  void require_dtype(const py::array& array, const char* like) const {
    if (!holds<T>(array)) {
      const std::string want = py::str(py::dtype::of<T>()).template cast<std::string>();
      type_error("must be " + want + " like " + like + ", got " + dtype_text(array) +
                 "; cast with " + name + ".astype(np." + want + ")");
    }
  }

  template <typename Shape = std::initializer_list<py::ssize_t>>
  void require_shape(const py::array& array, const Shape& shape, const char* like) const {
    bool equal = array.ndim() == static_cast<py::ssize_t>(shape.size());
    py::ssize_t axis = 0;
    for (py::ssize_t size : shape) equal = equal && array.shape(axis++) == size;
    if (equal) return;
    std::string text = "must have shape (";
    for (py::ssize_t size : shape) {
      if (text.back() != '(') text += ", ";
      text += std::to_string(size);
    }
    text += shape.size() == 1 ? ",)" : ")";
    if (*like) text.append(" ").append(like);
    value_error(text.append(", got ").append(shape_text(array)));
  }

  void require_bool(const py::array& array) const {
    if (holds<bool>(array)) return;
    type_error("must be bool, got " + dtype_text(array) + "; cast with " + name + ".astype(bool)");
  }

  // As require_dtype, for an array that is written: casting it would lose the result.
  template <typename T>
  void require_output_dtype(const py::array& array, const char* like) const {
    if (!holds<T>(array)) {
      const std::string want = py::str(py::dtype::of<T>()).template cast<std::string>();
      type_error("must be " + want + " like " + like + ", got " + dtype_text(array));
    }
  }

  // A number, as a double.
  double number(const py::handle& object) const {
    const double value = PyFloat_AsDouble(object.ptr());
    if (value == -1.0 && PyErr_Occurred()) {
      PyErr_Clear();
      type_error("must be a number, got " + describe(object));
    }
    return value;
  }

  bool boolean(const py::handle& object) const {
    if (object.ptr() == Py_True || object.ptr() == Py_False) return object.ptr() == Py_True;
    type_error("must be True or False, got " + describe(object));
  }

  py::ssize_t integer(const py::handle& object) const {
    const py::ssize_t value = PyNumber_AsSsize_t(object.ptr(), PyExc_OverflowError);
    if (value == -1 && PyErr_Occurred()) {
      PyErr_Clear();
      type_error("must be an integer, got " + describe(object));
    }
    return value;
  }

  void require_writable(const py::array& array) const {
    if (!array.writeable()) value_error("must be writable, got a read-only array");
  }

  // Elements between neighbours along an axis.
  std::ptrdiff_t stride(const py::array& array, py::ssize_t axis) const {
    const py::ssize_t bytes = array.strides(axis);
    const py::ssize_t item = array.itemsize();
    if (bytes % item != 0 ||
        reinterpret_cast<std::uintptr_t>(array.data()) % static_cast<std::uintptr_t>(item) != 0) {
      value_error("is not aligned to its items; copy it with " + std::string(name) + ".copy()");
    }
    return bytes / item;
  }

  template <typename T>
  View1<const T> view1(const py::array& array) const {
    return {static_cast<const T*>(array.data()), stride(array, 0)};
  }
  template <typename T>
  View2<const T> view2(const py::array& array) const {
    return {static_cast<const T*>(array.data()), stride(array, 0), stride(array, 1)};
  }
  template <typename T>
  View1<T> mutable_view1(py::array& array) const {
    require_writable(array);
    return {static_cast<T*>(array.mutable_data()), stride(array, 0)};
  }
  template <typename T>
  View2<T> mutable_view2(py::array& array) const {
    require_writable(array);
    return {static_cast<T*>(array.mutable_data()), stride(array, 0), stride(array, 1)};
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
