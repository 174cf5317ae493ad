// _core.categorical_sample.
#include "bind.h"
#include "distributions/cpu.h"
#include "support/arrays.h"

namespace ppo {
namespace {

namespace py = pybind11;
using arrays::Argument;

void categorical_sample(const py::object& logits, std::uint64_t seed, std::uint32_t first_id,
                        std::uint64_t step, bool greedy, const py::object& actions,
                        const py::object& logp) {
  const Argument logits_argument{"sample", "logits"};
  const py::array logits_array = logits_argument.array(logits);
  if (!Argument::holds<float>(logits_array)) {
    logits_argument.type_error("must be float32, got " + arrays::dtype_text(logits_array) +
                               "; cast with logits.astype(np.float32)");
  }
  if (logits_array.ndim() != 2 || logits_array.shape(1) < 1) {
    logits_argument.value_error("must have shape (N, actions), got " +
                                arrays::shape_text(logits_array));
  }
  const py::ssize_t rows = logits_array.shape(0);
  const Argument actions_argument{"sample", "actions"};
  py::array actions_array = actions_argument.array(actions);
  actions_argument.require_output_dtype<std::int64_t>(actions_array, "Gymnasium's Discrete");
  actions_argument.require_shape(actions_array, {rows}, "(one per row of logits)");
  const Argument logp_argument{"sample", "logp"};
  py::array logp_array = logp_argument.array(logp);
  logp_argument.require_output_dtype<float>(logp_array, "logits");
  logp_argument.require_shape(logp_array, {rows}, "(one per row of logits)");

  CategoricalSample a;
  a.rows = rows;
  a.num_actions = logits_array.shape(1);
  a.logits = logits_argument.view2<float>(logits_array);
  a.seed = seed;
  a.first_id = first_id;
  a.step = step;
  a.greedy = greedy;
  a.actions = actions_argument.mutable_view1<std::int64_t>(actions_array);
  a.logp = logp_argument.mutable_view1<float>(logp_array);
  std::ptrdiff_t bad;
  {
    const arrays::ReleaseGil release(rows * a.num_actions > 1024);
    bad = PPO_SELECT_ISA(distribution_kernels).categorical_sample(a);
  }
  if (bad >= 0) {
    logits_argument.value_error("row " + std::to_string(bad) +
                                " is no distribution (a NaN, an infinity, or no finite logit)");
  }
}

}  // namespace

void bind_distributions(py::module_& m) {
  m.def("categorical_sample", &categorical_sample, py::arg("logits"), py::arg("seed"),
        py::arg("first_id"), py::arg("step"), py::arg("greedy"), py::arg("actions"),
        py::arg("logp"));
}

}  // namespace ppo
