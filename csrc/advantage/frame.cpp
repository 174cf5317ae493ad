#include "advantage/frame.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>

namespace ppo {
namespace {

// The bytes from the first to the last item of an array.
std::pair<std::uintptr_t, std::uintptr_t> extent(const Array& array) {
  auto low = reinterpret_cast<std::uintptr_t>(array.data());
  std::uintptr_t high = low + static_cast<std::uintptr_t>(array.itemsize());
  for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
    const py::ssize_t reach = (array.shape(axis) - 1) * array.strides(axis) * array.itemsize();
    (reach < 0 ? low : high) += static_cast<std::uintptr_t>(reach);
  }
  return {low, high};
}

// NumPy's array of the same memory, of which nothing is read.
py::array memory_of(const Array& array) {
  std::vector<py::ssize_t> strides;
  for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
    strides.push_back(array.strides(axis) * array.itemsize());
  }
  return py::array(py::dtype("V" + std::to_string(array.itemsize())), array.shape(), strides,
                   array.data(), array.object());
}

}  // namespace

double require_factor(const Argument& argument, const Given& given) {
  const double value = argument.number(given);
  if (!(value >= 0.0 && value <= 1.0)) {
    argument.value_error("must be in [0, 1], got " + py::repr(given.object()).cast<std::string>());
  }
  return value;
}

FlagType require_flag_type(const Argument& argument, const Array& array) {
  if (array.holds<bool>() || array.holds<std::uint8_t>() || array.holds<std::int8_t>()) {
    return FlagType::kByte;
  }
  if (array.holds<std::int32_t>() || array.holds<std::uint32_t>()) {
    return FlagType::kInt32;
  }
  if (array.holds<std::int64_t>() || array.holds<std::uint64_t>()) {
    return FlagType::kInt64;
  }
  if (array.holds<float>()) return FlagType::kFloat;
  if (array.holds<double>()) return FlagType::kDouble;
  argument.type_error("must be bool (or 0 and 1 in another type), got " +
                      arrays::dtype_text(array) + "; cast it to bool");
}

// A call seldom has more of them.
constexpr std::size_t kUsualArrays = 8;

Frame::Frame(const char* function, const Array& rewards, py::ssize_t time_axis)
    : function_(function), rewards_(rewards), time_axis_(time_axis) {
  const Argument argument{function, "rewards"};
  const py::ssize_t ndim = rewards.ndim();
  if (time_axis != 0 && time_axis != 1) {
    Argument{function, "time_axis"}.value_error("must be 0 for [T, N] or 1 for [N, T], got " +
                                                std::to_string(time_axis));
  }
  if (!(ndim == 1 || ndim == 2 || (ndim == 3 && rewards.shape(2) == 1))) {
    argument.value_error(
        "must have shape (T, N): time steps, environments; or (T,), or either with a last axis of "
        "size 1; got " +
        arrays::shape_text(rewards) + (ndim > 2 ? "; flatten all but time" : ""));
  }
  if (ndim == 1) time_axis_ = 0;
  column_axis_ = ndim == 1 ? -1 : 1 - time_axis_;
  steps_ = rewards.shape(time_axis_);
  columns_ = ndim == 1 ? 1 : rewards.shape(column_axis_);
  const py::ssize_t stride_t = std::abs(rewards.strides(time_axis_));
  batch_major_ =
      column_axis_ >= 0 && stride_t > 0 && stride_t < std::abs(rewards.strides(column_axis_));
  seen_.reserve(kUsualArrays);
}

void Frame::require_like(const Argument& argument, const Array& array, py::ssize_t more,
                         bool may_have_more) const {
  bool equal = array.ndim() == rewards_.ndim();
  for (py::ssize_t axis = 0; equal && axis < array.ndim(); ++axis) {
    equal = array.shape(axis) == rewards_.shape(axis) + (axis == time_axis_ ? more : 0);
  }
  if (equal) return;
  // A row more than the rewards, but along the other axis: [N, T + 1].
  const bool is_other = may_have_more && column_axis_ >= 0 && array.ndim() == rewards_.ndim() &&
                        array.shape(time_axis_) == steps_ &&
                        array.shape(column_axis_) == columns_ + 1;
  argument.value_error("must have shape " + arrays::shape_text(rewards_) + " like rewards, got " +
                       arrays::shape_text(array) + (is_other ? other_layout() : ""));
}

std::string Frame::other_layout() const {
  return time_axis_ == 0 ? "; that looks batch-major: pass time_axis=1"
                         : "; that looks time-major: pass time_axis=0";
}

py::ssize_t Frame::require_column(const Argument& argument, const Array& array) const {
  const py::ssize_t size = array.size();
  py::ssize_t axis = -1;
  for (py::ssize_t k = 0; k < std::min(array.ndim(), rewards_.ndim()); ++k) {
    if (array.shape(k) != 1 || axis < 0) axis = k;
  }
  const bool one_axis = axis < 0 || array.shape(axis) == size;
  if (array.ndim() <= rewards_.ndim() && one_axis && size == columns_) return axis;
  const std::string hint = one_axis && size == steps_ && steps_ != columns_ ? other_layout() : "";
  argument.value_error("must have shape (" + std::to_string(columns_) +
                       ",) (one per environment), got " + arrays::shape_text(array) + hint);
}

void Frame::refuse_scalar(const Argument& argument) const {
  if (rewards_.on_device()) argument.type_error("must be a tensor, got a number");
  if (columns_ == 1) return;
  argument.value_error("must have shape (" + std::to_string(columns_) +
                       ",) (one per environment), got a number; a number is enough for one "
                       "environment only");
}

FlagView Frame::flags(const char* name, const Given& given) {
  if (given.is_none()) return {};
  const Argument argument{function_, name};
  const Array& array = argument.array(given);
  const FlagType type = require_flag_type(argument, array);
  require_like(argument, array, 0);
  note(array);
  return {array.data(), argument.stride(array, time_axis_),
          column_axis_ < 0 ? 1 : argument.stride(array, column_axis_), type};
}

FlagView Frame::flags_per_column(const char* name, const Given& given, std::uint8_t& scalar) {
  const Argument argument{function_, name};
  const PyObject* object = given.object().ptr();
  const bool is_python_number = PyLong_CheckExact(object) || PyFloat_Check(object);
  if (given.is_number() && !is_python_number) {  // True, np.bool_(True)
    refuse_scalar(argument);
    scalar = argument.number(given) != 0;
    return {&scalar, 0, 0, FlagType::kByte};
  }
  if (is_python_number) {
    argument.type_error(
        "must be an array of one flag per environment, or of one environment True or False; got " +
        arrays::describe(given.object()));
  }
  const Array& array = argument.array(given);
  const FlagType type = require_flag_type(argument, array);
  const py::ssize_t axis = require_column(argument, array);
  note(array);
  return {array.data(), 0, axis < 0 ? 0 : argument.stride(array, axis), type};
}

std::array<py::ssize_t, arrays::kMostAxes> Frame::result_strides() const {
  std::array<py::ssize_t, arrays::kMostAxes> strides = {1, 1, 1};
  if (column_axis_ < 0) return strides;
  const bool is_transposed = batch_major_ == (time_axis_ == 0);
  strides[is_transposed ? 1 : 0] = std::max(rewards_.shape(is_transposed ? 0 : 1), py::ssize_t{1});
  return strides;
}

void Frame::require_apart(const Argument& argument, const Array& array) const {
  if (array.size() == 0) return;
  const auto [low, high] = extent(array);
  for (const Array& input : seen_) {
    if (input.size() == 0) continue;
    const auto [from, to] = extent(input);
    if (low >= to || from >= high) continue;
    // The ranges overlap, but views of one buffer may still have no item in common.
    const py::object shares = py::module_::import("numpy").attr("shares_memory");
    if (shares(memory_of(array), memory_of(input)).cast<bool>()) {
      argument.value_error("must not share memory with an input or the other output");
    }
  }
}

}  // namespace ppo
