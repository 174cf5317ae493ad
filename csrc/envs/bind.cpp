// Python face of the native environments: _core.VectorEnv and _core.native_envs.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/stl.h>

#include "bind.h"
#include "envs/builtin.h"
#include "envs/default_object.h"
#include "envs/held_vector_env.h"
#include "envs/library.h"
#include "envs/scalar_type.h"
#include "envs/vector_env.h"
#include "ppo_fast/random.h"
#include "support/arrays.h"

namespace ppo {
namespace {

namespace py = pybind11;
using arrays::Argument;
using arrays::Array;

// Output arrays of step(): an array is handed out again only once nobody holds it or a view of it
// any more, so an observation that was kept never changes, and a loop that keeps nothing allocates
// nothing.
class ArrayRing {
 public:
  ArrayRing(py::dtype dtype, std::vector<py::ssize_t> shape)
      : dtype_(std::move(dtype)), shape_(std::move(shape)) {}

  py::array take() {
    for (py::array& array : kept_) {
      if (!is_free(array)) continue;
      if (!is_intact(array)) array = py::array(dtype_, shape_);
      return array;
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

  // Whoever held it may have locked it or changed its shape in place.
  bool is_intact(const py::array& array) const {
    return array.writeable() && (array.flags() & py::array::c_style) != 0 &&
           std::equal(shape_.begin(), shape_.end(), array.shape(), array.shape() + array.ndim());
  }

  py::dtype dtype_;
  std::vector<py::ssize_t> shape_;
  std::vector<py::array> kept_;
  std::size_t next_ = 0;
};

// Copies actions of integer type T into the engine's slots; returns the first one out of range, or
// -1.
template <typename T>
std::ptrdiff_t copy_actions(const View1<const T>& from, std::int64_t count,
                            std::span<std::int32_t> to) {
  const T* data = from.data;
  const auto last = static_cast<std::uint64_t>(count - 1);
  // The top bit of an action below 0, and of last less an action above it. Without a branch or a
  // comparison, so that the loop is one of vectors.
  std::uint64_t wrong = 0;
  const auto copy = [&](std::ptrdiff_t step) {
    for (std::size_t i = 0; i < to.size(); ++i) {
      const auto action = static_cast<std::uint64_t>(data[static_cast<std::ptrdiff_t>(i) * step]);
      to[i] = static_cast<std::int32_t>(action);
      wrong |= action | (last - action);
    }
  };
  from.stride == 1 ? copy(1) : copy(from.stride);
  if (wrong >> 63 == 0) return -1;
  std::ptrdiff_t i = 0;
  while (static_cast<std::uint64_t>(from[i]) <= last) ++i;
  return i;
}

// The same for floats, of which only NaN is refused.
template <typename T>
std::ptrdiff_t copy_floats(const View2<const T>& from, std::ptrdiff_t elements,
                           std::span<float> to) {
  bool valid = true;
  for (std::size_t k = 0; k < to.size(); ++k) {
    const auto i = static_cast<std::ptrdiff_t>(k);
    to[k] = static_cast<float>(from(i / elements, i % elements));
    valid &= to[k] == to[k];
  }
  if (valid) return -1;
  std::size_t k = 0;
  while (to[k] == to[k]) ++k;
  return static_cast<std::ptrdiff_t>(k);
}

py::dtype dtype_of(ScalarType type) {
  switch (type) {
    case ScalarType::kFloat32:
      return py::dtype::of<float>();
    case ScalarType::kFloat64:
      return py::dtype::of<double>();
    case ScalarType::kUint8:
      return py::dtype::of<std::uint8_t>();
    default:
      return py::dtype::of<std::int32_t>();
  }
}

// Texts of a field of kind kChoice.
std::vector<std::string> choices_of(const EnvField& field) {
  std::vector<std::string> result{""};
  for (const char* c = field.choices; *c; ++c) {
    if (*c == '|') {
      result.emplace_back();
    } else {
      result.back() += *c;
    }
  }
  return result;
}

// A field's value on its way in; the function and the field's name go into errors.
double field_value(const char* function, const EnvField& field, const py::handle& value) {
  const Argument argument{function, field.name};
  switch (field.type) {
    case FieldType::kBool:
      return argument.boolean(value) ? 1.0 : 0.0;
    case FieldType::kInt:
      return static_cast<double>(argument.integer(value));
    case FieldType::kDouble:
      if (py::isinstance<py::bool_>(value)) argument.type_error("must be a number, got bool");
      return argument.number(value);
    case FieldType::kChoice:
      break;
  }
  const std::vector<std::string> texts = choices_of(field);
  std::string known;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (py::isinstance<py::str>(value) && value.cast<std::string>() == texts[i]) {
      return static_cast<double>(i);
    }
    known += (i == 0 ? "'" : ", '") + texts[i] + "'";
  }
  argument.value_error("must be one of " + known + ", got " + py::repr(value).cast<std::string>());
}

py::object field_object(const EnvField& field, double value) {
  switch (field.type) {
    case FieldType::kBool:
      return py::bool_(value != 0.0);
    case FieldType::kInt:
      return py::int_(static_cast<std::int64_t>(value));
    case FieldType::kDouble:
      return py::float_(value);
    case FieldType::kChoice:
      break;
  }
  return py::str(choices_of(field)[static_cast<std::size_t>(value)]);
}

// The place of a field, or -1.
int find_field(const EnvFields& fields, const std::string& name) {
  for (int i = 0; i < fields.count; ++i) {
    if (name == fields.describe(i).name) return i;
  }
  return -1;
}

std::vector<py::ssize_t> rows_shape(const EnvTable& table, std::ptrdiff_t num_envs) {
  std::vector<py::ssize_t> shape{num_envs};
  shape.insert(shape.end(), table.obs_shape, table.obs_shape + table.obs_ndim);
  return shape;
}

class PyVectorEnv : public HeldVectorEnv {
 public:
  PyVectorEnv(const std::string& name, std::ptrdiff_t num_envs, std::optional<int> num_threads,
              int autoreset, std::optional<std::int64_t> max_episode_steps, bool episode_stats)
      : HeldVectorEnv(require_env(name), require_count(num_envs), require_threads(num_threads),
                      static_cast<Autoreset>(autoreset), require_limit(max_episode_steps)),
        episode_stats_(episode_stats),
        obs_(scalar(), rows_shape(env_.table(), num_envs)),
        final_obs_(scalar(), rows_shape(env_.table(), num_envs)),
        rewards_(py::dtype::of<double>(), {num_envs}),
        terminated_(py::dtype::of<bool>(), {num_envs}),
        truncated_(py::dtype::of<bool>(), {num_envs}) {}

  // options: values by the names of the environment's reset options; other names are ignored.
  py::array reset(const py::list& seeds, const std::optional<py::array>& selected,
                  const py::dict& options) {
    const InUse in_use(*this);
    const EnvFields& fields = env_.table().options;
    std::vector<std::max_align_t> chosen = default_object(fields);
    for (int i = 0; i < fields.count; ++i) {
      const EnvField field = fields.describe(i);
      if (!options.contains(field.name)) continue;
      fields.set(chosen.data(), i, field_value("reset", field, options[field.name]));
    }
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
    noting_throws([&] {
      const arrays::ReleaseGil release(env_.num_envs() > 256);
      env_.reset({words.data(), reseed.data(), mask.data(), chosen.data()}, out);
    });
    if (!selected) threw_ = false;
    return obs;
  }

  // (obs, rewards, terminated, truncated, final_obs, stats). The last two are None where no episode
  // ended; stats is (returns, lengths) if asked for, with numbers where one did.
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
    py::object stats = py::none();
    if (episode_stats_) {
      py::array_t<double> returns(env_.num_envs());
      py::array_t<std::int64_t> lengths(env_.num_envs());
      out.episode_returns = returns.mutable_data();
      out.episode_lengths = lengths.mutable_data();
      std::fill_n(out.episode_returns, env_.num_envs(), 0.0);
      std::fill_n(out.episode_lengths, env_.num_envs(), 0);
      stats = py::make_tuple(std::move(returns), std::move(lengths));
    }
    if (run(out) == 0) final_obs = stats = py::none();
    return py::make_tuple(std::move(obs), std::move(rewards), std::move(terminated),
                          std::move(truncated), std::move(final_obs), std::move(stats));
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
    const Array rewards_array = rewards_argument.array(rewards);
    out.rewards_are_float32 = rewards_array.holds<float>();
    if (!out.rewards_are_float32 && !rewards_array.holds<double>()) {
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
    const Array array = argument.array(state);
    const std::span<std::byte> bytes = env_.state();
    if (!array.holds<std::uint8_t>()) argument.type_error("must be uint8, as get_state gave it");
    argument.require_shape(array, {static_cast<py::ssize_t>(bytes.size())},
                           "(the state of as many environments of the same kind)");
    if (argument.stride(array, 0) != 1) argument.value_error("must be contiguous");
    std::memcpy(bytes.data(), array.data(), bytes.size());
  }

  // The Params as the kernels have them: [1, bytes], or [N, bytes] where they differ.
  py::array_t<std::uint8_t> packed_params() {
    const InUse in_use(*this);
    const std::span<const std::byte> bytes = env_.params();
    const auto width = static_cast<py::ssize_t>(env_.table().params.bytes);
    py::array_t<std::uint8_t> copy({static_cast<py::ssize_t>(bytes.size()) / width, width});
    std::memcpy(copy.mutable_data(), bytes.data(), bytes.size());
    return copy;
  }

  // Parameters by name; env -1: of all environments. False: there is no such name. `function` goes
  // into errors.
  bool set_param(const std::string& name, const py::handle& value, std::ptrdiff_t env,
                 const std::string& function) {
    const InUse in_use(*this);
    const EnvFields& fields = env_.table().params;
    const int field = find_field(fields, name);
    if (field < 0) return false;
    const EnvField described = fields.describe(field);
    const double number = field_value(function.c_str(), described, value);
    if (env < 0) {
      env_.set_param(field, number);
    } else {
      env_.set_param(field, number, require_index(env));
    }
    return true;
  }

  py::object get_param(const std::string& name, std::ptrdiff_t env) {
    const EnvFields& fields = env_.table().params;
    const int field = find_field(fields, name);
    if (field < 0) throw py::key_error(name);
    return field_object(fields.describe(field), env_.param(field, require_index(env)));
  }

  // The fields of one environment's state by name.
  py::dict state_of(std::ptrdiff_t env) {
    const InUse in_use(*this);
    const std::vector<double> values = env_.state_fields(require_index(env));
    py::dict result;
    for (int i = 0; i < env_.table().state.count; ++i) {
      const EnvField field = env_.table().state.describe(i);
      result[field.name] = field_object(field, values[static_cast<std::size_t>(i)]);
    }
    return result;
  }

  // One environment's generator, as np.random.PCG64().state["state"] holds it.
  py::tuple get_rng(std::ptrdiff_t env) {
    const InUse in_use(*this);
    std::uint64_t words[6];
    env_.load_rng(require_index(env), words);
    return py::make_tuple(words[0], words[1], words[2], words[3], words[4], words[5]);
  }
  void set_rng(std::ptrdiff_t env, const std::vector<std::uint64_t>& words) {
    const InUse in_use(*this);
    if (words.size() != 6) throw py::value_error("set_rng: words must be six numbers");
    env_.store_rng(require_index(env), words.data());
  }

  int num_threads() const { return env_.num_threads(); }
  const EnvTable& table() const { return env_.table(); }

 private:
  std::ptrdiff_t require_index(std::ptrdiff_t env) const {
    if (env >= 0 && env < env_.num_envs()) return env;
    throw py::index_error("there is no environment " + std::to_string(env));
  }
  static const EnvTable& require_env(const std::string& name) {
    const EnvTable* table = find_loaded_env(name);
    if (table == nullptr) table = find_env(name);
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

  py::dtype scalar() const { return dtype_of(env_.table().obs_type); }

  std::ptrdiff_t run(const StepOutputs& out) {
    return noting_throws([&] {
      const arrays::ReleaseGil release(env_.step_nanoseconds() > 10'000);
      return env_.step(out);
    });
  }

  void load_actions(const char* function, const py::handle& actions) {
    const Argument argument{function, "actions"};
    const bool discrete = env_.table().num_actions > 0;
    const std::string wanted = discrete ? "an array of one integer per environment"
                                        : "a float array with a row per environment";
    py::array array;
    if (py::isinstance<py::array>(actions)) {
      array = py::reinterpret_borrow<py::array>(actions);
    } else if (py::isinstance<py::list>(actions) || py::isinstance<py::tuple>(actions)) {
      array = py::array::ensure(actions);
      if (!array) {
        argument.type_error(discrete ? "must be a flat list of one integer per environment"
                                     : "must be a list of rows of one length, one per environment");
      }
    } else {
      const bool is_tensor = py::hasattr(actions, "__dlpack__");
      argument.type_error("must be " + wanted + ", got " + arrays::describe(actions) +
                          (is_tensor ? "; pass numpy.asarray(actions)" : ""));
    }
    if (array.ndim() == 0) argument.type_error("must be " + wanted + ", got a scalar");
    discrete ? load_indices(argument, array) : load_floats(argument, array);
    if (threw_) {
      throw std::runtime_error(std::string(function) +
                               ": the environment threw in the call before; reset it first");
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

  void load_indices(const Argument& argument, const py::array& given) {
    const Array array = given;
    argument.require_shape(array, {env_.num_envs()}, "(one action per environment)");
    const std::int64_t count = env_.table().num_actions;
    const std::span<std::int32_t> slots = env_.discrete_actions();
    std::ptrdiff_t bad;
    if (array.holds<std::int64_t>()) {
      bad = copy_actions(argument.view1<std::int64_t>(array), count, slots);
    } else if (array.holds<std::int32_t>()) {
      bad = copy_actions(argument.view1<std::int32_t>(array), count, slots);
    } else if (array.holds<std::uint8_t>()) {
      bad = copy_actions(argument.view1<std::uint8_t>(array), count, slots);
    } else if (given.dtype().kind() == 'i' || given.dtype().kind() == 'u') {
      const py::array wide = py::array_t<std::int64_t, py::array::forcecast>::ensure(given);
      bad = copy_actions(argument.view1<std::int64_t>(wide), count, slots);
    } else {
      argument.type_error("must be integers, got " + arrays::dtype_text(array) +
                          "; cast with actions.astype(np.int64)");
    }
    if (bad >= 0) {
      argument.value_error("must be in [0, " + std::to_string(count) + "), got " +
                           py::str(given.attr("item")(bad)).cast<std::string>() +
                           " for environment " + std::to_string(bad));
    }
  }

  // float64 is rounded to float32, the type of the action space.
  void load_floats(const Argument& argument, const Array& array) {
    const std::ptrdiff_t size = env_.table().action_size;
    argument.require_shape(array, {env_.num_envs(), size}, "(environments, action elements)");
    const std::span<float> slots = env_.continuous_actions();
    std::ptrdiff_t bad;
    if (array.holds<float>()) {
      bad = copy_floats(argument.view2<float>(array), size, slots);
    } else if (array.holds<double>()) {
      bad = copy_floats(argument.view2<double>(array), size, slots);
    } else {
      argument.type_error("must be float32 or float64, got " + arrays::dtype_text(array) +
                          "; cast with actions.astype(np.float32)");
    }
    if (bad >= 0) {
      argument.value_error("must not be NaN, got NaN for environment " +
                           std::to_string(bad / size));
    }
  }

  void* observation_rows(const char* name, const py::handle& object, std::ptrdiff_t& stride) {
    const Argument argument{"step_into", name};
    const Array array = argument.array(object);
    if (!has_type(array, env_.table().obs_type)) {
      argument.type_error("must be " + py::str(scalar()).cast<std::string>() + ", got " +
                          arrays::dtype_text(array));
    }
    const std::vector<py::ssize_t> shape = rows_shape(env_.table(), env_.num_envs());
    const auto rows = py::reinterpret_borrow<py::array>(object);  // which may have many axes
    if (!std::equal(shape.begin(), shape.end(), rows.shape(), rows.shape() + rows.ndim())) {
      argument.refuse_shape(array, shape, "");
    }
    argument.require_writable(array);
    stride = argument.stride(array, 0);
    py::ssize_t expected = rows.itemsize();
    for (py::ssize_t axis = rows.ndim() - 1; axis > 0; --axis) {
      if (rows.shape(axis) > 1 && rows.strides(axis) != expected) {
        argument.value_error("must have contiguous rows (only the first axis may have a stride)");
      }
      expected *= rows.shape(axis);
    }
    return array.mutable_data();
  }

  void* column(const Argument& argument, const Array& array, std::ptrdiff_t& stride) {
    argument.require_shape(array, {env_.num_envs()}, "");
    argument.require_writable(array);
    stride = argument.stride(array, 0);
    return array.mutable_data();
  }

  bool* flags(const char* name, const py::handle& object, std::ptrdiff_t& stride) {
    const Argument argument{"step_into", name};
    const Array array = argument.array(object);
    if (!array.holds<bool>()) {
      argument.type_error("must be bool, got " + arrays::dtype_text(array));
    }
    return static_cast<bool*>(column(argument, array, stride));
  }

  bool episode_stats_;
  ArrayRing obs_;
  ArrayRing final_obs_;
  ArrayRing rewards_;
  ArrayRing terminated_;
  ArrayRing truncated_;
};

py::tuple names_of(const EnvFields& fields) {
  py::list names;
  for (int i = 0; i < fields.count; ++i) names.append(fields.describe(i).name);
  return py::tuple(names);
}

py::dict describe_env(const EnvTable& table) {
  py::dict info;
  info["name"] = table.name;
  info["max_episode_steps"] = table.max_episode_steps > 0
                                  ? py::object(py::int_(table.max_episode_steps))
                                  : py::object(py::none());
  info["reward_threshold"] = table.reward_threshold == table.reward_threshold
                                 ? py::object(py::float_(table.reward_threshold))
                                 : py::object(py::none());
  py::list shape;
  for (int i = 0; i < table.obs_ndim; ++i) shape.append(table.obs_shape[i]);
  info["obs_shape"] = py::tuple(shape);
  info["obs_dtype"] = py::str(dtype_of(table.obs_type));
  info["obs_bounds"] = py::make_tuple(table.obs_low, table.obs_high);
  info["num_actions"] = table.num_actions;
  info["action_size"] = table.action_size;
  info["action_bounds"] = py::make_tuple(table.action_low, table.action_high);
  info["params"] = names_of(table.params);
  const std::vector<std::max_align_t> defaults = default_object(table.options);
  py::dict values;
  for (int i = 0; i < table.options.count; ++i) {
    const EnvField field = table.options.describe(i);
    values[field.name] = field_object(field, table.options.get(defaults.data(), i));
  }
  info["default_options"] = values;
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
  m.def(
      "load_env", [](const std::string& path) { return describe_env(load_env(path)); },
      py::arg("path"));
  py::class_<HeldVectorEnv>(m, "HeldVectorEnv");
  py::class_<PyVectorEnv, HeldVectorEnv>(m, "VectorEnv")
      .def(py::init<const std::string&, std::ptrdiff_t, std::optional<int>, int,
                    std::optional<std::int64_t>, bool>(),
           py::arg("name"), py::arg("num_envs"), py::arg("num_threads"), py::arg("autoreset"),
           py::arg("max_episode_steps"), py::arg("episode_stats"))
      .def("reset", &PyVectorEnv::reset, py::arg("seeds"), py::arg("selected"), py::arg("options"))
      .def("step", &PyVectorEnv::step, py::arg("actions"))
      .def("step_into", &PyVectorEnv::step_into, py::arg("actions"), py::arg("obs"),
           py::arg("rewards"), py::arg("terminated"), py::arg("truncated"), py::arg("final_obs"))
      .def("get_state", &PyVectorEnv::get_state)
      .def("set_state", &PyVectorEnv::set_state, py::arg("state"))
      .def("packed_params", &PyVectorEnv::packed_params)
      .def("set_param", &PyVectorEnv::set_param, py::arg("name"), py::arg("value"), py::arg("env"),
           py::arg("function"))
      .def("get_param", &PyVectorEnv::get_param, py::arg("name"), py::arg("env"))
      .def("state_of", &PyVectorEnv::state_of, py::arg("env"))
      .def("get_rng", &PyVectorEnv::get_rng, py::arg("env"))
      .def("set_rng", &PyVectorEnv::set_rng, py::arg("env"), py::arg("words"))
      .def_property_readonly("num_threads", &PyVectorEnv::num_threads);
}

}  // namespace ppo
