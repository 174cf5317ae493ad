// Python arguments of a distribution on their way into the kernels; shared by the bindings of the
// distributions and of the losses.
#pragma once

#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "distributions/distribution.h"
#include "support/arrays.h"

namespace ppo {

namespace py = pybind11;
using arrays::Argument;
using arrays::Array;
using arrays::Given;

// Samples times columns below which a call is too short to release the GIL.
inline constexpr py::ssize_t kReleaseFrom = 1 << 10;

// Scratch memory of a call, aligned to cache lines.
class ScratchMemory {
 public:
  explicit ScratchMemory(std::ptrdiff_t bytes)
      : memory_(::operator new(static_cast<std::size_t>(bytes), std::align_val_t{64})) {}
  void* get() const { return memory_.get(); }

 private:
  struct Free {
    void operator()(void* p) const { ::operator delete(p, std::align_val_t{64}); }
  };
  std::unique_ptr<void, Free> memory_;
};

// A distribution as ppo_fast.distributions describes it: (family, first, second, mask, nvec), whose last three may be
// None. `prefix` stands before the names of its parameters in errors.
struct DistributionArgument {
  const char* function;
  std::string prefix;
  std::vector<Given> parts;
  Family family;
  Array first;
  bool float32;
  std::vector<std::int64_t> sizes;

  DistributionArgument(const char* function_name, const char* before, std::vector<Given> given)
      : function(function_name),
        prefix(before),
        parts(std::move(given)),
        family(static_cast<Family>(parts[0].object().cast<int>())) {
    const std::string name = first_name();
    const Argument argument{function, name.c_str()};
    first = argument.array(parts[1]);
    float32 = argument.is_float32(first);
    if (first.ndim() != 2 || first.shape(1) < 1) {
      argument.value_error(std::string("must have shape (B, ") + columns_name() + "), got " +
                           arrays::shape_text(first));
    }
    if (!parts[4].is_none()) read_sizes();
  }

  bool has_second() const {
    return family == Family::kGaussian || family == Family::kSquashedGaussian;
  }
  bool has_discrete_actions() const { return !has_second(); }
  std::string first_name() const { return prefix + (has_second() ? "mean" : "logits"); }
  std::string mask_name() const { return (prefix.empty() ? "dist." : prefix) + "mask"; }
  const char* columns_name() const { return family == Family::kCategorical ? "actions" : "D"; }
  bool one_action() const { return family == Family::kCategorical && sizes.empty(); }
  py::ssize_t batch() const { return first.shape(0); }
  py::ssize_t dims() const { return first.shape(1); }
  py::ssize_t components() const {
    if (family != Family::kCategorical) return dims();
    return sizes.empty() ? 1 : static_cast<py::ssize_t>(sizes.size());
  }

  // The shape of its actions, in words of Python's.
  std::string actions_shape() const {
    return one_action() ? "(" + std::to_string(batch()) + ",)"
                        : "(" + std::to_string(batch()) + ", " + std::to_string(components()) + ")";
  }

  template <typename T>
  Distribution<T> view() const {
    Distribution<T> d;
    d.family = family;
    d.batch = batch();
    d.dims = dims();
    d.components = components();
    d.sizes = sizes.empty() ? nullptr : sizes.data();
    const std::string name = first_name();
    d.first = Argument{function, name.c_str()}.view2<T>(first);
    if (has_second()) read_log_std(d, name);
    if (!parts[3].is_none()) read_mask(d);
    return d;
  }

 private:
  void read_sizes() {
    py::ssize_t sum = 0;
    const py::object& nvec = parts[4].object();
    for (const py::handle& item : nvec) {
      const Argument argument{function, "nvec"};
      sizes.push_back(argument.integer(item));
      if (sizes.back() < 1) {
        argument.value_error("must be positive, got " + py::str(nvec).cast<std::string>());
      }
      sum += sizes.back();
    }
    if (sizes.empty() || sum != dims()) {
      const std::string name = first_name();
      Argument{function, name.c_str()}.value_error(
          "must have shape (B, " + std::to_string(sum) + "), a column for each choice of nvec = " +
          py::str(nvec).cast<std::string>() + ", got " + arrays::shape_text(first));
    }
  }

  template <typename T>
  void read_log_std(Distribution<T>& d, const std::string& like) const {
    const std::string name = prefix + "log_std";
    const Argument argument{function, name.c_str()};
    const Array& array = argument.array(parts[2]);
    argument.require_dtype<T>(array, like.c_str());
    if (array.ndim() == 1) {
      argument.require_shape(array, {dims()}, "or one row per sample");
      d.second = {static_cast<const T*>(array.data()), 0, argument.stride(array, 0)};
      d.shares_second = true;
    } else {
      argument.require_shape(array, {batch(), dims()}, "like mean, or one row for all samples");
      d.second = argument.view2<T>(array);
    }
  }

  template <typename T>
  void read_mask(Distribution<T>& d) const {
    const std::string name = mask_name();
    const Argument argument{function, name.c_str()};
    const Array& array = argument.array(parts[3]);
    argument.require_bool(array);
    argument.require_shape(array, {batch(), dims()}, "like logits");
    d.mask = argument.view2<bool>(array);
  }
};

// The old policy must be of the same family, shape and dtype as the new one.
inline void require_same_form(const DistributionArgument& old, const DistributionArgument& dist) {
  const std::string old_name = old.first_name();
  const std::string name = dist.first_name();
  const Argument argument{old.function, old_name.c_str()};
  if (old.float32 != dist.float32) {
    argument.type_error("must be " + arrays::dtype_text(dist.first) + " like " + name + ", got " +
                        arrays::dtype_text(old.first));
  }
  argument.require_shape(old.first, {dist.batch(), dist.dims()}, ("like " + name).c_str());
  if (old.sizes != dist.sizes) argument.value_error("must have the same nvec as " + name);
}

// Actions as the family has them: int64 or of the parameters' type; [B] for a plain categorical.
template <typename T>
Actions<T> read_actions(const DistributionArgument& dist, const Given& given) {
  const Argument argument{dist.function, "actions"};
  const Array& array = argument.array(given);
  Actions<T> actions;
  if (dist.has_discrete_actions()) {
    if (!array.holds<std::int64_t>()) {
      argument.type_error("must be int64, got " + arrays::dtype_text(array) +
                          "; cast with actions.astype(np.int64)");
    }
  } else {
    argument.require_dtype<T>(array, "mean");
  }
  if (dist.one_action()) {
    argument.require_shape(array, {dist.batch()}, "(one per sample)");
    const auto view = argument.view1<std::int64_t>(array);
    actions.discrete = {view.data, view.stride, 0};
    return actions;
  }
  argument.require_shape(array, {dist.batch(), dist.components()}, "(one row per sample)");
  if (dist.has_discrete_actions()) {
    actions.discrete = argument.view2<std::int64_t>(array);
  } else {
    actions.continuous = argument.view2<T>(array);
  }
  return actions;
}

// A column [B].
template <typename T>
View1<const T> read_column(const char* function, const char* name, const Given& given,
                           py::ssize_t batch, const char* like) {
  const Argument argument{function, name};
  const Array& array = argument.array(given);
  argument.require_dtype<T>(array, like);
  argument.require_shape(array, {batch}, "(one per sample)");
  return argument.view1<T>(array);
}

// Says what is wrong with a sample; the kernel found it.
[[noreturn]] inline void refuse_parameters(const DistributionArgument& dist, std::ptrdiff_t row) {
  const std::string where = "row " + std::to_string(row) + " ";
  if (!dist.parts[3].is_none()) {
    const std::string name = dist.mask_name();
    const View2<const bool> allowed =
        Argument{dist.function, name.c_str()}.view2<bool>(dist.parts[3].array());
    std::ptrdiff_t begin = 0;
    for (std::size_t c = 0; c < static_cast<std::size_t>(dist.components()); ++c) {
      const std::ptrdiff_t end = dist.sizes.empty() ? dist.dims() : begin + dist.sizes[c];
      bool any = false;
      for (std::ptrdiff_t k = begin; k < end; ++k) any = any || allowed(row, k);
      if (!any) {
        const std::string part = dist.sizes.empty() ? "" : " in component " + std::to_string(c);
        Argument{dist.function, name.c_str()}.value_error(where + "allows no action" + part);
      }
      begin = end;
    }
  }
  const std::string name = dist.first_name();
  const Argument argument{dist.function, name.c_str()};
  switch (dist.family) {
    case Family::kCategorical:
      argument.value_error(where + "is no distribution (a NaN, an infinity, or no finite logit)");
    case Family::kBernoulli:
      argument.value_error(where + "holds a NaN");
    default:
      argument.value_error(where + "or its log_std holds a NaN or an infinity");
  }
}

[[noreturn]] inline void refuse_action(const DistributionArgument& dist, const Given& given,
                                       std::ptrdiff_t row) {
  const Argument argument{dist.function, "actions"};
  const Array& array = given.array();
  const auto action = [&](std::ptrdiff_t c) {
    return dist.one_action() ? argument.view1<std::int64_t>(array)[row]
                             : argument.view2<std::int64_t>(array)(row, c);
  };
  const std::string end = " for sample " + std::to_string(row);
  for (std::ptrdiff_t c = 0; c < dist.components(); ++c) {
    const std::int64_t choices = dist.family == Family::kBernoulli ? 2
                                 : dist.sizes.empty() ? dist.dims()
                                                      : dist.sizes[static_cast<std::size_t>(c)];
    if (action(c) >= 0 && action(c) < choices) continue;
    const std::string where = dist.one_action() ? "" : " in column " + std::to_string(c);
    argument.value_error("must be in [0, " + std::to_string(choices) + ")" + where + ", got " +
                         std::to_string(action(c)) + end);
  }
  argument.value_error("was changed during the call" + end);
}

}  // namespace ppo
