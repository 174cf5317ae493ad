// _core.categorical_ppo_loss.
#include <vector>

#include "bind.h"
#include "support/arrays.h"
#include "surrogate/cpu.h"

namespace ppo {
namespace {

namespace py = pybind11;
using arrays::Argument;

// Samples times actions below which a call is too short to release the GIL.
constexpr py::ssize_t kReleaseFrom = 1 << 10;

template <typename T>
View1<const T> column(const char* name, const py::object& object, py::ssize_t batch) {
  const Argument argument{"ppo_loss", name};
  const py::array array = argument.array(object);
  argument.require_dtype<T>(array, "logits");
  argument.require_shape(array, {batch}, "(one per sample)");
  return argument.view1<T>(array);
}

template <typename T>
py::tuple run(const py::array& logits, const py::object& actions, const py::object& old_logp,
              const py::object& advantages, const py::object& values, const py::object& returns,
              double clip_range, double entropy_coef, double value_coef,
              bool normalize_advantages) {
  CategoricalPpoLoss<T> a;
  a.batch = logits.shape(0);
  a.num_actions = logits.shape(1);
  a.logits = Argument{"ppo_loss", "logits"}.view2<T>(logits);
  const Argument actions_argument{"ppo_loss", "actions"};
  const py::array actions_array = actions_argument.array(actions);
  if (!Argument::holds<std::int64_t>(actions_array)) {
    actions_argument.type_error("must be int64, got " + arrays::dtype_text(actions_array) +
                                "; cast with actions.astype(np.int64)");
  }
  actions_argument.require_shape(actions_array, {a.batch}, "(one per sample)");
  // A copy, so that what was checked is what the kernel reads once the GIL is released.
  const View1<const std::int64_t> given = actions_argument.view1<std::int64_t>(actions_array);
  std::vector<std::int64_t> checked(static_cast<std::size_t>(a.batch));
  for (std::ptrdiff_t i = 0; i < a.batch; ++i) {
    const std::int64_t action = given[i];
    if (action < 0 || action >= a.num_actions) {
      actions_argument.value_error("must be in [0, " + std::to_string(a.num_actions) + "), got " +
                                   std::to_string(action) + " for sample " + std::to_string(i));
    }
    checked[static_cast<std::size_t>(i)] = action;
  }
  a.actions = {checked.data(), 1};
  a.old_logp = column<T>("old_logp", old_logp, a.batch);
  a.advantages = column<T>("advantages", advantages, a.batch);
  a.values = column<T>("values", values, a.batch);
  a.returns = column<T>("returns", returns, a.batch);
  a.clip_range = clip_range;
  a.entropy_coef = entropy_coef;
  a.value_coef = value_coef;
  a.normalize_advantages = normalize_advantages;

  py::array_t<T> logits_gradient({a.batch, a.num_actions});
  py::array_t<T> values_gradient(a.batch);
  py::array_t<double> stats(static_cast<py::ssize_t>(kNumPpoStats));
  a.logits_gradient = logits_gradient.mutable_data();
  a.values_gradient = values_gradient.mutable_data();
  a.stats = stats.mutable_data();
  double loss;
  {
    const arrays::ReleaseGil release(a.batch * a.num_actions >= kReleaseFrom);
    std::vector<T> scratch(static_cast<std::size_t>(categorical_scratch(a.num_actions)));
    a.scratch = scratch.data();
    if constexpr (std::is_same_v<T, float>) {
      loss = PPO_SELECT_ISA(surrogate_kernels).categorical_float(a);
    } else {
      loss = PPO_SELECT_ISA(surrogate_kernels).categorical_double(a);
    }
  }
  return py::make_tuple(loss, logits_gradient, values_gradient, stats);
}

// (loss, d loss / d logits, d loss / d values, stats)
py::tuple categorical_ppo_loss(const py::object& logits, const py::object& actions,
                               const py::object& old_logp, const py::object& advantages,
                               const py::object& values, const py::object& returns,
                               const py::object& clip_range, const py::object& entropy_coef,
                               const py::object& value_coef, bool normalize_advantages) {
  const Argument argument{"ppo_loss", "logits"};
  const py::array array = argument.array(logits);
  const bool float32 = argument.is_float32(array);
  if (array.ndim() != 2 || array.shape(0) < 1 || array.shape(1) < 1) {
    argument.value_error("must have shape (B, actions) with at least one sample and action, got " +
                         arrays::shape_text(array));
  }
  const Argument clip_argument{"ppo_loss", "clip_range"};
  const double clip = clip_argument.number(clip_range);
  if (!(clip > 0)) {
    clip_argument.value_error("must be positive, got " + py::repr(clip_range).cast<std::string>());
  }
  const auto chosen = float32 ? &run<float> : &run<double>;
  return chosen(array, actions, old_logp, advantages, values, returns, clip,
                Argument{"ppo_loss", "entropy_coef"}.number(entropy_coef),
                Argument{"ppo_loss", "value_coef"}.number(value_coef), normalize_advantages);
}

}  // namespace

void bind_surrogate(py::module_& m) {
  m.def("categorical_ppo_loss", &categorical_ppo_loss, py::arg("logits"), py::arg("actions"),
        py::arg("old_logp"), py::arg("advantages"), py::arg("values"), py::arg("returns"),
        py::arg("clip_range"), py::arg("entropy_coef"), py::arg("value_coef"),
        py::arg("normalize_advantages"));
}

}  // namespace ppo
