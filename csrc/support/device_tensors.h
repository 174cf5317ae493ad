// The tensors of a call on their way to a CUDA device, the memory that it needs there, and the stream that it runs on.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/given.h"
#include "support/tensor_library.h"
#include "support/tensors.h"

// As DLPack numbers devices: CUDA. Tests without a GPU have the CPU in its place.
#ifndef PPO_DEVICE_TYPE
#define PPO_DEVICE_TYPE 2
#endif

namespace ppo {

namespace py = pybind11;
using arrays::Array;
using arrays::Given;

// Has a device for the current one as long as this lives.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    int current = device;
    if (cudaGetDevice(&current) == cudaSuccess && current != device) {
      before_ = current;
      cudaSetDevice(device);  // what is wrong with it, the launch will say
    }
  }
  ~DeviceGuard() {
    // Whether that could be done is nothing that a later launch should be told.
    if (before_ >= 0 && cudaSetDevice(before_) != cudaSuccess) cudaGetLastError();
  }
  bool was_current() const { return before_ < 0; }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int before_ = -1;
};

// The tensors of a call, all of them on one device, which is the current one from the first of them on.
class DeviceTensors {
 public:
  // Numbers, strings, None, tuples and lists stay what they are.
  Given given(const py::handle& object) {
    const bool is_tensor = Py_TYPE(object.ptr()) == type_;  // the shortest way, most often
    const bool is_plain =
        !is_tensor &&
        (object.is_none() || arrays::is_scalar(object) || PyUnicode_Check(object.ptr()) ||
         PyTuple_CheckExact(object.ptr()) || PyList_CheckExact(object.ptr()));
    return is_plain ? Given(object) : Given(array(object));
  }
  std::vector<Given> all(const py::tuple& objects) {
    std::vector<Given> result;
    result.reserve(objects.size());
    for (const py::handle& object : objects) result.push_back(given(object));
    return result;
  }

  Array array(const py::handle& object) {
    const tensors::dlpack::Tensor tensor = tensors::tensor_of(library_.api(), object);
    if (tensor.device_type != PPO_DEVICE_TYPE) throw py::type_error("a tensor is not on the GPU");
    if (!guard_) guard_.emplace(device_ = tensor.device_id);
    if (tensor.device_id != device_) throw py::type_error("tensors are on several devices");
    type_ = Py_TYPE(object.ptr());
    const char kind = kind_of(tensor);
    const void* data = static_cast<const char*>(tensor.data) + tensor.byte_offset;
    return Array(object, kind, tensor.type_bits / 8, data, tensor.ndim, tensor.shape,
                 tensor.strides);
  }

  // New tensors: of a form that the library has, and in the order of C.
  Given made(const py::tuple& form) {
    return array(library_.empty(form, device_, guard_->was_current()));
  }
  template <typename T>
  Given made(const std::vector<py::ssize_t>& shape) {
    std::vector<py::ssize_t> strides(shape.size());
    py::ssize_t stride = 1;
    for (std::size_t k = shape.size(); k-- > 0;) {
      strides[k] = stride;
      stride *= std::max(shape[k], py::ssize_t{1});
    }
    return made(
        library_.form<T>(static_cast<py::ssize_t>(shape.size()), shape.data(), strides.data()));
  }

  // Scratch memory, None for no bytes. It may go once the kernels are on the stream: its library gives it to later work
  // on that stream only.
  Given memory(std::ptrdiff_t bytes) {
    if (bytes == 0) return {};
    return made<std::uint8_t>({static_cast<py::ssize_t>(bytes)});
  }

  const TensorLibrary& library() const { return library_; }

  // The one on which the library works now.
  cudaStream_t stream() const {
    void* stream = nullptr;
    if (library_.api().current_stream(PPO_DEVICE_TYPE, device_, &stream) != 0) {
      throw py::error_already_set();
    }
    return static_cast<cudaStream_t>(stream);
  }

 private:
  // As NumPy names it; none for what NumPy does not have, such as bfloat16.
  static char kind_of(const tensors::dlpack::Tensor& tensor) {
    using namespace tensors::dlpack;
    if (tensor.type_lanes != 1) return '\0';
    if (tensor.type_code == kFloat) return 'f';
    if (tensor.type_code == kBool) return 'b';
    if (tensor.type_code == kInt) return 'i';
    if (tensor.type_code == kUint) return 'u';
    return '\0';
  }

  const TensorLibrary& library_ = tensor_library();
  std::int32_t device_ = -1;
  std::optional<DeviceGuard> guard_;
  const PyTypeObject* type_ = nullptr;  // of the last tensor
};

// Where the elements of a tensor are; null for None.
template <typename T>
T* address(const Given& given) {
  return given.is_none() ? nullptr : static_cast<T*>(given.array().mutable_data());
}

// Raises what kept a kernel from being started.
inline void require_started(const char* function, cudaError_t error) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string(function) + ": " + cudaGetErrorString(error));
}

}  // namespace ppo
