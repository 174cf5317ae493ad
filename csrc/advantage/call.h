// A call over [T, N] transitions on its way from Python's arguments to those of the kernels: which arguments may and
// must stand together, and the one form that all of them are reduced to. No element is read here, so arrays may
// be of memory that only a device reads.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "advantage/frame.h"

namespace ppo {

// What Python passes for [T, N] transitions, besides rewards and values.
struct Options {
  Given last_values;
  Given next_values;
  Given terminated;
  Given truncated;
  Given final_values;
  Given on_truncation;
  Given episode_starts;
  Given last_done;
  Given prev_done;
};

enum class TruncationRule { kNone, kCurrentValue, kTerminate, kDrop };

// on_truncation, a string or None.
TruncationRule read_truncation_rule(const Frame& frame, const Given& given);

// The checks that need no array: which arguments may and must stand together.
void require_one_form(const Frame& frame, const Options& options, bool has_last_row,
                      bool has_values);

// The pair of results that a caller gave, under the names that errors call them by.
py::tuple require_pair(const char* function, const char* names, const py::object& out);

const Array& require_rewards(const char* function, const Given& rewards);

// cu_seqlens: [B + 1] of int32 or int64.
const Array& require_boundaries(const Argument& argument, const Given& given);

// Where packed sequences start, and with another item the last one ends.
struct Starts {
  std::vector<std::int64_t> held;
  const std::int64_t* data = nullptr;
  std::int64_t longest = 0;  // no sequence is longer
};

// gae_lambda: a number, or a number per column.
struct Lambdas {
  double one = 0;
  const double* each = nullptr;  // held, or a device's
  std::vector<double> held;

  template <typename Arguments>
  void put_into(Arguments& args) const {
    args.gae_lambda = one;
    args.lambdas = each;
  }
};

// A positive limit, which may be infinite.
double require_clip(const Argument& argument, const Given& given);

// The checked arguments of a call, with what must live as long as it.
template <typename Arguments>
class TransitionCall {
 public:
  using T = typename Arguments::Value;

  TransitionCall(Frame& frame, const Given& rewards, const Given& values, const Given& gamma,
                 const Lambdas& lambdas, const Options& o) {
    const char* f = frame.function();
    args.num_steps = frame.steps();
    args.num_columns = frame.columns();
    args.gamma = require_factor({f, "gamma"}, gamma);
    lambdas.put_into(args);
    args.rewards = frame.like<T>("rewards", rewards);
    const bool has_values = !values.is_none();
    bool has_last_row = false;
    if (has_values) args.values = frame.values<T>(values, has_last_row);
    require_one_form(frame, o, has_last_row, has_values);
    const TruncationRule rule = read_truncation_rule(frame, o.on_truncation);

    next_row_ = args.values;
    if (next_row_) next_row_.data += next_row_.stride_t;
    args.after = next_row_;
    if (has_last_row) {
      args.last_after = {args.values.data + frame.steps() * args.values.stride_t, 0,
                         args.values.stride_n};
    } else if (!o.last_values.is_none()) {
      args.last_after = frame.per_column<T>("last_values", o.last_values, last_value_);
    } else {
      args.after = args.last_after = frame.like<T>("next_values", o.next_values);
    }
    if (!o.episode_starts.is_none()) {
      args.terminated = frame.flags("episode_starts", o.episode_starts);
      args.terminated.data = static_cast<const char*>(args.terminated.data) +
                             args.terminated.stride_t * flag_size(args.terminated.type);
      args.last_terminated = frame.flags_per_column("last_done", o.last_done, last_done_);
    } else {
      args.terminated = args.last_terminated = frame.flags("terminated", o.terminated);
      args.truncated = frame.flags("truncated", o.truncated);
    }
    args.masked = frame.flags("prev_done", o.prev_done);
    if (!o.final_values.is_none()) {
      args.final_values = frame.like<T>("final_values", o.final_values);
    } else if (rule == TruncationRule::kCurrentValue) {
      if (!has_values) {
        Argument{f, "on_truncation"}.value_error(
            "must be 'terminate' or 'drop' where there are no values, got 'current_value'");
      }
      args.final_values = args.values;
    } else if (rule == TruncationRule::kTerminate) {
      args.on_truncation = OnTruncation::kTerminate;
    } else if (rule == TruncationRule::kDrop) {
      args.on_truncation = OnTruncation::kDrop;
    }
  }
  TransitionCall(const TransitionCall&) = delete;

  // Values one row later, for t < T - 1.
  const View2<const T>& next_row() const { return next_row_; }

  Arguments args;

 private:
  View2<const T> next_row_;
  T last_value_ = T(0);
  std::uint8_t last_done_ = 0;
};

}  // namespace ppo
