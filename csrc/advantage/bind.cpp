// _core.gae: checks shapes and dtypes, chooses threads, calls the kernel.
#include <algorithm>
#include <utility>

#include "advantage/cpu.h"
#include "bind.h"
#include "support/arrays.h"
#include "support/thread_pool.h"

namespace ppo {
namespace {

namespace py = pybind11;
using arrays::Argument;

// Elements below which a call is too short to release the GIL, or to share with a second thread.
constexpr py::ssize_t kReleaseFrom = 1 << 15;
constexpr py::ssize_t kThreadsFrom = 1 << 20;
// Columns that a thread gets at least: threads must not write into the same cache lines all the time.
constexpr py::ssize_t kColumns = 512;

double require_factor(const Argument& argument, const py::object& object) {
  const double value = argument.number(object);
  if (!(value >= 0.0 && value <= 1.0)) {
    argument.value_error("must be in [0, 1], got " + py::repr(object).cast<std::string>());
  }
  return value;
}

View2<const std::uint8_t> flags(const char* name, const py::object& object, py::ssize_t t,
                                py::ssize_t n) {
  if (object.is_none()) return {};
  const Argument argument{"gae", name};
  const py::array array = argument.array(object);
  argument.require_flags(array);
  argument.require_shape(array, {t, n}, "like rewards");
  return argument.view2<std::uint8_t>(array);
}

// A [T, N] array of T like rewards.
template <typename T>
View2<const T> like_rewards(const char* name, const py::object& object, py::ssize_t t,
                            py::ssize_t n) {
  const Argument argument{"gae", name};
  const py::array array = argument.array(object);
  argument.is_float32(array);
  argument.require_dtype<T>(array, "rewards");
  argument.require_shape(array, {t, n}, "like rewards");
  return argument.view2<T>(array);
}

template <typename T>
View2<T> output(const char* name, const py::object& object, py::ssize_t t, py::ssize_t n) {
  const Argument argument{"gae", name};
  py::array array = argument.array(object);
  argument.require_output_dtype<T>(array, "rewards");
  argument.require_shape(array, {t, n}, "like rewards");
  return argument.mutable_view2<T>(array);
}

template <typename T>
py::tuple run(const py::array& rewards, const py::object& values, double gamma, double gae_lambda,
              const py::object& last_values, const py::object& terminated,
              const py::object& truncated, const py::object& final_values, const py::object& out) {
  const py::ssize_t t = rewards.shape(0);
  const py::ssize_t n = rewards.shape(1);
  GaeArguments<T> a;
  a.num_steps = t;
  a.gamma = gamma;
  a.gae_lambda = gae_lambda;
  a.rewards = Argument{"gae", "rewards"}.view2<T>(rewards);
  a.values = like_rewards<T>("values", values, t, n);
  a.terminated = flags("terminated", terminated, t, n);
  a.truncated = flags("truncated", truncated, t, n);
  if (!truncated.is_none()) {
    const Argument argument{"gae", "final_values"};
    if (final_values.is_none()) {
      argument.value_error(
          "is needed with truncated: a truncated episode is worth V(final_obs) after its end; pass "
          "these values as a [T, N] array (it is read only where truncated)");
    }
    a.final_values = like_rewards<T>("final_values", final_values, t, n);
  } else if (!final_values.is_none()) {
    Argument{"gae", "final_values"}.value_error("has no use without truncated; pass both");
  }
  if (!last_values.is_none()) {
    const Argument argument{"gae", "last_values"};
    const py::array array = argument.array(last_values);
    argument.require_dtype<T>(array, "rewards");
    argument.require_shape(array, {n}, "(one per environment)");
    a.last_values = argument.view1<T>(array);
  }
  py::object advantages;
  py::object returns;
  if (out.is_none()) {
    advantages = py::array_t<T>({t, n});
    returns = py::array_t<T>({t, n});
  } else {
    if (!py::isinstance<py::tuple>(out) || py::len(out) != 2) {
      Argument{"gae", "out"}.type_error("must be a tuple (advantages, returns), got " +
                                        arrays::describe(out));
    }
    advantages = out[py::int_(0)];
    returns = out[py::int_(1)];
  }
  a.advantages = output<T>("out[0]", advantages, t, n);
  a.returns = output<T>("out[1]", returns, t, n);
  if (t * n > 0 && a.advantages.data == a.returns.data) {
    Argument{"gae", "out"}.value_error("must be two arrays, got the same memory twice");
  }

  const auto kernel = [] {
    if constexpr (std::is_same_v<T, float>) {
      return PPO_SELECT_ISA(advantage_kernels).gae_float;
    } else {
      return PPO_SELECT_ISA(advantage_kernels).gae_double;
    }
  }();
  {
    const arrays::ReleaseGil release(t * n >= kReleaseFrom);
    const int threads = t * n >= kThreadsFrom ? hardware_threads() : 1;
    const py::ssize_t blocks = (n + kColumns - 1) / kColumns;
    parallel_for(0, blocks, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      kernel(a, begin * kColumns, std::min(end * kColumns, n));
    });
  }
  return py::make_tuple(std::move(advantages), std::move(returns));
}

py::tuple gae(const py::object& rewards, const py::object& values, const py::object& gamma,
              const py::object& gae_lambda, const py::object& last_values,
              const py::object& terminated, const py::object& truncated,
              const py::object& final_values, const py::object& out) {
  const Argument argument{"gae", "rewards"};
  const py::array array = argument.array(rewards);
  const bool float32 = argument.is_float32(array);
  if (array.ndim() != 2) {
    argument.value_error("must have shape (T, N): time steps, environments; got " +
                         arrays::shape_text(array));
  }
  const double discount = require_factor({"gae", "gamma"}, gamma);
  const double trace = require_factor({"gae", "gae_lambda"}, gae_lambda);
  const auto chosen = float32 ? &run<float> : &run<double>;
  return chosen(array, values, discount, trace, last_values, terminated, truncated, final_values,
                out);
}

}  // namespace

void bind_advantage(py::module_& m) {
  m.def("gae", &gae, py::arg("rewards"), py::arg("values"), py::arg("gamma"), py::arg("gae_lambda"),
        py::arg("last_values"), py::arg("terminated"), py::arg("truncated"),
        py::arg("final_values"), py::arg("out"));
}

}  // namespace ppo
