// The tensors of a call on their way to a CUDA device, and the stream that it runs on.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/given.h"
#include "support/tensors.h"

// As DLPack numbers devices: CUDA. Tests without a GPU have the CPU in its place.
#ifndef PPO_DEVICE_TYPE
#define PPO_DEVICE_TYPE 2
#endif

namespace ppo {

namespace py = pybind11;
using arrays::Array;
using arrays::Given;

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

// The tensors of a call, all of them on one device.
class DeviceTensors {
 public:
  explicit DeviceTensors(const py::capsule& exchange_api)
      : api_(tensors::exchange_api(exchange_api)) {}

  // Numbers, strings, None and tuples stay what they are.
  Given given(const py::handle& object) {
    const bool is_tensor = Py_TYPE(object.ptr()) == type_;  // the shortest way, most often
    const bool is_plain =
        !is_tensor && (object.is_none() || arrays::is_scalar(object) ||
                       PyUnicode_Check(object.ptr()) || PyTuple_CheckExact(object.ptr()));
    return is_plain ? Given(object) : Given(array(object));
  }
  std::vector<Given> all(const py::tuple& objects) {
    std::vector<Given> result;
    result.reserve(objects.size());
    for (const py::handle& object : objects) result.push_back(given(object));
    return result;
  }

  Array array(const py::handle& object) {
    const tensors::dlpack::Tensor tensor = tensors::tensor_of(api_, object);
    if (tensor.device_type != PPO_DEVICE_TYPE) throw py::type_error("a tensor is not on the GPU");
    if (device_ >= 0 && tensor.device_id != device_) {
      throw py::type_error("tensors are on several devices");
    }
    device_ = tensor.device_id;
    type_ = Py_TYPE(object.ptr());
    const char kind = kind_of(tensor);
    const void* data = static_cast<const char*>(tensor.data) + tensor.byte_offset;
    return Array(object, kind, tensor.type_bits / 8, data, tensor.ndim, tensor.shape,
                 tensor.strides);
  }

  // To start kernels on, in the expression that asks for it.
  CurrentStream stream() const { return CurrentStream(api_, device_); }

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

  const tensors::dlpack::ExchangeApi& api_;
  std::int32_t device_ = -1;
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
