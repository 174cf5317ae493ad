// Arguments as they come from Python: arrays of NumPy's, tensors on a device, and whatever else. Kernels are called through
// one description of them all, so that a tensor need not become an array of NumPy's, which would take longer than to read it.
#pragma once

#include <pybind11/gil_safe_call_once.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

namespace ppo::arrays {

namespace py = pybind11;

// Axes that an array's description has; of an array of more, only the number of axes is known.
inline constexpr py::ssize_t kMostAxes = 3;

// Where the elements of an array are, of which type and in which shape, as it was when it came. It owns nothing.
class Array {
 public:
  Array() = default;

  // NumPy's, whose strides are counted in bytes.
  Array(const py::array& array)
      : object_(array), data_(array.data()), writable_(array.writeable()) {
    const py::dtype dtype = array.dtype();
    itemsize_ = static_cast<int>(dtype.itemsize());
    if (dtype.byteorder() != '>') kind_ = dtype.kind();
    const auto item = static_cast<unsigned>(itemsize_);
    aligned_ = std::has_single_bit(item) && reinterpret_cast<std::uintptr_t>(data_) % item == 0;
    const int shift = std::countr_zero(item);
    const py::ssize_t* bytes = array.strides();
    set_axes(array.ndim(), array.shape(), [&](py::ssize_t axis) {
      aligned_ = aligned_ && (bytes[axis] & (item - 1)) == 0;
      return bytes[axis] >> shift;
    });
  }

  // A tensor's memory on a device, of which nothing may be read here.
  Array(const py::handle& tensor, char kind, int itemsize, const void* data, py::ssize_t ndim,
        const std::int64_t* shape, const std::int64_t* strides)
      : object_(tensor),
        data_(data != nullptr ? data : &kNothing),
        itemsize_(itemsize),
        kind_(kind),
        on_device_(true) {
    set_axes(ndim, shape, [&](py::ssize_t axis) { return strides[axis]; });
  }

  py::handle object() const { return object_; }
  const void* data() const { return data_; }  // never null: that stands for an absent argument
  void* mutable_data() const { return const_cast<void*>(data_); }
  py::ssize_t ndim() const { return ndim_; }
  py::ssize_t shape(py::ssize_t axis) const { return shape_[axis]; }
  std::ptrdiff_t strides(py::ssize_t axis) const { return strides_[axis]; }  // in items
  std::vector<py::ssize_t> shape() const { return {shape_, shape_ + ndim_}; }
  py::ssize_t size() const { return size_; }
  py::ssize_t itemsize() const { return itemsize_; }
  bool is_aligned() const { return aligned_; }        // to its items, as are strides
  bool is_contiguous() const { return contiguous_; }  // in the order of C, without gaps
  bool writable() const { return writable_; }
  bool on_device() const { return on_device_; }

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
  // Copies: NumPy's could be freed by whoever gives the array another shape.
  template <typename Size, typename Stride>
  void set_axes(py::ssize_t ndim, const Size* shape, const Stride& stride_of) {
    ndim_ = static_cast<int>(ndim);
    for (py::ssize_t axis = ndim - 1; axis >= 0; --axis) {
      const std::ptrdiff_t stride = stride_of(axis);
      contiguous_ = contiguous_ && (shape[axis] == 1 || stride == size_);
      size_ *= shape[axis];
      if (axis >= kMostAxes) continue;
      shape_[axis] = shape[axis];
      strides_[axis] = stride;
    }
    contiguous_ = contiguous_ || size_ == 0;
  }

  alignas(64) static constexpr char kNothing = 0;  // where a tensor without elements is

  py::handle object_;
  const void* data_ = nullptr;
  py::ssize_t size_ = 1;
  py::ssize_t shape_[kMostAxes];
  std::ptrdiff_t strides_[kMostAxes];
  int ndim_ = 0;
  int itemsize_ = 1;
  char kind_ = '\0';  // as NumPy names it; none where kernels take no such items
  bool aligned_ = true;
  bool contiguous_ = true;
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
