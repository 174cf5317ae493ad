// _cuda.load_env, find_env and step_env: environments whose state is in the memory of a device.
#include <limits>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "bind.h"
#include "envs/cuda.h"
#include "envs/library.h"
#include "envs/scalar_type.h"
#include "ppo_fast/env.h"
#include "support/arrays.h"
#include "support/device_tensors.h"
#include "support/shared_library.h"

namespace ppo {
namespace {

using arrays::Argument;

constexpr const char* kStep = "step";

void require_contiguous(const Argument& argument, const Array& array) {
  if (!array.is_contiguous()) {
    argument.value_error("must be contiguous");
  }
}

// [num_envs] of T.
template <typename T>
T* per_env(const char* name, const Given& given, std::ptrdiff_t num_envs) {
  const Argument argument{kStep, name};
  const Array& array = argument.array(given);
  argument.require_output_dtype<T>(array, "the environment");
  argument.require_shape(array, {num_envs}, "(one per environment)");
  require_contiguous(argument, array);
  return static_cast<T*>(array.mutable_data());
}

void* observations(const char* name, const Given& given, const EnvTable& env,
                   std::ptrdiff_t num_envs) {
  const Argument argument{kStep, name};
  const Array& array = argument.array(given);
  if (!has_type(array, env.obs_type)) {
    argument.type_error("must have the dtype of the observations, got " +
                        arrays::dtype_text(array));
  }
  if (array.size() != num_envs * env.obs_size || array.shape(0) != num_envs) {
    argument.value_error("must have a row per environment (" + std::to_string(num_envs) +
                         ") of the observation's shape, got " + arrays::shape_text(array));
  }
  require_contiguous(argument, array);
  return array.mutable_data();
}

std::pair<const void*, ActionType> read_actions(const Given& given, const EnvTable& env,
                                                std::ptrdiff_t num_envs) {
  const Argument argument{kStep, "actions"};
  const Array& array = argument.array(given);
  require_contiguous(argument, array);
  if (env.num_actions > 0) {
    argument.require_shape(array, {num_envs}, "(one per environment)");
    if (array.holds<std::int64_t>()) return {array.data(), ActionType::kInt64};
    if (array.holds<std::int32_t>()) return {array.data(), ActionType::kInt32};
    argument.type_error("must be int64 or int32, got " + arrays::dtype_text(array));
  }
  if (!array.holds<float>()) {
    argument.type_error("must be float32, got " + arrays::dtype_text(array) +
                        "; cast with actions.float()");
  }
  if (array.size() != num_envs * env.action_size || array.shape(0) != num_envs) {
    argument.value_error("must have shape (" + std::to_string(num_envs) + ", " +
                         std::to_string(env.action_size) + "), got " + arrays::shape_text(array));
  }
  return {array.data(), ActionType::kFloat32};
}

std::mutex mutex;

std::map<std::string, const CudaEnvTable*, std::less<>>& loaded() {
  static std::map<std::string, const CudaEnvTable*, std::less<>> tables;
  return tables;
}

// Opens a library that nvcc made of a header with PPO_FAST_ENV; as load_env of envs/library.h.
void load_cuda_env(const std::string& path) {
  const auto get_table = library_function<const CudaEnvTable*()>(path, "ppo_fast_cuda_env");
  if (get_table == nullptr) {
    throw std::runtime_error(path + " holds no environment for the GPU: nvcc did not compile it");
  }
  const CudaEnvTable* table = get_table();
  require_same_abi(path, *table->env);
  const std::lock_guard<std::mutex> lock(mutex);
  loaded()[table->env->name] = table;
}

constexpr const char* kEnvCapsule = "ppo::CudaEnvTable";

// A loaded environment or a built-in one; None if there is none of that name.
py::object cuda_env(const std::string& name) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = loaded().find(name);
  const CudaEnvTable* table = found == loaded().end() ? find_cuda_env(name) : found->second;
  if (table == nullptr) return py::none();
  return py::capsule(table, kEnvCapsule);
}

// batch: (tiles uint8, params uint8 [1 or num_envs, bytes], num_envs, autoreset, max_episode_steps); given: (actions,
// obs, rewards, terminated, truncated, final_obs, episode_returns, episode_lengths), of which the last three may be None.
void step_env(const py::capsule& handle, const py::tuple& batch, const py::tuple& given) {
  const auto* table = static_cast<const CudaEnvTable*>(handle.get_pointer());
  DeviceTensors tensors;
  const std::vector<Given> state = tensors.all(batch);
  const std::vector<Given> a = tensors.all(given);
  const Array& tiles = state[0].array();
  const Array& params = state[1].array();
  EnvBatch envs;
  envs.tiles = tiles.mutable_data();
  envs.num_envs = state[2].object().cast<std::ptrdiff_t>();
  envs.params = params.data();
  envs.params_stride = params.shape(0) > 1 ? static_cast<std::size_t>(params.shape(1)) : 0;
  envs.autoreset = static_cast<Autoreset>(state[3].object().cast<int>());
  const auto limit = state[4].object().cast<std::int32_t>();
  envs.max_episode_steps = limit > 0 ? limit : std::numeric_limits<std::int32_t>::max();

  const EnvTable& env = *table->env;
  if (tiles.size() !=
      static_cast<py::ssize_t>(env.tile_bytes) * ((envs.num_envs + kTile - 1) / kTile)) {
    throw py::value_error(
        std::string("step: the state of ") + env.name +
        " is laid out otherwise on the CPU and on the GPU; build both of one header");
  }
  const auto [actions, type] = read_actions(a[0], env, envs.num_envs);
  StepOutputs out;
  out.obs = observations("obs", a[1], env, envs.num_envs);
  out.obs_stride = out.final_obs_stride = env.obs_size;
  const Argument rewards{kStep, "rewards"};
  out.rewards_are_float32 = rewards.is_float32(rewards.array(a[2]));
  out.rewards = out.rewards_are_float32
                    ? static_cast<void*>(per_env<float>("rewards", a[2], envs.num_envs))
                    : per_env<double>("rewards", a[2], envs.num_envs);
  out.terminated = per_env<bool>("terminated", a[3], envs.num_envs);
  out.truncated = per_env<bool>("truncated", a[4], envs.num_envs);
  if (!a[5].is_none()) out.final_obs = observations("final_obs", a[5], env, envs.num_envs);
  if (!a[6].is_none()) {
    out.episode_returns = per_env<double>("episode_returns", a[6], envs.num_envs);
    out.episode_lengths = per_env<std::int64_t>("episode_lengths", a[7], envs.num_envs);
  }
  const int error = table->step(envs, actions, type, out, tensors.stream());
  require_started(kStep, static_cast<cudaError_t>(error));
}

}  // namespace

void bind_cuda_envs(py::module_& m) {
  m.def("load_env", &load_cuda_env, py::arg("path"));
  m.def("find_env", &cuda_env, py::arg("name"));
  m.def("step_env", &step_env, py::arg("env"), py::arg("batch"), py::arg("given"));
}

}  // namespace ppo
