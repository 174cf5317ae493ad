// _cuda.devices, toolkit and architectures: what this build and this machine have; and use_tensors, of which library tensors are.
#include <cuda_runtime_api.h>
#include <pybind11/pybind11.h>

#include <string>

#include "bind.h"
#include "support/tensor_library.h"

namespace ppo {
namespace {

namespace py = pybind11;

// Devices that may be used, and why there are none.
py::tuple devices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess) return py::make_tuple(count, count == 0 ? "there is no device" : "");
  return py::make_tuple(0, cudaGetErrorString(error));
}

void use_tensors(const py::type& tensor, const py::object& empty, const py::object& empty_here,
                 const py::tuple& dtypes) {
  tensor_library_place() = new TensorLibrary(tensor, empty, empty_here, dtypes);
}

}  // namespace

void bind_cuda_support(py::module_& m) {
  m.def("devices", &devices);
  m.def("use_tensors", &use_tensors, py::arg("tensor"), py::arg("empty"), py::arg("empty_here"),
        py::arg("dtypes"));
  m.attr("toolkit") =
      std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10);
  m.attr("architectures") = PPO_CUDA_ARCHITECTURES;
}

}  // namespace ppo
