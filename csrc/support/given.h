// Arguments as they come from Python: arrays of NumPy's, tensors on a device, and whatever else. Kernels are called through
// one description of them all, so that a tensor need not become an array of NumPy's, which would take longer than to read it.
#pragma once

#include <pybind11/gil_safe_call_once.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <type_traits>
#include <utility>
#include <vector>

namespace ppo::arrays {

namespace py = pybind11;

// Where the elements of an array are, of which type and in which shape. It owns nothing.
class Array {
 public:
  Array() = default;

  // NumPy's.
  Array(const py::array& array)
      : object_(array),
        data_(array.data()),
        ndim_(array.ndim()),
        shape_(array.shape()),
        strides_(array.strides()),
        writable_(array.writeable()) {
    const py::dtype dtype = array.dtype();
    itemsize_ = dtype.itemsize();
    if (dtype.byteorder() != '>') kind_ = dtype.kind();
  }

  // A tensor's memory on a device, of which nothing may be read here. Strides are counted in elements.
  Array(const py::handle& tensor, char kind, py::ssize_t itemsize, const void* data,
        py::ssize_t ndim, const py::ssize_t* shape, const py::ssize_t* strides)
      : object_(tensor),
        data_(data),
        ndim_(ndim),
        shape_(shape),
        strides_(strides),
        stride_bytes_(itemsize),
        itemsize_(itemsize),
        kind_(kind),
        on_device_(true) {}

  py::handle object() const { return object_; }
  const void* data() const { return data_; }
  void* mutable_data() const { return const_cast<void*>(data_); }
  py::ssize_t ndim() const { return ndim_; }
  py::ssize_t shape(py::ssize_t axis) const { return shape_[axis]; }
  const py::ssize_t* shape() const { return shape_; }
  py::ssize_t strides(py::ssize_t axis) const { return strides_[axis] * stride_bytes_; }  // bytes
  py::ssize_t itemsize() const { return itemsize_; }
  bool writable() const { return writable_; }
  bool on_device() const { return on_device_; }

  py::ssize_t size() const {
    py::ssize_t product = 1;
    for (py::ssize_t axis = 0; axis < ndim_; ++axis) product *= shape_[axis];
    return product;
  }

  // In the order of C, without gaps.
  bool is_contiguous() const {
    py::ssize_t expected = itemsize_;
    bool result = true;
    for (py::ssize_t axis = ndim_ - 1; axis >= 0; --axis) {
      if (shape_[axis] == 0) return true;
      if (shape_[axis] == 1) continue;
      result = result && strides(axis) == expected;
      expected *= shape_[axis];
    }
    return result;
  }

  // Whether the items are native T, by kind and size (int64 has two type numbers on Linux).
  template <typename T>
  bool holds() const {
    constexpr char kind = std::is_same_v<T, bool>       ? 'b'
                          : std::is_floating_point_v<T> ? 'f'
                          : std::is_signed_v<T>         ? 'i'
                                                        : 'u';
    return kind_ == kind && itemsize_ == static_cast<py::ssize_t>(sizeof(T));
  }

 private:
  py::handle object_;
  const void* data_ = nullptr;
  py::ssize_t ndim_ = 0;
  const py::ssize_t* shape_ = nullptr;
  const py::ssize_t* strides_ = nullptr;
  py::ssize_t stride_bytes_ = 1;
  py::ssize_t itemsize_ = 1;
  char kind_ = '\0';  // as NumPy names it; none for items of another byte order
  bool writable_ = true;
  bool on_device_ = false;
};

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

// An argument, which is held as long as this lives.
class Given {
 public:
  Given() : object_(py::none()) {}

  // On the CPU, where arrays are NumPy's.
  Given(const py::handle& object) : object_(py::reinterpret_borrow<py::object>(object)) {
    if (object.is_none() || !py::isinstance<py::array>(object)) return;
    array_ = Array(py::reinterpret_borrow<py::array>(object));
    is_array_ = true;
  }

  // A tensor on a device.
  Given(const Array& array)
      : object_(py::reinterpret_borrow<py::object>(array.object())),
        array_(array),
        is_array_(true) {}

  const py::object& object() const { return object_; }
  bool is_none() const { return object_.is_none(); }
  bool is_array() const { return is_array_; }
  bool on_device() const { return is_array_ && array_.on_device(); }
  bool is_number() const { return !is_array_ && is_scalar(object_); }
  const Array& array() const { return array_; }  // of one that is an array

 private:
  py::object object_;
  Array array_;
  bool is_array_ = false;
};

// Those of a tuple, on the CPU.
inline std::vector<Given> all(const py::tuple& objects) {
  return std::vector<Given>(objects.begin(), objects.end());
}

}  // namespace ppo::arrays
