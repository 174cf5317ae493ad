// The tensors of a call on their way to a CUDA device, and the stream that it runs on.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

#include "support/tensors.h"

// As DLPack numbers devices: CUDA. Tests without a GPU have the CPU in its place.
#ifndef PPO_DEVICE_TYPE
#define PPO_DEVICE_TYPE 2
#endif

namespace ppo {

namespace py = pybind11;

// The stream on which a library works now. Its device is the current one as long as this lives.
class CurrentStream {
 public:
  CurrentStream(const tensors::dlpack::ExchangeApi& api, int device) {
    void* stream = nullptr;
    if (api.current_stream(PPO_DEVICE_TYPE, device, &stream) != 0) throw py::error_already_set();
    stream_ = static_cast<cudaStream_t>(stream);
    int current = device;
    if (cudaGetDevice(&current) == cudaSuccess && current != device) {
      before_ = current;
      cudaSetDevice(device);  // what is wrong with it, the launch will say
    }
  }
  ~CurrentStream() {
    // Whether that could be done is nothing that a later launch should be told.
    if (before_ >= 0 && cudaSetDevice(before_) != cudaSuccess) cudaGetLastError();
  }
  CurrentStream(const CurrentStream&) = delete;
  CurrentStream& operator=(const CurrentStream&) = delete;

  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
  int before_ = -1;
};

// Tensors as arrays that name device memory: shape, strides and an address, of which nothing may be read here. All
// of them are on one device.
class DeviceTensors {
 public:
  explicit DeviceTensors(const py::capsule& exchange_api)
      : api_(tensors::exchange_api(exchange_api)) {}

  // Numbers, strings and None stay what they are.
  py::object array(const py::handle& object) {
    const bool is_plain =
        object.is_none() || arrays::is_scalar(object) || PyUnicode_Check(object.ptr());
    if (is_plain) return py::reinterpret_borrow<py::object>(object);
    const tensors::dlpack::Tensor tensor = tensors::tensor_of(api_, object);
    if (tensor.device_type != PPO_DEVICE_TYPE) throw py::type_error("a tensor is not on the GPU");
    if (device_ >= 0 && tensor.device_id != device_) {
      throw py::type_error("tensors are on several devices");
    }
    device_ = tensor.device_id;
    return tensors::array_of(tensor, object);
  }

  // Of a tuple, and of tuples in it.
  py::tuple arrays(const py::tuple& objects) {
    py::tuple result(objects.size());
    for (std::size_t k = 0; k < objects.size(); ++k) {
      const py::object object = objects[k];
      result[k] = py::isinstance<py::tuple>(object) ? arrays(object) : array(object);
    }
    return result;
  }

  // To start kernels on, in the expression that asks for it.
  CurrentStream stream() const { return CurrentStream(api_, device_); }

 private:
  const tensors::dlpack::ExchangeApi& api_;
  std::int32_t device_ = -1;
};

// Where the elements of an array of `DeviceTensors` are; null for None.
template <typename T>
T* address(const py::object& array) {
  if (array.is_none()) return nullptr;
  return static_cast<T*>(const_cast<void*>(py::reinterpret_borrow<py::array>(array).data()));
}

// Raises what kept a kernel from being started.
inline void require_started(const char* function, cudaError_t error) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string(function) + ": " + cudaGetErrorString(error));
}

}  // namespace ppo
