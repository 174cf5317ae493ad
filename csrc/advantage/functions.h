// gae, lambda_returns, discounted_returns, vtrace and token_gae from Python's arguments to kernels. `run(call, frame, exact)` starts
// these: on the CPU (bind.cpp) or on a stream (cuda_bind.cpp).
#pragma once

#include <utility>

#include "advantage/call.h"

namespace ppo {

// Calls body with a float or a double, as the array holds.
template <typename Body>
auto with_type(const Array& array, const Body& body) {
  return array.holds<float>() ? body(float()) : body(double());
}

// Two results: those that the caller gave, or None for new ones.
struct Pair {
  Given first;
  Given second;

  template <typename Run>
  Pair(const Run& run, const char* function, const char* names, const Given& out) {
    if (out.is_none()) return;
    const py::tuple given = require_pair(function, names, out.object());
    first = run.given(given[0]);
    second = run.given(given[1]);
    Argument{function, "out[0]"}.array(first);
    Argument{function, "out[1]"}.array(second);
  }
  py::tuple objects() const { return py::make_tuple(first.object(), second.object()); }
};

template <typename Run>
py::tuple gae(Run&& run, const Given& rewards, const Given& values, const Given& gamma,
              const Given& gae_lambda, const Options& options, const Given& time_axis,
              const Given& out, const Given& exact) {
  const char* function = "gae";
  const Array& array = require_rewards(function, rewards);
  Frame frame(function, array, Argument{function, "time_axis"}.integer(time_axis));
  const bool serial = Argument{function, "exact"}.boolean(exact);
  Argument{function, "values"}.array(values);
  Pair results(run, function, "(advantages, returns)", out);
  const Lambdas lambdas = run.lambdas(frame, gae_lambda, frame.columns(), "(one per environment)");
  with_type(array, [&](auto number) {
    using T = decltype(number);
    TransitionCall<GaeArguments<T>> call(frame, rewards, values, gamma, lambdas, options);
    call.args.advantages = frame.output<T>(run, "out[0]", results.first);
    call.args.returns = frame.output<T>(run, "out[1]", results.second);
    run(call, frame, serial);
  });
  return results.objects();
}

template <typename Run>
py::object lambda_returns(Run&& run, const Given& rewards, const Given& values, const Given& gamma,
                          const Given& gae_lambda, const Options& options, const Given& time_axis,
                          Given out, const Given& exact) {
  const char* function = "lambda_returns";
  const Array& array = require_rewards(function, rewards);
  Frame frame(function, array, Argument{function, "time_axis"}.integer(time_axis));
  const bool serial = Argument{function, "exact"}.boolean(exact);
  Argument{function, "values"}.array(values);
  const Lambdas lambdas = run.lambdas(frame, gae_lambda, frame.columns(), "(one per environment)");
  with_type(array, [&](auto number) {
    using T = decltype(number);
    TransitionCall<GaeArguments<T>> call(frame, rewards, values, gamma, lambdas, options);
    call.args.returns = frame.output<T>(run, "out", out);
    run(call, frame, serial);
  });
  return out.object();
}

// The advantages of a critic that says 0 everywhere, with lambda 1.
template <typename Run>
py::object discounted_returns(Run&& run, const Given& rewards, const Given& gamma,
                              const Options& options, const Given& time_axis, Given out,
                              const Given& exact) {
  const char* function = "discounted_returns";
  const Array& array = require_rewards(function, rewards);
  Frame frame(function, array, Argument{function, "time_axis"}.integer(time_axis));
  const bool serial = Argument{function, "exact"}.boolean(exact);
  with_type(array, [&](auto number) {
    using T = decltype(number);
    TransitionCall<GaeArguments<T>> call(frame, rewards, Given(), gamma, Lambdas{1.0, nullptr, {}},
                                         options);
    call.args.advantages = frame.output<T>(run, "out", out);
    run(call, frame, serial);
  });
  return out.object();
}

template <typename Run>
py::tuple vtrace(Run&& run, const Given& rewards, const Given& values, const Given& log_rhos,
                 const Given& gamma, const Given& gae_lambda, const Given& rho_clip,
                 const Given& c_clip, const Given& pg_rho_clip, const Options& options,
                 const Given& time_axis, const Given& out, const Given& exact) {
  const char* function = "vtrace";
  const Array& array = require_rewards(function, rewards);
  Frame frame(function, array, Argument{function, "time_axis"}.integer(time_axis));
  const bool serial = Argument{function, "exact"}.boolean(exact);
  Argument{function, "values"}.array(values);
  Pair results(run, function, "(vs, pg_advantages)", out);
  const Lambdas lambdas = run.lambdas(frame, gae_lambda, frame.columns(), "(one per environment)");
  with_type(array, [&](auto number) {
    using T = decltype(number);
    TransitionCall<VtraceArguments<T>> call(frame, rewards, values, gamma, lambdas, options);
    auto& args = call.args;
    args.log_rhos = frame.like<T>("log_rhos", log_rhos);
    args.next_values = call.next_row();
    args.rho_clip = require_clip({function, "rho_clip"}, rho_clip);
    args.c_clip = require_clip({function, "c_clip"}, c_clip);
    args.pg_rho_clip = require_clip({function, "pg_rho_clip"}, pg_rho_clip);
    args.vs = frame.output<T>(run, "out[0]", results.first);
    args.pg_advantages = frame.output<T>(run, "out[1]", results.second);
    run(call, frame, serial);
  });
  return results.objects();
}

template <typename Run>
py::tuple token_gae(Run&& run, const Given& rewards, const Given& values, const Given& mask,
                    const Given& gamma, const Given& gae_lambda, const Given& masked,
                    const Given& bootstrap, const Given& cu_seqlens, const Given& out,
                    const Given& exact) {
  const char* function = "token_gae";
  const Array& array = require_rewards(function, rewards);
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
  const auto text =
      py::isinstance<py::str>(masked.object()) ? masked.object().cast<std::string>() : "";
  if (text != "skip" && text != "decay") {
    Argument{function, "masked"}.value_error("must be 'skip' or 'decay', got " +
                                             py::repr(masked.object()).cast<std::string>());
  }
  Starts starts;
  py::ssize_t rows = frame.columns();
  if (packed) {
    const Argument argument{function, "cu_seqlens"};
    const Array& boundaries = require_boundaries(argument, cu_seqlens);
    starts = run.starts(frame, argument, boundaries);
    rows = boundaries.shape(0) - 1;
  }
  const Lambdas lambdas = run.lambdas(frame, gae_lambda, rows, "(one per sequence)");
  Pair results(run, function, "(advantages, returns)", out);
  with_type(array, [&](auto number) {
    using T = decltype(number);
    TokenArguments<T> args;
    args.num_steps = packed ? starts.longest : frame.steps();
    args.num_columns = args.num_sequences = rows;
    args.starts = starts.data;
    args.rewards = frame.like<T>("rewards", rewards);
    args.values = frame.like<T>("values", values);
    Argument{function, "mask"}.array(mask);
    args.mask = frame.flags("mask", mask);
    args.skip = text == "skip";
    args.gamma = require_factor({function, "gamma"}, gamma);
    lambdas.put_into(args);
    const Argument argument{function, "bootstrap"};
    if (bootstrap.is_array() && (bootstrap.array().ndim() > 0 || bootstrap.on_device())) {
      const Array& each = argument.array(bootstrap);
      argument.require_dtype<T>(each, "rewards");
      if (each.ndim() > 0) {
        argument.require_shape(each, {rows}, "(one per sequence)");
        args.bootstrap = argument.view1<T>(each);
      } else {
        args.bootstrap = {static_cast<const T*>(each.data()), 0};
      }
      frame.note(each);
    } else {
      args.one_bootstrap = static_cast<T>(argument.number(bootstrap));
    }
    args.advantages = frame.output<T>(run, "out[0]", results.first);
    args.returns = frame.output<T>(run, "out[1]", results.second);
    run(args, frame, serial);
  });
  return results.objects();
}

}  // namespace ppo
