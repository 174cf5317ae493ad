// Settings of a loss on their way from Python into the kernels; shared by the bindings of the losses and of
// the learner.
#pragma once

#include <cmath>
#include <limits>
#include <string>

#include "support/arrays.h"
#include "surrogate/cpu.h"

namespace ppo {

namespace py = pybind11;
using arrays::Argument;
using arrays::Given;

inline constexpr std::size_t kLossSettings = 11;

// A number above `least`, or infinity for None.
inline double limit(const Argument& argument, const Given& given, double least,
                    const char* condition) {
  if (given.is_none()) return std::numeric_limits<double>::infinity();
  const double value = argument.number(given);
  if (!(value > least)) {
    argument.value_error(std::string("must be ") + condition + ", got " +
                         py::repr(given.object()).cast<std::string>());
  }
  return value;
}

inline double coefficient(const Argument& argument, const Given& given) {
  const double value = argument.number(given);
  if (!std::isfinite(value)) {
    argument.value_error("must be finite, got " + py::repr(given.object()).cast<std::string>());
  }
  return value;
}

// The order of the settings is that of ppo_fast.surrogate.
template <typename T>
void read_settings(const char* function, const py::tuple& settings, LossCall<T>& call) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  std::size_t next = 1;
  const auto take = [&] { return py::object(settings[next++]); };
  const auto named = [&](const char* name) { return Argument{function, name}; };
  const std::string objective = settings[0].cast<std::string>();
  const py::object clip_range = take();
  const py::object clip_range_high = take();
  const py::object dual_clip = take();
  const double low = limit(named("clip_range"), clip_range, 0, "positive");
  const double high = clip_range_high.is_none()
                          ? low
                          : limit(named("clip_range_high"), clip_range_high, 0, "positive");
  if (objective == "policy_gradient") {
    call.objective = Objective::kPolicyGradient;
  } else if (objective != "importance" && objective != "clipped") {
    named("objective")
        .value_error("must be policy_gradient, importance or clipped, got " + objective);
  }
  const bool clips = objective == "clipped";
  if (clips && clip_range.is_none()) {
    named("clip_range").value_error("is missing; the clipped objective needs it");
  }
  call.ratio_low = clips ? 1.0 - low : -kInfinity;
  call.ratio_high = clips ? 1.0 + high : kInfinity;
  call.dual_clip = limit(named("dual_clip"), dual_clip, 1, "above 1");
  if (!clips && (!clip_range_high.is_none() || !dual_clip.is_none())) {
    const bool is_high = !clip_range_high.is_none();
    named(is_high ? "clip_range_high" : "dual_clip")
        .value_error("has no meaning without the clipped objective; pass clip_range");
  }
  call.clip_range_values = limit(named("clip_range_values"), take(), 0, "positive");
  call.kl_coef = coefficient(named("kl_coef"), take());
  call.kl_hinge = coefficient(named("kl_hinge"), take());
  call.kl_hinge_from = coefficient(named("kl_hinge_from"), take());
  call.entropy_coef = coefficient(named("entropy_coef"), take());
  call.value_coef = coefficient(named("value_coef"), take());
  call.normalize_advantages = named("normalize_advantages").boolean(take());
}

}  // namespace ppo
