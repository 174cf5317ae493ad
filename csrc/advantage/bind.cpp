// _core.gae, lambda_returns, discounted_returns, vtrace and token_gae: from Python arguments to a
// call of schedule.h.
#include <optional>
#include <utility>

#include "advantage/functions.h"
#include "advantage/schedule.h"
#include "bind.h"
#include "support/stream.h"

namespace ppo {
namespace {

// Elements below which a call is too short to release the GIL.
constexpr py::ssize_t kReleaseFrom = 1 << 15;

// Sequence boundaries: from 0 to the number of tokens, never falling.
std::vector<std::int64_t> read_starts(const Argument& argument, const Array& array,
                                      py::ssize_t tokens) {
  const bool is_int32 = array.holds<std::int32_t>();
  std::vector<std::int64_t> starts;
  const auto items = static_cast<const char*>(array.data());
  const std::ptrdiff_t stride = argument.stride(array, 0) * array.itemsize();
  for (py::ssize_t b = 0; b < array.shape(0); ++b) {
    const void* item = items + b * stride;
    starts.push_back(is_int32 ? *static_cast<const std::int32_t*>(item)
                              : *static_cast<const std::int64_t*>(item));
    if (b > 0 && starts[static_cast<std::size_t>(b)] < starts[static_cast<std::size_t>(b) - 1]) {
      argument.value_error("must not fall, but does at index " + std::to_string(b));
    }
  }
  if (starts.front() != 0 || starts.back() != tokens) {
    argument.value_error("must go from 0 to the number of tokens, " + std::to_string(tokens) +
                         ", got " + std::to_string(starts.front()) + " to " +
                         std::to_string(starts.back()));
  }
  return starts;
}

// gae_lambda as a number per column.
std::vector<double> read_lambdas(const Argument& argument, const Array& array, py::ssize_t columns,
                                 const char* per) {
  const bool float32 = argument.is_float32(array);
  argument.require_shape(array, {columns}, per);
  const auto numbers = static_cast<const char*>(array.data());
  const std::ptrdiff_t stride = argument.stride(array, 0) * array.itemsize();
  std::vector<double> result;
  for (py::ssize_t n = 0; n < columns; ++n) {
    const void* item = numbers + n * stride;
    const double value = float32 ? static_cast<double>(*static_cast<const float*>(item))
                                 : *static_cast<const double*>(item);
    if (!(value >= 0.0 && value <= 1.0)) {
      argument.value_error("must be in [0, 1], got " + std::to_string(value) + " at index " +
                           std::to_string(n));
    }
    result.push_back(value);
  }
  return result;
}

// Results of this many bytes, which may be written past the caches, start on a cache line.
constexpr py::ssize_t kAlignFrom = 1 << 20;

// Runs a call on the CPU.
class RunHere {
 public:
  Given given(const py::handle& object) const { return object; }

  // An array of the shape of another, with strides in items.
  template <typename T>
  Given made(const Array& like, const py::ssize_t* strides) const {
    const py::dtype dtype = py::dtype::of<T>();
    std::vector<py::ssize_t> in_bytes(strides, strides + like.ndim());
    for (py::ssize_t& stride : in_bytes) stride *= sizeof(T);
    const py::ssize_t bytes = like.size() * static_cast<py::ssize_t>(sizeof(T));
    if (bytes < kAlignFrom) return Given(py::array(dtype, like.shape(), in_bytes));
    const py::array_t<std::uint8_t> memory(bytes + kLineBytes);
    const std::uint8_t* start = memory.data();
    return Given(py::array(dtype, like.shape(), in_bytes, start + to_line(start), memory));
  }

  template <typename Arguments>
  void operator()(const TransitionCall<Arguments>& call, const Frame& frame, bool exact) const {
    const py::ssize_t size = frame.steps() * frame.columns();
    if (size == 0) return;
    const arrays::ReleaseGil release(size >= kReleaseFrom);
    run_transitions(call.args, frame.batch_major(), exact);
  }
  template <typename T>
  void operator()(TokenArguments<T>& args, const Frame& frame, bool exact) const {
    const py::ssize_t size = frame.steps() * frame.columns();
    if (size == 0) return;
    const arrays::ReleaseGil release(size >= kReleaseFrom);
    run_tokens(args, exact);
  }

  Lambdas lambdas(const Frame& frame, const Given& gae_lambda, py::ssize_t columns,
                  const char* per) const {
    const Argument argument{frame.function(), "gae_lambda"};
    Lambdas result;
    if (!gae_lambda.is_array() || gae_lambda.array().ndim() == 0) {
      result.one = require_factor(argument, gae_lambda);
    } else {
      result.held = read_lambdas(argument, argument.array(gae_lambda), columns, per);
      result.each = result.held.data();
    }
    return result;
  }

  Starts starts(const Frame& frame, const Argument& argument, const Array& array) const {
    Starts result;
    result.held = read_starts(argument, array, frame.steps());
    result.data = result.held.data();
    for (std::size_t b = 1; b < result.held.size(); ++b) {
      result.longest = std::max(result.longest, result.held[b] - result.held[b - 1]);
    }
    return result;
  }
};

using Object = const py::object&;

}  // namespace

void bind_advantage(py::module_& m) {
  m.def("gae", [](Object rewards, Object values, Object gamma, Object gae_lambda,
                  Object last_values, Object next_values, Object terminated, Object truncated,
                  Object final_values, Object on_truncation, Object episode_starts,
                  Object last_done, Object prev_done, Object time_axis, Object out, Object exact) {
    return gae(RunHere(), rewards, values, gamma, gae_lambda,
               {last_values, next_values, terminated, truncated, final_values, on_truncation,
                episode_starts, last_done, prev_done},
               time_axis, out, exact);
  });
  m.def("lambda_returns",
        [](Object rewards, Object values, Object gamma, Object gae_lambda, Object last_values,
           Object next_values, Object terminated, Object truncated, Object final_values,
           Object on_truncation, Object episode_starts, Object last_done, Object prev_done,
           Object time_axis, Object out, Object exact) {
          return lambda_returns(RunHere(), rewards, values, gamma, gae_lambda,
                                {last_values, next_values, terminated, truncated, final_values,
                                 on_truncation, episode_starts, last_done, prev_done},
                                time_axis, out, exact);
        });
  m.def("discounted_returns",
        [](Object rewards, Object gamma, Object last_values, Object terminated, Object truncated,
           Object final_values, Object on_truncation, Object episode_starts, Object last_done,
           Object prev_done, const py::object& time_axis, Object out, const py::object& exact) {
          return discounted_returns(RunHere(), rewards, gamma,
                                    {last_values, py::none(), terminated, truncated, final_values,
                                     on_truncation, episode_starts, last_done, prev_done},
                                    time_axis, out, exact);
        });
  m.def("vtrace",
        [](Object rewards, Object values, Object log_rhos, Object gamma, Object gae_lambda,
           Object rho_clip, Object c_clip, Object pg_rho_clip, Object last_values,
           Object next_values, Object terminated, Object truncated, Object final_values,
           Object on_truncation, Object episode_starts, Object last_done, Object prev_done,
           Object time_axis, Object out, Object exact) {
          return vtrace(RunHere(), rewards, values, log_rhos, gamma, gae_lambda, rho_clip, c_clip,
                        pg_rho_clip,
                        {last_values, next_values, terminated, truncated, final_values,
                         on_truncation, episode_starts, last_done, prev_done},
                        time_axis, out, exact);
        });
  m.def("token_gae",
        [](Object rewards, Object values, Object mask, Object gamma, Object gae_lambda,
           Object masked, Object bootstrap, Object cu_seqlens, Object out, Object exact) {
          return token_gae(RunHere(), rewards, values, mask, gamma, gae_lambda, masked, bootstrap,
                           cu_seqlens, out, exact);
        });
}

}  // namespace ppo
