// The arguments of a call over [T, N] on their way from Python into the views of arguments.h: every
// shape, dtype and combination is checked here, and nothing is copied.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <array>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "advantage/arguments.h"
#include "support/arrays.h"

namespace ppo {

namespace py = pybind11;
using arrays::Argument;
using arrays::Array;
using arrays::Given;

// A factor in [0, 1], such as gamma.
double require_factor(const Argument& argument, const Given& given);

// Flags of any type that people store them in.
FlagType require_flag_type(const Argument& argument, const Array& array);

// The shape that all arrays of a call share: that of the rewards. [T, N], [N, T] with time_axis 1,
// [T], and the first two with a last axis of size 1.
class Frame {
 public:
  Frame(const char* function, const Array& rewards, py::ssize_t time_axis);

  const char* function() const { return function_; }
  py::ssize_t steps() const { return steps_; }
  py::ssize_t columns() const { return columns_; }
  // Neighbours in time lie side by side.
  bool batch_major() const { return batch_major_; }

  // An array of T shaped like the rewards.
  template <typename T>
  View2<const T> like(const char* name, const Given& given) {
    const Argument argument{function_, name};
    const Array& array = numbers<T>(argument, given);
    require_like(argument, array, 0);
    return view<const T>(argument, array);
  }

  // Values, which may have a row more than the rewards: V of the observation after the last step.
  template <typename T>
  View2<const T> values(const Given& given, bool& has_last) {
    const Argument argument{function_, "values"};
    const Array& array = numbers<T>(argument, given);
    has_last = array.ndim() > time_axis_ && array.shape(time_axis_) == steps_ + 1;
    require_like(argument, array, has_last ? 1 : 0, true);
    return view<const T>(argument, array);
  }

  // One number per column: [N], [1, N], [N, 1], or a Python number where N is 1. The view has one
  // row, whatever t.
  template <typename T>
  View2<const T> per_column(const char* name, const Given& given, T& scalar) {
    const Argument argument{function_, name};
    if (given.is_number()) {
      refuse_scalar(argument);
      scalar = static_cast<T>(argument.number(given));
      return {&scalar, 0, 0};
    }
    const Array& array = numbers<T>(argument, given);
    const py::ssize_t axis = require_column(argument, array);
    note(array);
    return {static_cast<const T*>(array.data()), 0, axis < 0 ? 0 : argument.stride(array, axis)};
  }

  // Keeps outputs apart from an input that this class did not read.
  void note(const Array& array) { seen_.push_back(array); }

  FlagView flags(const char* name, const Given& given);
  FlagView flags_per_column(const char* name, const Given& given, std::uint8_t& scalar);

  // Strides, in items, of results in the layout of the rewards: the axis whose neighbours lie side by side is the same.
  std::array<py::ssize_t, arrays::kMostAxes> result_strides() const;

  // A result: the array that the caller gave, or where that is None what `run` makes of the rewards and those strides.
  template <typename T, typename Run>
  View2<T> output(Run& run, const char* name, Given& given) {
    const Argument argument{function_, name};
    if (given.is_none()) {
      given = run.template made<T>(rewards_, result_strides().data());
      return view<T>(argument, given.array());
    }
    const Array& array = argument.array(given);
    argument.require_output_dtype<T>(array, "rewards");
    require_like(argument, array, 0);
    argument.require_writable(array);
    require_apart(argument, array);
    note(array);
    return view<T>(argument, array);
  }

 private:
  template <typename T>
  const Array& numbers(const Argument& argument, const Given& given) const {
    const Array& array = argument.array(given);
    argument.require_dtype<T>(array, "rewards");
    return array;
  }
  template <typename T>
  View2<T> view(const Argument& argument, const Array& array) {
    if constexpr (std::is_const_v<T>) note(array);
    const std::ptrdiff_t stride_t = argument.stride(array, time_axis_);
    const std::ptrdiff_t stride_n = column_axis_ < 0 ? 1 : argument.stride(array, column_axis_);
    return {static_cast<T*>(array.mutable_data()), stride_t, stride_n};
  }

  // Of as many rows as the rewards, or `more`; the caller may allow both.
  void require_like(const Argument& argument, const Array& array, py::ssize_t more,
                    bool may_have_more = false) const;
  std::string other_layout() const;  // a hint, where shapes are those of the other time_axis
  py::ssize_t require_column(const Argument& argument, const Array& array) const;
  // Of several environments, or on a device, whose kernels could not read it.
  void refuse_scalar(const Argument& argument) const;
  // An output must not share memory with what was seen before it.
  void require_apart(const Argument& argument, const Array& array) const;

  const char* function_;
  Array rewards_;
  py::ssize_t time_axis_;
  py::ssize_t column_axis_;  // -1: none
  py::ssize_t steps_;
  py::ssize_t columns_;
  bool batch_major_;
  std::vector<Array> seen_;
};

}  // namespace ppo
