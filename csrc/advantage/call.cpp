#include "advantage/call.h"

namespace ppo {
namespace {

[[noreturn]] void refuse(const char* function, const std::string& message) {
  throw py::value_error(std::string(function) + ": " + message);
}

}  // namespace

TruncationRule read_truncation_rule(const Frame& frame, const Given& given) {
  const py::object& object = given.object();
  if (given.is_none()) return TruncationRule::kNone;
  const Argument argument{frame.function(), "on_truncation"};
  if (!py::isinstance<py::str>(object)) {
    argument.type_error("must be a string, got " + arrays::describe(object));
  }
  const auto text = object.cast<std::string>();
  if (text == "current_value") return TruncationRule::kCurrentValue;
  if (text == "terminate") return TruncationRule::kTerminate;
  if (text == "drop") return TruncationRule::kDrop;
  argument.value_error("must be 'current_value', 'terminate' or 'drop', got " +
                       py::repr(object).cast<std::string>());
}

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

py::tuple require_pair(const char* function, const char* names, const py::object& out) {
  const Argument argument{function, "out"};
  if (!py::isinstance<py::tuple>(out)) {
    argument.type_error("must be a tuple " + std::string(names) + ", got " + arrays::describe(out));
  }
  if (py::len(out) != 2) {
    argument.type_error("must be a tuple " + std::string(names) + ", got one of " +
                        std::to_string(py::len(out)));
  }
  return out;
}

const Array& require_rewards(const char* function, const Given& rewards) {
  const Argument argument{function, "rewards"};
  const Array& array = argument.array(rewards);
  argument.is_float32(array);
  return array;
}

const Array& require_boundaries(const Argument& argument, const Given& given) {
  const Array& array = argument.array(given);
  if (!array.holds<std::int32_t>() && !array.holds<std::int64_t>()) {
    argument.type_error("must be int32 or int64, got " + arrays::dtype_text(array));
  }
  if (array.ndim() != 1 || array.shape(0) < 1) {
    argument.value_error("must have shape (B + 1,), got " + arrays::shape_text(array));
  }
  return array;
}

double require_clip(const Argument& argument, const Given& given) {
  const double value = argument.number(given);
  if (!(value > 0.0)) {
    argument.value_error("must be positive (float('inf') for no limit), got " +
                         py::repr(given.object()).cast<std::string>());
  }
  return value;
}

}  // namespace ppo
