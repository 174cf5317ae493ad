// The extension module ppo_fast._core: registers the rooms, nothing else.
#include "bind.h"

PYBIND11_MODULE(_core, m, pybind11::mod_gil_not_used()) {
  m.doc() = "Native kernels of ppo_fast; use them through the Python modules.";
  ppo::bind_support(m);
  ppo::bind_advantage(m);
  ppo::bind_distributions(m);
  ppo::bind_envs(m);
  ppo::bind_learner(m);
  ppo::bind_surrogate(m);
}
