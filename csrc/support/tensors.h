// Tensors of other libraries as NumPy arrays that share their memory, and back, by DLPack's exchange API:
// a table of C functions that a tensor type carries (DLPack 1.3, dlpack.h; torch has it from 2.10 on). A
// few tenths of a microsecond each, where a method call of the library takes twice as long.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace ppo::tensors {

namespace py = pybind11;

// The parts of dlpack.h that are used here.
namespace dlpack {

struct Tensor {
  void* data;
  std::int32_t device_type;
  std::int32_t device_id;
  std::int32_t ndim;
  std::uint8_t type_code;
  std::uint8_t type_bits;
  std::uint16_t type_lanes;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements
  std::uint64_t byte_offset;
};

// A tensor with an owner.
struct ManagedTensor {
  std::uint32_t major_version;
  std::uint32_t minor_version;
  void* owner;
  void (*release)(ManagedTensor* self);
  std::uint64_t flags;
  Tensor tensor;
};

struct ExchangeApi {
  std::uint32_t major_version;
  std::uint32_t minor_version;
  ExchangeApi* previous;
  void* managed_tensor_allocator;
  void* managed_tensor_from_object;
  int (*managed_tensor_to_object)(ManagedTensor* tensor, void** object);
  int (*tensor_from_object)(void* object, Tensor* out);
  int (*current_stream)(std::int32_t device_type, std::int32_t device_id, void** stream);
};

inline constexpr std::int32_t kCpu = 1;
inline constexpr std::uint32_t kMajorVersion = 1;
enum TypeCode : std::uint8_t { kInt = 0, kUint = 1, kFloat = 2, kBool = 6 };

}  // namespace dlpack

inline const dlpack::ExchangeApi& exchange_api(const py::capsule& capsule) {
  const auto* api = static_cast<const dlpack::ExchangeApi*>(
      PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  if (api == nullptr) throw py::error_already_set();
  if (api->major_version != dlpack::kMajorVersion) {
    throw py::type_error("an exchange API of another major version");
  }
  return *api;
}

// The types that kernels take; others raise TypeError.
inline py::dtype dtype_of(const dlpack::Tensor& tensor) {
  const auto is = [&](std::uint8_t code, int bits) {
    return tensor.type_code == code && tensor.type_bits == bits && tensor.type_lanes == 1;
  };
  if (is(dlpack::kFloat, 32)) return py::dtype::of<float>();
  if (is(dlpack::kFloat, 64)) return py::dtype::of<double>();
  if (is(dlpack::kBool, 8)) return py::dtype::of<bool>();
  if (is(dlpack::kInt, 8)) return py::dtype::of<std::int8_t>();
  if (is(dlpack::kUint, 8)) return py::dtype::of<std::uint8_t>();
  if (is(dlpack::kInt, 32)) return py::dtype::of<std::int32_t>();
  if (is(dlpack::kInt, 64)) return py::dtype::of<std::int64_t>();
  throw py::type_error("a tensor is neither float32, float64, int8, uint8, int32, int64 nor bool");
}

// Whether elements lie two by two, as the imaginary parts of complex numbers do, or there is but one: of their
// conjugates, torch keeps the sign apart, and the exchange API says nothing of it. To ask torch of each tensor would take an
// eighth of a call of gae. What as_strided makes of imaginary parts with odd strides is not seen.
inline bool may_be_imaginary(const dlpack::Tensor& tensor) {
  for (std::int32_t axis = 0; axis < tensor.ndim; ++axis) {
    if (tensor.shape[axis] > 1 && tensor.strides[axis] % 2 != 0) return false;
  }
  return true;
}

inline dlpack::Tensor tensor_of(const dlpack::ExchangeApi& api, const py::handle& object) {
  dlpack::Tensor tensor;
  if (api.tensor_from_object(object.ptr(), &tensor) != 0) {
    const py::error_already_set error;
    if (py::hasattr(object, "__dlpack_c_exchange_api__")) throw error;
    throw py::type_error("must be a tensor, got " + std::string(Py_TYPE(object.ptr())->tp_name));
  }
  if (may_be_imaginary(tensor) && py::cast<bool>(object.attr("is_neg")())) {
    throw py::type_error("a tensor has its negative bit set; pass tensor.resolve_neg()");
  }
  return tensor;
}

// An array of the memory of a tensor, which it keeps alive.
inline py::object as_array(const dlpack::ExchangeApi& api, const py::handle& object) {
  if (object.is_none()) return py::none();
  const dlpack::Tensor tensor = tensor_of(api, object);
  if (tensor.device_type != dlpack::kCpu) throw py::type_error("a tensor is not on the CPU");
  const py::dtype dtype = dtype_of(tensor);
  std::vector<py::ssize_t> shape(tensor.shape, tensor.shape + tensor.ndim);
  std::vector<py::ssize_t> strides(tensor.strides, tensor.strides + tensor.ndim);
  for (py::ssize_t& stride : strides) stride *= dtype.itemsize();
  const void* data = static_cast<const char*>(tensor.data) + tensor.byte_offset;
  return py::array(dtype, std::move(shape), std::move(strides), data, object);
}

// Arrays of the tensors in a tuple, None staying None. `capsule` is their type's
// __dlpack_c_exchange_api__.
inline py::tuple as_arrays(const py::capsule& capsule, const py::tuple& objects) {
  const dlpack::ExchangeApi& api = exchange_api(capsule);
  py::tuple arrays(objects.size());
  for (std::size_t k = 0; k < objects.size(); ++k) arrays[k] = as_array(api, objects[k]);
  return arrays;
}

// A contiguous array of ours as a tensor that keeps it alive.
inline py::object as_tensor(const dlpack::ExchangeApi& api, const py::array& array) {
  struct Owned : dlpack::ManagedTensor {
    py::array array;
    std::int64_t shape[2];
    std::int64_t strides[2];
  };
  auto owned = std::make_unique<Owned>();
  const int ndim = static_cast<int>(array.ndim());
  std::int64_t stride = 1;
  for (int k = ndim - 1; k >= 0; --k) {
    owned->shape[k] = array.shape(k);
    owned->strides[k] = stride;
    stride *= array.shape(k);
  }
  owned->array = array;
  owned->major_version = dlpack::kMajorVersion;
  owned->minor_version = 0;
  owned->owner = nullptr;
  owned->flags = 0;
  owned->tensor = {owned->array.mutable_data(),
                   dlpack::kCpu,
                   0,
                   ndim,
                   dlpack::kFloat,
                   static_cast<std::uint8_t>(8 * array.itemsize()),
                   1,
                   owned->shape,
                   owned->strides,
                   0};
  owned->release = [](dlpack::ManagedTensor* self) {
    const py::gil_scoped_acquire gil;  // the last owner may be a thread of the library's
    delete static_cast<Owned*>(self);
  };
  void* object = nullptr;
  if (api.managed_tensor_to_object(owned.get(), &object) != 0) throw py::error_already_set();
  owned.release();
  return py::reinterpret_steal<py::object>(static_cast<PyObject*>(object));
}

// Tensors of contiguous arrays of floats with at most two axes.
inline py::list as_tensors(const py::capsule& capsule, const py::list& arrays) {
  const dlpack::ExchangeApi& api = exchange_api(capsule);
  py::list tensors;
  for (const py::handle& array : arrays) {
    tensors.append(as_tensor(api, py::reinterpret_borrow<py::array>(array)));
  }
  return tensors;
}

}  // namespace ppo::tensors
