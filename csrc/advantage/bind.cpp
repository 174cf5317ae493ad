// _core.gae, lambda_returns, discounted_returns, vtrace and token_gae: from Python arguments to a
// call of schedule.h.
#include <optional>
#include <utility>

#include "advantage/frame.h"
#include "advantage/schedule.h"
#include "bind.h"

namespace ppo {
namespace {

// Elements below which a call is too short to release the GIL.
constexpr py::ssize_t kReleaseFrom = 1 << 15;

// What Python passes for [T, N] transitions, besides rewards and values.
struct Options {
  py::object last_values;
  py::object next_values;
  py::object terminated;
  py::object truncated;
  py::object final_values;
  py::object on_truncation;
  py::object episode_starts;
  py::object last_done;
  py::object prev_done;
};

[[noreturn]] void refuse(const char* function, const std::string& message) {
  throw py::value_error(std::string(function) + ": " + message);
}

std::optional<std::string> truncation_text(const Frame& frame, const py::object& object) {
  if (object.is_none()) return std::nullopt;
  const Argument argument{frame.function(), "on_truncation"};
  if (!py::isinstance<py::str>(object)) {
    argument.type_error("must be a string, got " + arrays::describe(object));
  }
  const auto text = object.cast<std::string>();
  if (text != "current_value" && text != "terminate" && text != "drop") {
    argument.value_error("must be 'current_value', 'terminate' or 'drop', got " +
                         py::repr(object).cast<std::string>());
  }
  return text;
}

// The checks that need no array: which arguments may and must stand together.
void require_one_form(const Frame& frame, const Options& o, bool has_last_row, bool has_values) {
  const char* f = frame.function();
  const int bootstraps = has_last_row + !o.last_values.is_none() + !o.next_values.is_none();
  if (bootstraps == 0) {
    refuse(f,
           has_values
               ? "last_values is missing: say what follows the last step, by last_values [N], by "
                 "next_values [T, N] or by values with T + 1 rows"
               : "last_values is missing: say what follows the last step, zeros if nothing does");
  }
  if (bootstraps > 1) {
    refuse(f, std::string(has_last_row ? "values with T + 1 rows" : "last_values") + " and " +
                  (o.next_values.is_none() ? "last_values" : "next_values") +
                  " both say what follows the last step; pass one of them");
  }
  const bool own = !o.terminated.is_none() || !o.truncated.is_none();
  const bool shifted = !o.episode_starts.is_none() || !o.last_done.is_none();
  if (own && shifted) {
    refuse(f,
           "terminated and truncated are flags of transition t, episode_starts and last_done are "
           "shifted by one; pass one form");
  }
  if (!own && !shifted) {
    refuse(f,
           "terminated is missing: pass the flags of each transition (terminated, and truncated "
           "where episodes are cut), or episode_starts with last_done");
  }
  if (shifted && (o.episode_starts.is_none() || o.last_done.is_none())) {
    refuse(f, std::string(o.last_done.is_none() ? "last_done" : "episode_starts") +
                  " is missing: episode_starts [T, N] says which steps start an episode, last_done "
                  "[N] whether the last step ended one");
  }
  if (own && o.terminated.is_none()) {
    refuse(f, "terminated is missing: truncated says which episodes were cut, not which ended");
  }
  if (o.truncated.is_none()) {
    if (!o.final_values.is_none())
      refuse(f, "final_values has no use without truncated; pass both");
    if (!o.on_truncation.is_none())
      refuse(f, "on_truncation has no use without truncated; pass both");
    return;
  }
  const bool final_given = !o.final_values.is_none();
  const bool rule_given = !o.on_truncation.is_none();
  const bool next_given = !o.next_values.is_none();
  const bool masked = has_values && !o.prev_done.is_none();
  if (final_given + rule_given + next_given > 1 || (final_given && masked)) {
    refuse(f, std::string(final_given ? "final_values" : "on_truncation") + " and " +
                  (next_given                  ? "next_values"
                   : rule_given && final_given ? "on_truncation"
                                               : "prev_done") +
                  " both say what a truncated episode is worth; pass one of them");
  }
  if (!(final_given || rule_given || next_given || masked)) {
    refuse(f,
           std::string("truncated needs a value for the episodes that it cuts: final_values ") +
               "[T, N], V of their last observations" +
               (has_values ? ", or next_values [T, N], or on_truncation='current_value' (V of the "
                             "step itself), 'terminate' (0) or 'drop' (no advantage)"
                           : ", or on_truncation='terminate' (0) or 'drop' (no return)"));
  }
}

// The checked arguments of a call, with what must live as long as it.
template <typename Arguments>
class TransitionCall {
 public:
  using T = typename Arguments::Value;

  TransitionCall(Frame& frame, const py::array& rewards, const py::object& values,
                 const py::object& gamma, const py::object& gae_lambda, const Options& o)
      : frame_(frame) {
    const char* f = frame.function();
    args.num_steps = frame.steps();
    args.num_columns = frame.columns();
    args.gamma = require_factor({f, "gamma"}, gamma);
    lambdas_ =
        require_lambda({f, "gae_lambda"}, gae_lambda, frame.columns(), "(one per environment)");
    args.gae_lambda = lambdas_.data();
    args.lambda_per_column = lambdas_.size() > 1;
    args.rewards = frame.like<T>("rewards", rewards);
    const bool has_values = !values.is_none();
    bool has_last_row = false;
    if (has_values) args.values = frame.values<T>(values, has_last_row);
    require_one_form(frame, o, has_last_row, has_values);
    const auto rule = truncation_text(frame, o.on_truncation);

    next_row_ = args.values;
    if (next_row_) next_row_.data += next_row_.stride_t;
    args.after = next_row_;
    if (has_last_row) {
      args.last_after = {args.values.data + frame.steps() * args.values.stride_t, 0,
                         args.values.stride_n};
    } else if (!o.last_values.is_none()) {
      args.last_after = frame.per_column<T>("last_values", o.last_values, last_value_);
    } else {
      args.after = args.last_after = frame.like<T>("next_values", o.next_values);
    }
    if (!o.episode_starts.is_none()) {
      args.terminated = frame.flags("episode_starts", o.episode_starts);
      args.terminated.data = static_cast<const char*>(args.terminated.data) +
                             args.terminated.stride_t * flag_size(args.terminated.type);
      args.last_terminated = frame.flags_per_column("last_done", o.last_done, last_done_);
    } else {
      args.terminated = args.last_terminated = frame.flags("terminated", o.terminated);
      args.truncated = frame.flags("truncated", o.truncated);
    }
    args.masked = frame.flags("prev_done", o.prev_done);
    if (!o.final_values.is_none()) {
      args.final_values = frame.like<T>("final_values", o.final_values);
    } else if (rule == "current_value") {
      if (!has_values) {
        Argument{f, "on_truncation"}.value_error(
            "must be 'terminate' or 'drop' where there are no values, got 'current_value'");
      }
      args.final_values = args.values;
    } else if (rule == "terminate") {
      args.on_truncation = OnTruncation::kTerminate;
    } else if (rule == "drop") {
      args.on_truncation = OnTruncation::kDrop;
    }
  }
  TransitionCall(const TransitionCall&) = delete;

  // Values one row later, for t < T - 1.
  const View2<const T>& next_row() const { return next_row_; }

  void run(bool exact) {
    const py::ssize_t size = frame_.steps() * frame_.columns();
    if (size == 0) return;
    const arrays::ReleaseGil release(size >= kReleaseFrom);
    run_transitions(args, frame_.batch_major(), exact);
  }

  Arguments args;

 private:
  Frame& frame_;
  std::vector<double> lambdas_;
  View2<const T> next_row_;
  T last_value_ = T(0);
  std::uint8_t last_done_ = 0;
};

// The pair of results that a caller may give.
std::pair<py::object, py::object> require_pair(const char* function, const char* names,
                                               const py::object& out) {
  if (out.is_none()) return {py::none(), py::none()};
  const Argument argument{function, "out"};
  if (!py::isinstance<py::tuple>(out)) {
    argument.type_error("must be a tuple " + std::string(names) + ", got " + arrays::describe(out));
  }
  if (py::len(out) != 2) {
    argument.type_error("must be a tuple " + std::string(names) + ", got one of " +
                        std::to_string(py::len(out)));
  }
  py::object first = out[py::int_(0)];
  py::object second = out[py::int_(1)];
  Argument{function, "out[0]"}.array(first);
  Argument{function, "out[1]"}.array(second);
  return {std::move(first), std::move(second)};
}

py::array require_rewards(const char* function, const py::object& rewards) {
  const Argument argument{function, "rewards"};
  py::array array = argument.array(rewards);
  argument.is_float32(array);
  return array;
}

// Calls body with a float or a double, as the array holds.
template <typename Body>
auto with_type(const py::array& array, const Body& body) {
  return Argument::holds<float>(array) ? body(float()) : body(double());
}

py::tuple gae(const py::object& rewards, const py::object& values, const py::object& gamma,
              const py::object& gae_lambda, const Options& options, const py::object& time_axis,
              const py::object& out, const py::object& exact) {
  const char* function = "gae";
  const py::array array = require_rewards(function, rewards);
  Frame frame(function, array, Argument{function, "time_axis"}.integer(time_axis));
  const bool serial = Argument{function, "exact"}.boolean(exact);
  Argument{function, "values"}.array(values);
  auto [advantages, returns] = require_pair(function, "(advantages, returns)", out);
  with_type(array, [&](auto number) {
    using T = decltype(number);
    TransitionCall<GaeArguments<T>> call(frame, array, values, gamma, gae_lambda, options);
    call.args.advantages = frame.output<T>("out[0]", advantages);
    call.args.returns = frame.output<T>("out[1]", returns);
    call.run(serial);
  });
  return py::make_tuple(std::move(advantages), std::move(returns));
}

py::object lambda_returns(const py::object& rewards, const py::object& values,
                          const py::object& gamma, const py::object& gae_lambda,
                          const Options& options, const py::object& time_axis, py::object out,
                          const py::object& exact) {
  const char* function = "lambda_returns";
  const py::array array = require_rewards(function, rewards);
  Frame frame(function, array, Argument{function, "time_axis"}.integer(time_axis));
  const bool serial = Argument{function, "exact"}.boolean(exact);
  Argument{function, "values"}.array(values);
  with_type(array, [&](auto number) {
    using T = decltype(number);
    TransitionCall<GaeArguments<T>> call(frame, array, values, gamma, gae_lambda, options);
    call.args.returns = frame.output<T>("out", out);
    call.run(serial);
  });
  return out;
}

// The advantages of a critic that says 0 everywhere, with lambda 1.
py::object discounted_returns(const py::object& rewards, const py::object& gamma,
                              const Options& options, const py::object& time_axis, py::object out,
                              const py::object& exact) {
  const char* function = "discounted_returns";
  const py::array array = require_rewards(function, rewards);
  Frame frame(function, array, Argument{function, "time_axis"}.integer(time_axis));
  const bool serial = Argument{function, "exact"}.boolean(exact);
  with_type(array, [&](auto number) {
    using T = decltype(number);
    TransitionCall<GaeArguments<T>> call(frame, array, py::none(), gamma, py::float_(1.0), options);
    call.args.advantages = frame.output<T>("out", out);
    call.run(serial);
  });
  return out;
}

double require_clip(const Argument& argument, const py::object& object) {
  const double value = argument.number(object);
  if (!(value > 0.0)) {
    argument.value_error("must be positive (float('inf') for no limit), got " +
                         py::repr(object).cast<std::string>());
  }
  return value;
}

py::tuple vtrace(const py::object& rewards, const py::object& values, const py::object& log_rhos,
                 const py::object& gamma, const py::object& gae_lambda, const py::object& rho_clip,
                 const py::object& c_clip, const py::object& pg_rho_clip, const Options& options,
                 const py::object& time_axis, const py::object& out, const py::object& exact) {
  const char* function = "vtrace";
  const py::array array = require_rewards(function, rewards);
  Frame frame(function, array, Argument{function, "time_axis"}.integer(time_axis));
  const bool serial = Argument{function, "exact"}.boolean(exact);
  Argument{function, "values"}.array(values);
  auto [vs, pg_advantages] = require_pair(function, "(vs, pg_advantages)", out);
  with_type(array, [&](auto number) {
    using T = decltype(number);
    TransitionCall<VtraceArguments<T>> call(frame, array, values, gamma, gae_lambda, options);
    auto& args = call.args;
    args.log_rhos = frame.like<T>("log_rhos", log_rhos);
    args.next_values = call.next_row();
    args.rho_clip = require_clip({function, "rho_clip"}, rho_clip);
    args.c_clip = require_clip({function, "c_clip"}, c_clip);
    args.pg_rho_clip = require_clip({function, "pg_rho_clip"}, pg_rho_clip);
    args.vs = frame.output<T>("out[0]", vs);
    args.pg_advantages = frame.output<T>("out[1]", pg_advantages);
    call.run(serial);
  });
  return py::make_tuple(std::move(vs), std::move(pg_advantages));
}

// Sequence boundaries of packed tokens: [B + 1], from 0 to the number of tokens, never falling.
std::vector<std::int64_t> require_starts(const py::object& object, py::ssize_t tokens) {
  const Argument argument{"token_gae", "cu_seqlens"};
  const py::array array = argument.array(object);
  const bool is_int32 = Argument::holds<std::int32_t>(array);
  if (!is_int32 && !Argument::holds<std::int64_t>(array)) {
    argument.type_error("must be int32 or int64, got " + arrays::dtype_text(array));
  }
  if (array.ndim() != 1 || array.shape(0) < 1) {
    argument.value_error("must have shape (B + 1,), got " + arrays::shape_text(array));
  }
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

py::tuple token_gae(const py::object& rewards, const py::object& values, const py::object& mask,
                    const py::object& gamma, const py::object& gae_lambda, const py::object& masked,
                    const py::object& bootstrap, const py::object& cu_seqlens,
                    const py::object& out, const py::object& exact) {
  const char* function = "token_gae";
  const py::array array = require_rewards(function, rewards);
  const bool packed = !cu_seqlens.is_none();
  if (array.ndim() != (packed ? 1 : 2)) {
    Argument{function, "rewards"}.value_error(
        std::string(
            packed ? "must have shape (tokens,) with cu_seqlens"
                   : "must have shape (B, L): sequences, tokens; or (tokens,) with cu_seqlens") +
        ", got " + arrays::shape_text(array));
  }
  Frame frame(function, array, packed ? 0 : 1);
  const bool serial = Argument{function, "exact"}.boolean(exact);
  const auto text = py::isinstance<py::str>(masked) ? masked.cast<std::string>() : "";
  if (text != "skip" && text != "decay") {
    Argument{function, "masked"}.value_error("must be 'skip' or 'decay', got " +
                                             py::repr(masked).cast<std::string>());
  }
  std::vector<std::int64_t> starts;
  if (packed) starts = require_starts(cu_seqlens, frame.steps());
  const py::ssize_t rows = packed ? static_cast<py::ssize_t>(starts.size()) - 1 : frame.columns();
  auto [advantages, returns] = require_pair(function, "(advantages, returns)", out);
  with_type(array, [&](auto number) {
    using T = decltype(number);
    TokenArguments<T> args;
    args.num_steps = frame.steps();
    args.num_columns = rows;
    args.rewards = frame.like<T>("rewards", array);
    args.values = frame.like<T>("values", values);
    Argument{function, "mask"}.array(mask);
    args.mask = frame.flags("mask", mask);
    args.skip = text == "skip";
    args.gamma = require_factor({function, "gamma"}, gamma);
    const auto lambdas =
        require_lambda({function, "gae_lambda"}, gae_lambda, rows, "(one per sequence)");
    args.gae_lambda = lambdas.data();
    args.lambda_per_column = lambdas.size() > 1;
    if (packed) {
      args.starts = starts.data();
      args.num_steps = 0;
      for (py::ssize_t b = 0; b < rows; ++b) {
        args.num_steps = std::max<std::ptrdiff_t>(args.num_steps, starts[b + 1] - starts[b]);
      }
    }
    T one_bootstrap = T(0);
    if (py::isinstance<py::array>(bootstrap) &&
        py::reinterpret_borrow<py::array>(bootstrap).ndim() > 0) {
      const Argument argument{function, "bootstrap"};
      const py::array each = argument.array(bootstrap);
      argument.require_dtype<T>(each, "rewards");
      argument.require_shape(each, {rows}, "(one per sequence)");
      args.bootstrap = argument.view1<T>(each);
      frame.note(each);
    } else {
      one_bootstrap = static_cast<T>(Argument{function, "bootstrap"}.number(bootstrap));
      args.bootstrap = {&one_bootstrap, 0};
    }
    args.advantages = frame.output<T>("out[0]", advantages);
    args.returns = frame.output<T>("out[1]", returns);
    const py::ssize_t size = frame.steps() * frame.columns();
    if (size == 0) return;
    const arrays::ReleaseGil release(size >= kReleaseFrom);
    run_tokens(args, serial);
  });
  return py::make_tuple(std::move(advantages), std::move(returns));
}

using Object = const py::object&;

}  // namespace

void bind_advantage(py::module_& m) {
  m.def("gae",
        [](Object rewards, Object values, Object gamma, Object gae_lambda, Object last_values,
           Object next_values, Object terminated, Object truncated, Object final_values,
           Object on_truncation, Object episode_starts, Object last_done, Object prev_done,
           const py::object& time_axis, Object out, const py::object& exact) {
          return gae(rewards, values, gamma, gae_lambda,
                     {last_values, next_values, terminated, truncated, final_values, on_truncation,
                      episode_starts, last_done, prev_done},
                     time_axis, out, exact);
        });
  m.def("lambda_returns",
        [](Object rewards, Object values, Object gamma, Object gae_lambda, Object last_values,
           Object next_values, Object terminated, Object truncated, Object final_values,
           Object on_truncation, Object episode_starts, Object last_done, Object prev_done,
           const py::object& time_axis, Object out, const py::object& exact) {
          return lambda_returns(rewards, values, gamma, gae_lambda,
                                {last_values, next_values, terminated, truncated, final_values,
                                 on_truncation, episode_starts, last_done, prev_done},
                                time_axis, out, exact);
        });
  m.def("discounted_returns",
        [](Object rewards, Object gamma, Object last_values, Object terminated, Object truncated,
           Object final_values, Object on_truncation, Object episode_starts, Object last_done,
           Object prev_done, const py::object& time_axis, Object out, const py::object& exact) {
          return discounted_returns(rewards, gamma,
                                    {last_values, py::none(), terminated, truncated, final_values,
                                     on_truncation, episode_starts, last_done, prev_done},
                                    time_axis, out, exact);
        });
  m.def("vtrace",
        [](Object rewards, Object values, Object log_rhos, Object gamma, Object gae_lambda,
           Object rho_clip, Object c_clip, Object pg_rho_clip, Object last_values,
           Object next_values, Object terminated, Object truncated, Object final_values,
           Object on_truncation, Object episode_starts, Object last_done, Object prev_done,
           const py::object& time_axis, Object out, const py::object& exact) {
          return vtrace(rewards, values, log_rhos, gamma, gae_lambda, rho_clip, c_clip, pg_rho_clip,
                        {last_values, next_values, terminated, truncated, final_values,
                         on_truncation, episode_starts, last_done, prev_done},
                        time_axis, out, exact);
        });
  m.def("token_gae", &token_gae);
}

}  // namespace ppo
