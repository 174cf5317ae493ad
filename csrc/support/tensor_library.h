// The library whose tensors kernels on a device take, torch: what every call asks of it, looked up once.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <type_traits>

#include "support/c_attribute.h"
#include "support/tensors.h"

namespace ppo {

namespace py = pybind11;

class TensorLibrary {
 public:
  // empty(shape, strides, dtype, device) makes a tensor; empty_here(shape, strides, dtype) one on the current device, or is
  // None. dtypes are float32, float64, int64 and uint8.
  TensorLibrary(const py::type& tensor, const py::object& empty, const py::object& empty_here,
                const py::tuple& dtypes)
      : exchange_api_(tensor.attr("__dlpack_c_exchange_api__")),
        api_(tensors::exchange_api(exchange_api_)),
        requires_grad_(tensor, "requires_grad"),
        empty_(empty),
        empty_here_(empty_here),
        float32_(dtypes[0]),
        float64_(dtypes[1]),
        int64_(dtypes[2]),
        uint8_(dtypes[3]) {}

  const tensors::dlpack::ExchangeApi& api() const { return api_; }
  bool requires_grad(const py::handle& tensor) const {
    return requires_grad_.of(tensor).ptr() != Py_False;
  }

  // What tells of tensors of T; strides in items.
  template <typename T>
  py::tuple form(py::ssize_t ndim, const py::ssize_t* shape, const py::ssize_t* strides) const {
    return stolen(PyTuple_Pack(3, tuple_of(ndim, shape).ptr(), tuple_of(ndim, strides).ptr(),
                               dtype_of<T>().ptr()));
  }
  // A tensor whose elements are anything, on a device, which may be the current one.
  py::object empty(const py::tuple& form, int device, bool here) const {
    if (here && !empty_here_.is_none()) {
      return stolen(PyObject_Call(empty_here_.ptr(), form.ptr(), nullptr));
    }
    return empty_(form[0], form[1], form[2], device);
  }

 private:
  template <typename T>
  const py::object& dtype_of() const {
    if constexpr (std::is_same_v<T, float>) {
      return float32_;
    } else if constexpr (std::is_same_v<T, double>) {
      return float64_;
    } else if constexpr (std::is_same_v<T, std::int64_t>) {
      return int64_;
    } else {
      static_assert(std::is_same_v<T, std::uint8_t>);
      return uint8_;
    }
  }
  static py::object stolen(PyObject* object) {
    if (object == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(object);
  }
  static py::tuple tuple_of(py::ssize_t size, const py::ssize_t* numbers) {
    py::tuple result(size);
    for (py::ssize_t k = 0; k < size; ++k) {
      PyTuple_SET_ITEM(result.ptr(), k, PyLong_FromSsize_t(numbers[k]));
    }
    return result;
  }

  py::capsule exchange_api_;
  const tensors::dlpack::ExchangeApi& api_;
  CAttribute requires_grad_;
  py::object empty_;
  py::object empty_here_;
  py::object float32_;
  py::object float64_;
  py::object int64_;
  py::object uint8_;
};

// What use_tensors set. It is never freed: nothing says when the last call is over.
inline TensorLibrary*& tensor_library_place() {
  static TensorLibrary* library = nullptr;
  return library;
}
inline const TensorLibrary& tensor_library() {
  if (tensor_library_place() == nullptr) throw std::logic_error("use_tensors was not called");
  return *tensor_library_place();
}

}  // namespace ppo
