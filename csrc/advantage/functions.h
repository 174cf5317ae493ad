// gae, lambda_returns, discounted_returns, vtrace and token_gae from Python's arguments to kernels. `run(call, frame, exact)` starts
// these: on the CPU (bind.cpp) or on a stream (cuda_bind.cpp).
#pragma once

#include <utility>

#include "advantage/call.h"

namespace ppo {

// Calls body with a float or a double, as the array holds.
template <typename Body>
auto with_type(const py::array& array, const Body& body) {
  return Argument::holds<float>(array) ? body(float()) : body(double());
}

template <typename Run>
py::tuple gae(const Run& run, const py::object& rewards, const py::object& values,
              const py::object& gamma, const py::object& gae_lambda, const Options& options,
              const py::object& time_axis, const py::object& out, const py::object& exact) {
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
    run(call, frame, serial);
  });
  return py::make_tuple(std::move(advantages), std::move(returns));
}

template <typename Run>
py::object lambda_returns(const Run& run, const py::object& rewards, const py::object& values,
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
    run(call, frame, serial);
  });
  return out;
}

// The advantages of a critic that says 0 everywhere, with lambda 1.
template <typename Run>
py::object discounted_returns(const Run& run, const py::object& rewards, const py::object& gamma,
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
    run(call, frame, serial);
  });
  return out;
}

template <typename Run>
py::tuple vtrace(const Run& run, const py::object& rewards, const py::object& values,
                 const py::object& log_rhos, const py::object& gamma, const py::object& gae_lambda,
                 const py::object& rho_clip, const py::object& c_clip,
                 const py::object& pg_rho_clip, const Options& options, const py::object& time_axis,
                 const py::object& out, const py::object& exact) {
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
    run(call, frame, serial);
  });
  return py::make_tuple(std::move(vs), std::move(pg_advantages));
}

template <typename Run>
py::tuple token_gae(const Run& run, const py::object& rewards, const py::object& values,
                    const py::object& mask, const py::object& gamma, const py::object& gae_lambda,
                    const py::object& masked, const py::object& bootstrap,
                    const py::object& cu_seqlens, const py::object& out, const py::object& exact) {
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
  Starts starts;
  py::ssize_t rows = frame.columns();
  if (packed) {
    const Argument argument{function, "cu_seqlens"};
    const py::array boundaries = require_boundaries(argument, cu_seqlens);
    starts = run.starts(argument, boundaries, frame.steps());
    rows = boundaries.shape(0) - 1;
  }
  auto [advantages, returns] = require_pair(function, "(advantages, returns)", out);
  with_type(array, [&](auto number) {
    using T = decltype(number);
    TokenArguments<T> args;
    args.num_steps = packed ? starts.longest : frame.steps();
    args.num_columns = args.num_sequences = rows;
    args.starts = starts.data;
    args.rewards = frame.like<T>("rewards", array);
    args.values = frame.like<T>("values", values);
    Argument{function, "mask"}.array(mask);
    args.mask = frame.flags("mask", mask);
    args.skip = text == "skip";
    args.gamma = require_factor({function, "gamma"}, gamma);
    const auto lambdas =
        require_lambda({function, "gae_lambda"}, gae_lambda, rows, "(one per sequence)");
    if (!lambdas.empty()) args.gae_lambda = lambdas.front();
    if (lambdas.size() > 1) args.lambdas = lambdas.data();
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
    run(args, frame, serial);
  });
  return py::make_tuple(std::move(advantages), std::move(returns));
}

}  // namespace ppo
