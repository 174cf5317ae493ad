// Python face of the native environments: _core.VectorEnv and _core.native_envs.
#include <atomic>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/stl.h>

#include "bind.h"
#include "envs/vector_env.h"
#include "support/arrays.h"
#include "support/numpy_random.h"

namespace ppo {
namespace {

namespace py = pybind11;
using arrays::Argument;

// Output arrays of step(): an array is handed out again only once nobody holds it or a view of it
// any more, so an observation that was kept never changes, and a loop that keeps nothing allocates
// nothing.
class ArrayRing {
 public:
  ArrayRing(py::dtype dtype, std::vector<py::ssize_t> shape)
      : dtype_(std::move(dtype)), shape_(std::move(shape)) {}

  py::array take() {
    for (const py::array& array : kept_) {
      if (is_free(array)) return array;
    }
    py::array fresh(dtype_, shape_);
    if (kept_.size() < kMost) {
      kept_.push_back(fresh);
    } else {
      kept_[next_++ % kMost] = fresh;
    }
    return fresh;
  }

 private:
  static constexpr std::size_t kMost = 4;

  static bool is_free(const py::array& array) {
#if defined(Py_GIL_DISABLED) && PY_VERSION_HEX >= 0x030E0000
    return PyUnstable_Object_IsUniquelyReferenced(array.ptr()) != 0;
#else
    return array.ref_count() == 1;
#endif
  }

  py::dtype dtype_;
  std::vector<py::ssize_t> shape_;
  std::vector<py::array> kept_;
  std::size_t next_ = 0;
};

// Copies actions of integer type T into the engine's slots; returns the first one out of range, or
// -1.
template <typename T>
std::ptrdiff_t copy_actions(const py::array& from, std::ptrdiff_t stride, std::int64_t count,
                            std::span<std::int32_t> to) {
  const View1<const T> view{static_cast<const T*>(from.data()), stride};
  const std::ptrdiff_t size = static_cast<std::ptrdiff_t>(to.size());
  bool valid = true;
  for (std::ptrdiff_t i = 0; i < size; ++i) {
    const T action = view[i];
    to[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(action);
    valid &= static_cast<std::uint64_t>(action) < static_cast<std::uint64_t>(count);
  }
  if (valid) return -1;
  std::ptrdiff_t i = 0;
  while (static_cast<std::uint64_t>(view[i]) < static_cast<std::uint64_t>(count)) ++i;
  return i;
}

class PyVectorEnv {
 public:
  PyVectorEnv(const std::string& name, std::ptrdiff_t num_envs, std::optional<int> num_threads,
              int autoreset, std::optional<std::int64_t> max_episode_steps)
      : env_(require_env(name), require_count(num_envs), require_threads(num_threads),
             static_cast<Autoreset>(autoreset), require_limit(max_episode_steps)),
        obs_(scalar(), {num_envs, env_.table().obs_size}),
        final_obs_(scalar(), {num_envs, env_.table().obs_size}),
        rewards_(py::dtype::of<double>(), {num_envs}),
        terminated_(py::dtype::of<bool>(), {num_envs}),
        truncated_(py::dtype::of<bool>(), {num_envs}) {}

  py::array reset(const py::list& seeds, const std::optional<py::array>& selected, double low,
                  double high) {
    const InUse in_use(*this);
    const std::size_t n = static_cast<std::size_t>(env_.num_envs());
    std::vector<std::uint64_t> words(4 * n);
    std::vector<std::uint8_t> reseed(n, 0);
    std::vector<std::uint8_t> mask(n, 1);
    for (std::size_t i = 0; i < n; ++i) {
      const py::object seed = seeds[i];
      if (seed.is_none()) continue;
      seed_from_int(seed, &words[4 * i]);
      reseed[i] = 1;
    }
    if (selected) std::memcpy(mask.data(), selected->data(), n);
    py::array obs = obs_.take();
    StepOutputs out;
    out.obs = obs.mutable_data();
    out.obs_stride = env_.table().obs_size;
    {
      const arrays::ReleaseGil release(env_.num_envs() > 256);
      env_.reset({words.data(), reseed.data(), mask.data(), low, high}, out);
    }
    return obs;
  }

  // (obs, rewards, terminated, truncated, final_obs); final_obs is None where no episode ended.
  py::tuple step(const py::handle& actions) {
    const InUse in_use(*this);
    load_actions("step", actions);
    py::array obs = obs_.take();
    py::array rewards = rewards_.take();
    py::array terminated = terminated_.take();
    py::array truncated = truncated_.take();
    StepOutputs out;
    out.obs = obs.mutable_data();
    out.obs_stride = env_.table().obs_size;
    out.rewards = rewards.mutable_data();
    out.terminated = static_cast<bool*>(terminated.mutable_data());
    out.truncated = static_cast<bool*>(truncated.mutable_data());
    py::object final_obs = py::none();
    if (env_.autoreset() == Autoreset::kSameStep) {
      py::array rows = final_obs_.take();
      out.final_obs = rows.mutable_data();
      out.final_obs_stride = env_.table().obs_size;
      final_obs = std::move(rows);
    }
    if (run(out) == 0) final_obs = py::none();
    return py::make_tuple(std::move(obs), std::move(rewards), std::move(terminated),
                          std::move(truncated), std::move(final_obs));
  }

  std::ptrdiff_t step_into(const py::handle& actions, const py::handle& obs,
                           const py::handle& rewards, const py::handle& terminated,
                           const py::handle& truncated, const py::handle& final_obs) {
    const InUse in_use(*this);
    StepOutputs out;
    out.obs = observation_rows("obs", obs, out.obs_stride);
    if (!final_obs.is_none()) {
      out.final_obs = observation_rows("final_obs", final_obs, out.final_obs_stride);
    }
    const Argument rewards_argument{"step_into", "rewards"};
    py::array rewards_array = rewards_argument.array(rewards);
    out.rewards_are_float32 = Argument::holds<float>(rewards_array);
    if (!out.rewards_are_float32 && !Argument::holds<double>(rewards_array)) {
      rewards_argument.type_error("must be float32 or float64, got " +
                                  arrays::dtype_text(rewards_array));
    }
    out.rewards = column(rewards_argument, rewards_array, out.rewards_stride);
    out.terminated = flags("terminated", terminated, out.terminated_stride);
    out.truncated = flags("truncated", truncated, out.truncated_stride);
    if (out.terminated == out.truncated) {
      Argument{"step_into", "truncated"}.value_error("must not be the memory of terminated");
    }
    if (out.final_obs == out.obs) {
      Argument{"step_into", "final_obs"}.value_error("must not be the memory of obs");
    }
    load_actions("step_into", actions);
    return run(out);
  }

  py::array_t<std::uint8_t> get_state() {
    const InUse in_use(*this);
    const std::span<std::byte> bytes = env_.state();
    py::array_t<std::uint8_t> copy(static_cast<py::ssize_t>(bytes.size()));
    std::memcpy(copy.mutable_data(), bytes.data(), bytes.size());
    return copy;
  }

  void set_state(const py::handle& state) {
    const InUse in_use(*this);
    const Argument argument{"set_state", "state"};
    const py::array array = argument.array(state);
    const std::span<std::byte> bytes = env_.state();
    if (!Argument::holds<std::uint8_t>(array))
      argument.type_error("must be uint8, as get_state gave it");
    argument.require_shape(array, {static_cast<py::ssize_t>(bytes.size())},
                           "(the state of as many environments of the same kind)");
    if (argument.stride(array, 0) != 1) argument.value_error("must be contiguous");
    std::memcpy(bytes.data(), array.data(), bytes.size());
  }

  bool set_param(const std::string& name, const py::handle& value) {
    for (int i = 0; i < env_.table().num_fields; ++i) {
      const EnvField& field = env_.table().fields[i];
      if (name != field.name) continue;
      if (!py::isinstance<py::bool_>(value)) {
        Argument{"make_vec", field.name}.type_error("must be a bool, got " +
                                                    arrays::describe(value));
      }
      env_.set_param(field, value.cast<bool>());
      return true;
    }
    return false;
  }

  int num_threads() const { return env_.num_threads(); }
  const EnvTable& table() const { return env_.table(); }

 private:
  // Marks the environment as in use for the length of a call: the GIL may be released inside.
  class InUse {
   public:
    explicit InUse(PyVectorEnv& self) : self_(self) {
      if (self_.in_use_.exchange(true)) {
        throw std::runtime_error(
            "this environment is being stepped by another thread; give each thread its own");
      }
    }
    ~InUse() { self_.in_use_.store(false); }

   private:
    PyVectorEnv& self_;
  };

  static const EnvTable& require_env(const std::string& name) {
    const EnvTable* table = find_env(name);
    if (table == nullptr) throw py::value_error("there is no native environment named " + name);
    return *table;
  }
  static std::ptrdiff_t require_count(std::ptrdiff_t num_envs) {
    if (num_envs < 1) {
      throw py::value_error("make_vec: num_envs must be at least 1, got " +
                            std::to_string(num_envs));
    }
    return num_envs;
  }
  static int require_threads(std::optional<int> num_threads) {
    if (num_threads && *num_threads < 1) {
      throw py::value_error("make_vec: num_threads must be at least 1, or None to choose, got " +
                            std::to_string(*num_threads));
    }
    return num_threads.value_or(0);
  }
  static std::int32_t require_limit(std::optional<std::int64_t> limit) {
    constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
    if (limit && (*limit < 1 || *limit > kMost)) {
      throw py::value_error("make_vec: max_episode_steps must be from 1 to " +
                            std::to_string(kMost) + ", or None for no limit, got " +
                            std::to_string(*limit));
    }
    return static_cast<std::int32_t>(limit.value_or(0));
  }

  static void seed_from_int(const py::object& seed, std::uint64_t words[4]) {
    // Little-endian bytes of the integer, in whole 32-bit words, as SeedSequence cuts it.
    const std::size_t bits = seed.attr("bit_length")().cast<std::size_t>();
    const std::size_t count = bits == 0 ? 1 : (bits + 31) / 32;
    const std::string bytes = py::bytes(seed.attr("to_bytes")(4 * count, "little"));
    std::vector<std::uint32_t> entropy(count, 0);
    for (std::size_t i = 0; i < 4 * count; ++i) {
      entropy[i / 4] |= static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[i]))
                        << (8 * (i % 4));
    }
    seed_words(entropy.data(), count, words);
  }

  py::dtype scalar() const {
    return env_.table().obs_is_float32 ? py::dtype::of<float>() : py::dtype::of<double>();
  }

  std::ptrdiff_t run(const StepOutputs& out) {
    const arrays::ReleaseGil release(env_.step_nanoseconds() > 10'000);
    return env_.step(out);
  }

  void load_actions(const char* function, const py::handle& actions) {
    const Argument argument{function, "actions"};
    py::array array;
    if (py::isinstance<py::array>(actions)) {
      array = py::reinterpret_borrow<py::array>(actions);
    } else if (py::isinstance<py::list>(actions) || py::isinstance<py::tuple>(actions)) {
      array = py::array::ensure(actions);
      if (!array) argument.type_error("must be a flat list of one integer per environment");
    } else {
      argument.type_error("must be an array of one integer per environment, got " +
                          arrays::describe(actions));
    }
    const std::ptrdiff_t n = env_.num_envs();
    if (array.ndim() == 0) {
      argument.type_error("must be an array of one integer per environment, got a scalar");
    }
    argument.require_shape(array, {n}, "(one action per environment)");
    const std::ptrdiff_t stride = argument.stride(array, 0);
    const std::int64_t count = env_.table().num_actions;
    const std::span<std::int32_t> slots = env_.actions();
    std::ptrdiff_t bad;
    if (Argument::holds<std::int64_t>(array)) {
      bad = copy_actions<std::int64_t>(array, stride, count, slots);
    } else if (Argument::holds<std::int32_t>(array)) {
      bad = copy_actions<std::int32_t>(array, stride, count, slots);
    } else if (Argument::holds<std::uint8_t>(array)) {
      bad = copy_actions<std::uint8_t>(array, stride, count, slots);
    } else if (array.dtype().kind() == 'i' || array.dtype().kind() == 'u') {
      const py::array wide = py::array_t<std::int64_t, py::array::forcecast>::ensure(array);
      bad = copy_actions<std::int64_t>(wide, argument.stride(wide, 0), count, slots);
    } else {
      argument.type_error("must be integers, got " + arrays::dtype_text(array) +
                          "; cast with actions.astype(np.int64)");
    }
    if (bad >= 0) {
      argument.value_error("must be in [0, " + std::to_string(count) + "), got " +
                           py::str(array.attr("item")(bad)).cast<std::string>() +
                           " for environment " + std::to_string(bad));
    }
    if (env_.autoreset() == Autoreset::kDisabled) {
      const std::ptrdiff_t over = env_.first_over();
      if (over >= 0) {
        throw py::value_error(
            std::string(function) + ": the episode of environment " + std::to_string(over) +
            " is over; reset it with options={'reset_mask': terminated | truncated}");
      }
    }
  }

  void* observation_rows(const char* name, const py::handle& object, std::ptrdiff_t& stride) {
    const Argument argument{"step_into", name};
    py::array array = argument.array(object);
    if (!array.dtype().equal(scalar())) {
      argument.type_error("must be " + py::str(scalar()).cast<std::string>() + ", got " +
                          arrays::dtype_text(array));
    }
    argument.require_shape(array, {env_.num_envs(), env_.table().obs_size}, "");
    argument.require_writable(array);
    stride = argument.stride(array, 0);
    if (argument.stride(array, 1) != 1) {
      argument.value_error("must have contiguous rows (its last axis has a stride)");
    }
    return array.mutable_data();
  }

  void* column(const Argument& argument, py::array& array, std::ptrdiff_t& stride) {
    argument.require_shape(array, {env_.num_envs()}, "");
    argument.require_writable(array);
    stride = argument.stride(array, 0);
    return array.mutable_data();
  }

  bool* flags(const char* name, const py::handle& object, std::ptrdiff_t& stride) {
    const Argument argument{"step_into", name};
    py::array array = argument.array(object);
    if (!Argument::holds<bool>(array)) {
      argument.type_error("must be bool, got " + arrays::dtype_text(array));
    }
    return static_cast<bool*>(column(argument, array, stride));
  }

  VectorEnv env_;
  ArrayRing obs_;
  ArrayRing final_obs_;
  ArrayRing rewards_;
  ArrayRing terminated_;
  ArrayRing truncated_;
  std::atomic<bool> in_use_{false};
};

py::dict describe_env(const EnvTable& table) {
  py::list fields;
  for (int i = 0; i < table.num_fields; ++i) fields.append(table.fields[i].name);
  py::dict info;
  info["obs_size"] = table.obs_size;
  info["obs_dtype"] = table.obs_is_float32 ? "float32" : "float64";
  info["num_actions"] = table.num_actions;
  info["reset_bounds"] = py::make_tuple(table.reset_low, table.reset_high);
  info["params"] = py::tuple(fields);
  return info;
}

py::dict native_envs() {
  py::dict result;
  const EnvTable* const* tables = PPO_SELECT_ISA(env_tables).begin;
  for (; *tables != nullptr; ++tables) result[(*tables)->name] = describe_env(**tables);
  return result;
}

}  // namespace

void bind_envs(py::module_& m) {
  m.def("native_envs", &native_envs);
  py::class_<PyVectorEnv>(m, "VectorEnv")
      .def(py::init<const std::string&, std::ptrdiff_t, std::optional<int>, int,
                    std::optional<std::int64_t>>(),
           py::arg("name"), py::arg("num_envs"), py::arg("num_threads"), py::arg("autoreset"),
           py::arg("max_episode_steps"))
      .def("reset", &PyVectorEnv::reset, py::arg("seeds"), py::arg("selected"), py::arg("low"),
           py::arg("high"))
      .def("step", &PyVectorEnv::step, py::arg("actions"))
      .def("step_into", &PyVectorEnv::step_into, py::arg("actions"), py::arg("obs"),
           py::arg("rewards"), py::arg("terminated"), py::arg("truncated"), py::arg("final_obs"))
      .def("get_state", &PyVectorEnv::get_state)
      .def("set_state", &PyVectorEnv::set_state, py::arg("state"))
      .def("set_param", &PyVectorEnv::set_param, py::arg("name"), py::arg("value"))
      .def_property_readonly("num_threads", &PyVectorEnv::num_threads);
}

}  // namespace ppo
