// The extension module ppo_fast._cuda: registers the rooms that have kernels for the GPU, nothing else.
#include <pybind11/pybind11.h>

#include "bind.h"

PYBIND11_MODULE(_cuda, m, pybind11::mod_gil_not_used()) {
  m.doc() = "CUDA kernels of ppo_fast; use them through the Python modules.";
  ppo::bind_cuda_support(m);
  ppo::bind_cuda_advantage(m);
  ppo::bind_cuda_distributions(m);
  ppo::bind_cuda_envs(m);
  ppo::bind_cuda_surrogate(m);
}
