// The arguments of a loss on their way from Python into the kernels of either device.
#pragma once

#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "distributions/arguments.h"
#include "surrogate/cpu.h"
#include "surrogate/settings.h"

namespace ppo {

// The arguments of a call, as Python passes them; whatever may be left out is None.
struct LossArguments {
  const char* function;
  py::tuple settings;
  Given first, log_std, values, kl, dist_mask, actions, old_first, old_log_std, old_mask;
  Given old_logp, advantages, returns, old_values, weights, mask;

  // The order of both tuples is that of ppo_fast.surrogate.
  LossArguments(const char* name, std::vector<Given> given, const py::tuple& all_settings)
      : function(name), settings(all_settings) {
    std::size_t i = 0;
    for (Given* array :
         {&first, &log_std, &values, &kl, &dist_mask, &actions, &old_first, &old_log_std, &old_mask,
          &old_logp, &advantages, &returns, &old_values, &weights, &mask}) {
      *array = std::move(given[i++]);
    }
  }
};
inline constexpr std::size_t kLossArrays = 15;

template <typename T>
void read_columns(const LossArguments& from, const char* like, LossCall<T>& call) {
  const auto column = [&](const char* name, const Given& given) {
    return read_column<T>(from.function, name, given, call.batch, like);
  };
  const auto optional = [&](const char* name, const Given& given) {
    return given.is_none() ? View1<const T>{} : column(name, given);
  };
  const auto missing = [&](const char* name, const char* why) {
    Argument{from.function, name}.value_error(std::string("is missing; ") + why);
  };
  if (call.objective == Objective::kPolicyGradient) {
    call.old_logp = optional("old_logp", from.old_logp);
  } else {
    call.old_logp = column("old_logp", from.old_logp);
  }
  call.advantages = column("advantages", from.advantages);
  if (from.values.is_none() != from.returns.is_none()) {
    missing(from.values.is_none() ? "values" : "returns",
            "the value loss needs values and returns; pass both, or neither for the policy alone");
  }
  call.values = optional("values", from.values);
  call.returns = optional("returns", from.returns);
  call.old_values = optional("old_values", from.old_values);
  if (std::isfinite(call.clip_range_values) && from.old_values.is_none()) {
    missing("old_values", "clip_range_values limits how far values move from there");
  }
  call.weights = optional("weights", from.weights);
  if (!from.mask.is_none()) {
    const Argument argument{from.function, "mask"};
    const Array& array = argument.array(from.mask);
    argument.require_bool(array);
    argument.require_shape(array, {call.batch}, "(one per sample)");
    call.mask = argument.view1<bool>(array);
  }
}

// What the policy of a loss is known by: a distribution, or its log-probabilities; and the old one's distribution.
struct LossPolicy {
  std::optional<DistributionArgument> dist;
  std::optional<DistributionArgument> old;
  Array first;  // logits, means or log-probabilities
  bool float32;

  // `form` is (family, nvec, old_nvec), with family -1 for a policy that is known by its log-probabilities.
  LossPolicy(const LossArguments& from, const py::tuple& form) {
    if (form[0].cast<int>() < 0) {
      read_logp(from);
    } else {
      read_distribution(from, arrays::all(form));
    }
  }

  const DistributionArgument* distribution() const { return dist ? &*dist : nullptr; }
  const DistributionArgument* old_distribution() const { return old ? &*old : nullptr; }

 private:
  void read_logp(const LossArguments& from) {
    const Argument argument{from.function, "logp"};
    first = argument.array(from.first);
    float32 = argument.is_float32(first);
    if (first.ndim() != 1 || first.shape(0) < 1) {
      argument.value_error("must have shape (B,) with at least one sample, got " +
                           arrays::shape_text(first) +
                           (first.ndim() > 1 ? "; pass logp.reshape(-1), and so the others" : ""));
    }
  }

  void read_distribution(const LossArguments& from, const std::vector<Given>& form) {
    dist.emplace(from.function, "",
                 std::vector<Given>{form[0], from.first, from.log_std, from.dist_mask, form[1]});
    first = dist->first;
    float32 = dist->float32;
    if (dist->batch() < 1) {
      const std::string name = dist->first_name();
      Argument{from.function, name.c_str()}.value_error("must have at least one sample, got " +
                                                        arrays::shape_text(first));
    }
    if (from.old_first.is_none()) return;
    old.emplace(
        from.function, "old_dist.",
        std::vector<Given>{form[0], from.old_first, from.old_log_std, from.old_mask, form[2]});
    require_same_form(*old, *dist);
  }
};

// Everything but outputs and scratch memory.
template <typename T>
LossCall<T> read_call(const LossArguments& from, const LossPolicy& policy) {
  LossCall<T> call;
  call.batch = policy.first.shape(0);
  read_settings(from.function, from.settings, call);
  const DistributionArgument* dist = policy.distribution();
  const std::string like = dist ? dist->first_name() : "logp";
  if (dist) {
    call.policy.dist = dist->view<T>();
    call.policy.actions = read_actions<T>(*dist, from.actions);
  } else {
    call.policy.logp = Argument{from.function, "logp"}.view1<T>(policy.first);
  }
  read_columns(from, like.c_str(), call);
  if (policy.old) call.old = policy.old->view<T>();
  if (!from.kl.is_none()) {
    call.kl = read_column<T>(from.function, "kl", from.kl, call.batch, like.c_str());
  }
  if ((call.kl_coef != 0 || call.kl_hinge != 0) && !policy.old && !call.kl.data) {
    Argument{from.function, dist ? "old_dist" : "kl"}.value_error(
        "is missing; the KL penalty needs it");
  }
  return call;
}

inline void require_loss_sizes(const py::tuple& form, const py::tuple& given,
                               const py::tuple& settings) {
  if (form.size() != 3 || given.size() != kLossArrays || settings.size() != kLossSettings) {
    throw py::type_error("loss: takes a form of 3, 15 arrays and 11 settings");
  }
}

}  // namespace ppo
