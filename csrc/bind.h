// What module.cpp and cuda_module.cpp call: one function per room.
#pragma once

#include <pybind11/pybind11.h>

namespace ppo {

void bind_support(pybind11::module_& m);
void bind_advantage(pybind11::module_& m);
void bind_distributions(pybind11::module_& m);
void bind_envs(pybind11::module_& m);
void bind_learner(pybind11::module_& m);
void bind_surrogate(pybind11::module_& m);

// Of _cuda.
void bind_cuda_support(pybind11::module_& m);
void bind_cuda_advantage(pybind11::module_& m);
void bind_cuda_distributions(pybind11::module_& m);
void bind_cuda_envs(pybind11::module_& m);
void bind_cuda_surrogate(pybind11::module_& m);

}  // namespace ppo
