// The estimators of [T, N] transitions: how they make delta and c of a span, and results of A.
//
// An estimator has two halves between which the recurrence runs. `front` writes delta and c of a
// span; `back` turns the A of the same span, and the A one step later, into results. Neither knows
// how time is cut into spans, except that spans come in order, the last one first, after a call of
// `start`.
#pragma once

#include <cstddef>
#include <cstdint>

#include "advantage/arguments.h"
#include "advantage/formula.h"
#include "advantage/runs.h"
#include "support/math.h"
#include "support/stream.h"
#include "support/vector.h"

namespace ppo::inline PPO_ISA {

// Inputs of a span as runs.
template <typename T>
struct Inputs {
  const T* rewards;
  const T* values;
  const T* after;
  const T* final_values;
  const std::uint8_t* flags;  // kTerminated | kTruncated | kMasked, or anything but 0: terminated
  const T* decay;             // gamma lambda
};

// The inputs that all estimators of transitions share.
template <typename T>
class TransitionReader {
 public:
  explicit TransitionReader(const Transitions<T>& a) : a_(a), gamma_(static_cast<T>(a.gamma)) {
    std::memset(zeros_, 0, sizeof zeros_);
    std::memset(no_flags_, 0, sizeof no_flags_);
    if (a.lambdas == nullptr) {
      const T decay = static_cast<T>(a.gamma * a.gae_lambda);
      for (T& x : decay_) x = decay;
    }
  }
  TransitionReader(const TransitionReader&) = delete;

  T gamma() const { return gamma_; }

  // Whether flags are codes, or say terminated and nothing else.
  bool has_codes() const { return a_.truncated || a_.masked; }

  Inputs<T> read(const Span& s) {
    set_decay(s);
    Inputs<T> in;
    in.rewards = fetch(a_.rewards, s, rewards_, zeros_);
    in.values = values(s);
    in.after = after(a_.after, a_.last_after, s, after_, zeros_);
    in.final_values = in.after;
    in.flags = after(a_.terminated, a_.last_terminated, s, terminated_, no_flags_);
    in.decay = decay_;
    if (has_codes()) {
      const std::uint8_t found = code_flags(s, in.flags);
      in.flags = codes_;
      if (a_.final_values && (found & kTruncated)) {  // most spans have no truncated transition
        in.final_values = fetch(a_.final_values, s, final_values_, zeros_);
      }
    }
    return in;
  }

  const T* values(const Span& s) { return fetch(a_.values, s, values_, zeros_); }

  // The run of an array of which the last step of all stands in a view of its own.
  template <typename View, typename Item>
  const Item* after(const View& view, const View& last_view, const Span& s, Item* scratch,
                    const Item* absent) const {
    const bool has_last = s.t + s.steps == a_.num_steps;
    // The same view: the last step is not apart. (The same address alone says nothing: last_values
    // may be a row of values.)
    const bool is_one = last_view.data == view.data && last_view.stride_t == view.stride_t &&
                        last_view.stride_n == view.stride_n;
    if (!has_last || is_one) return fetch(view, s, scratch, absent);
    if (s.steps == 1) return fetch(last_view, s, scratch, absent);
    const bool by_step = s.order == Order::kStepByStep;
    const std::ptrdiff_t parts = by_step ? 1 : s.columns;
    Item* to = scratch;
    for (std::ptrdiff_t n = 0; n < parts; ++n) {
      const Span upper = {s.t, s.steps - 1, s.n + n, by_step ? s.columns : 1, s.order};
      const Span last = {a_.num_steps - 1, 1, upper.n, upper.columns, s.order};
      place(view, upper, to, absent);
      place(last_view, last, to + upper.size(), absent);
      to += upper.size() + last.size();
    }
    return scratch;
  }

 private:
  template <typename View, typename Item>
  static void place(const View& view, const Span& s, Item* to, const Item* absent) {
    if (view) {
      gather(view, s, to);
    } else {
      std::memcpy(to, absent, static_cast<std::size_t>(s.size()) * sizeof(Item));
    }
  }

  // Fills codes_ and returns which codes there are.
  std::uint8_t code_flags(const Span& s, const std::uint8_t* terminated) {
    const std::uint8_t* truncated = fetch(a_.truncated, s, truncated_, no_flags_);
    const std::uint8_t* masked = fetch(a_.masked, s, masked_, no_flags_);
    const std::uint8_t code = truncation_code(a_.on_truncation);
    std::uint8_t found = 0;
    const std::ptrdiff_t size = s.size();
    PPO_INDEPENDENT
    for (std::ptrdiff_t i = 0; i < size; ++i) {
      codes_[i] = flag_code(terminated[i] != 0, truncated[i] != 0, masked[i] != 0, code);
      found = static_cast<std::uint8_t>(found | codes_[i]);
    }
    return found;
  }

  void set_decay(const Span& s) {
    if (a_.lambdas == nullptr) return;
    const bool by_step = s.order == Order::kStepByStep;
    const std::ptrdiff_t size = s.size();
    for (std::ptrdiff_t i = 0; i < size; ++i) {
      const std::ptrdiff_t n = s.n + (by_step ? i % s.columns : i / s.steps);
      decay_[i] = static_cast<T>(a_.gamma * a_.lambdas[n]);
    }
  }

  const Transitions<T>& a_;
  T gamma_;
  alignas(64) T rewards_[kRun];
  alignas(64) T values_[kRun];
  alignas(64) T after_[kRun];
  alignas(64) T final_values_[kRun];
  alignas(64) T zeros_[kRun];
  alignas(64) T decay_[kRun];
  alignas(64) std::uint8_t terminated_[kRun];
  alignas(64) std::uint8_t truncated_[kRun];
  alignas(64) std::uint8_t masked_[kRun];
  alignas(64) std::uint8_t no_flags_[kRun];
  alignas(64) std::uint8_t codes_[kRun];
};

// Loads come first and unconditionally: a load under a condition does not vectorise.
template <bool kCodes, typename T>
PPO_HD Front<kCodes, T> front_of(const Inputs<T>& in, std::ptrdiff_t i, T gamma) {
  const T value = in.values[i];
  const std::uint8_t flags = in.flags[i];
  const T next_value = in.after[i];
  const T final_value = kCodes ? in.final_values[i] : T(0);
  const T reward = in.rewards[i];
  return {reward, value, next_value, final_value, flags, in.decay[i], gamma};
}

template <typename Arguments>
class GaeEstimator {
 public:
  using T = typename Arguments::Value;
  static constexpr bool kNeedsLater = false;

  explicit GaeEstimator(const Arguments& a)
      : a_(a), reader_(a), streams_(is_streamed(a.advantages) && is_streamed(a.returns)) {}

  void start(std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t) {}
  std::ptrdiff_t num_steps(std::ptrdiff_t) const { return a_.num_steps; }

  void front(const Span& s) {
    const Inputs<T> in = reader_.read(s);
    reader_.has_codes() ? fill<true>(in, s.size()) : fill<false>(in, s.size());
  }

  void back(const Span& s, const T* advantage, const T*) {
    if (a_.advantages) put(a_.advantages, s, advantage);
    if (!a_.returns) return;
    T* direct = flat_output(a_.returns, s);
    T* __restrict returns = direct ? direct : results_;
    const T* values = reader_.values(s);
    const std::ptrdiff_t size = s.size();
    PPO_INDEPENDENT
    for (std::ptrdiff_t i = 0; i < size; ++i) returns[i] = advantage[i] + values[i];
    if (!direct) put(a_.returns, s, results_);
  }

  // front, recurrence and back in one loop, for time-major spans. `carry` has one row.
  void fused(const Span& s, T* carry) {
    const Inputs<T> in = reader_.read(s);
    if (streams_)
      return reader_.has_codes() ? stream_fused<true>(in, s, carry)
                                 : stream_fused<false>(in, s, carry);
    T* advantages = a_.advantages ? flat_output(a_.advantages, s) : nullptr;
    T* returns = a_.returns ? flat_output(a_.returns, s) : nullptr;
    T* a = advantages ? advantages : delta;
    T* r = returns ? returns : results_;
    reader_.has_codes() ? fuse<true>(in, s, carry, a, r) : fuse<false>(in, s, carry, a, r);
    if (!advantages && a_.advantages) put(a_.advantages, s, a);
    if (!returns && a_.returns) put(a_.returns, s, r);
  }

  // How many columns to go through together, from column n on. Those before the first cache line that
  // starts in a row of results stand alone: they share theirs with the end of the row before, and
  // another thread may be writing there.
  std::ptrdiff_t fused_block(std::ptrdiff_t n, std::ptrdiff_t most) const {
    const std::ptrdiff_t before = streams_ ? to_line(a_.advantages.data + n) : 0;
    return before == 0 ? most : before;
  }

  alignas(64) T delta[kRun];
  alignas(64) T coefficient[kRun];

 private:
  template <bool kCodes>
  void fill(const Inputs<T>& in, std::ptrdiff_t size) {
    const T gamma = reader_.gamma();
    PPO_INDEPENDENT
    for (std::ptrdiff_t i = 0; i < size; ++i) {
      const auto x = front_of<kCodes>(in, i, gamma);
      delta[i] = x.delta();
      coefficient[i] = x.coefficient;
    }
  }

  template <bool kCodes>
  void fuse(const Inputs<T>& in, const Span& s, T* carry, T* a, T* r) {
    for (std::ptrdiff_t row = (s.steps - 1) * s.columns; row >= 0; row -= s.columns) {
      fuse_row<kCodes>(in, row, s.columns, carry, a + row, r + row);
    }
  }

  // Of the elements of a span from `first` on.
  template <bool kCodes>
  void fuse_row(const Inputs<T>& in, std::ptrdiff_t first, std::ptrdiff_t columns,
                T* __restrict carry, T* __restrict a, T* __restrict r) {
    const T gamma = reader_.gamma();
    PPO_INDEPENDENT
    for (std::ptrdiff_t n = 0; n < columns; ++n) {
      const auto x = front_of<kCodes>(in, first + n, gamma);
      T advantage = carry[n];
      recur(x.delta(), x.coefficient, advantage);
      carry[n] = advantage;
      a[n] = advantage;
      r[n] = advantage + x.value;
    }
  }

  // Bytes of results from which they go past the caches, if their rows are long: a line that is
  // written in part is fetched all the same.
  static constexpr std::ptrdiff_t kStreamFrom = 8 << 20;
  static constexpr std::ptrdiff_t kStreamColumns = 256;
  // Columns that are read before they are written: few, so that the processor reads on meanwhile.
  static constexpr std::ptrdiff_t kStretch = 4 * kLine<T>;

  bool is_streamed(const View2<T>& results) const {
    const std::ptrdiff_t elements = a_.num_steps * a_.num_columns;
    return results && results.stride_n == 1 && a_.num_columns >= kStreamColumns &&
           elements * static_cast<std::ptrdiff_t>(sizeof(T)) >= kStreamFrom;
  }

  template <bool kCodes>
  void stream_fused(const Inputs<T>& in, const Span& s, T* carry) {
    for (std::ptrdiff_t step = s.steps - 1; step >= 0; --step) {
      T* a = start_of(a_.advantages, s) + step * a_.advantages.stride_t;
      T* r = start_of(a_.returns, s) + step * a_.returns.stride_t;
      const bool is_first = s.t + step == 0;
      for (std::ptrdiff_t n = 0; n < s.columns;) {
        const std::ptrdiff_t before = to_line(a + n);
        const std::ptrdiff_t stretch = before == 0 ? kStretch : before;
        const std::ptrdiff_t columns = stretch < s.columns - n ? stretch : s.columns - n;
        const std::ptrdiff_t first = step * s.columns + n;
        fuse_row<kCodes>(in, first, columns, carry + n, delta, results_);
        if (!is_first) prefetch_before(in, first, columns);
        stream(a + n, delta, columns);
        stream(r + n, results_, columns);
        n += columns;
      }
    }
    finish_streams();
  }

  // Asks for what the same columns need one step earlier: processors foresee the lines that follow,
  // not the row before.
  void prefetch_before(const Inputs<T>& in, std::ptrdiff_t first, std::ptrdiff_t columns) const {
    for (std::ptrdiff_t i = 0; i < columns; i += kLine<T>) {
      prefetch(in.rewards + first + i - a_.rewards.stride_t);
      prefetch(in.values + first + i - a_.values.stride_t);
    }
    prefetch(in.flags + first - a_.terminated.stride_t);
  }

  const Arguments& a_;
  TransitionReader<T> reader_;
  bool streams_;
  alignas(64) T results_[kRun];
};

template <typename Arguments>
class VtraceEstimator {
 public:
  using T = typename Arguments::Value;
  static constexpr bool kNeedsLater = true;

  explicit VtraceEstimator(const Arguments& a) : a_(a), reader_(a) {}

  void start(std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t) {}
  std::ptrdiff_t num_steps(std::ptrdiff_t) const { return a_.num_steps; }

  void front(const Span& s) {
    const Inputs<T> in = reader_.read(s);
    const T* log_rhos = fetch(a_.log_rhos, s, log_rhos_, nothing());
    const std::ptrdiff_t size = s.size();
    for (std::ptrdiff_t i = 0; i < size; ++i) rho_[i] = math::exp(log_rhos[i]);
    reader_.has_codes() ? fill<true>(in, size) : fill<false>(in, size);
  }

  void back(const Span& s, const T* correction, const T* later) {
    const std::ptrdiff_t size = s.size();
    const T* values = reader_.values(s);
    for (std::ptrdiff_t i = 0; i < size; ++i) results_[i] = values[i] + correction[i];
    put(a_.vs, s, results_);

    // Within an episode vs_{t+1} follows; at its end, and at the end of the data, V'.
    const T* rewards = fetch(a_.rewards, s, rewards_, nothing());
    const T* next_values = reader_.after(a_.next_values, a_.no_values, s, next_values_, zeros_);
    const auto limit = static_cast<T>(a_.pg_rho_clip);
    const T gamma = reader_.gamma();
    const bool by_step = s.order == Order::kStepByStep;
    if (s.t + s.steps == a_.num_steps) {
      for (std::ptrdiff_t n = 0; n < s.columns; ++n) {
        const std::ptrdiff_t last = by_step ? size - s.columns + n : (n + 1) * s.steps - 1;
        ends_[last] |= kTerminated;
      }
    }
    for (std::ptrdiff_t i = 0; i < size; ++i) {
      const T vs = next_values[i] + later[i];
      const T next_vs = ends_[i] != 0 ? after_[i] : vs;
      const T error = td_error(rewards[i], gamma, next_vs, values[i]);
      const T advantage = clipped_weight(rho_[i], limit) * error;
      results_[i] = (ends_[i] & kMasked) != 0 ? T(0) : advantage;
    }
    put(a_.pg_advantages, s, results_);
  }

  alignas(64) T delta[kRun];
  alignas(64) T coefficient[kRun];

 private:
  static const T* nothing() { return nullptr; }

  template <bool kCodes>
  void fill(const Inputs<T>& in, std::ptrdiff_t size) {
    const T gamma = reader_.gamma();
    const auto limit = static_cast<T>(a_.rho_clip);
    const auto c_limit = static_cast<T>(a_.c_clip);
    PPO_INDEPENDENT
    for (std::ptrdiff_t i = 0; i < size; ++i) {
      const auto x = front_of<kCodes>(in, i, gamma);
      const T weighted = clipped_weight(rho_[i], limit) * x.error;
      const T scaled = x.coefficient * clipped_weight(rho_[i], c_limit);
      const bool cut = x.coefficient < T(0);
      delta[i] = x.masked ? T(0) : weighted;
      coefficient[i] = cut ? kCut<T> : scaled;
      after_[i] = x.after;
      ends_[i] = static_cast<std::uint8_t>((cut ? kTerminated : 0) | (x.masked ? kMasked : 0));
    }
  }

  const Arguments& a_;
  TransitionReader<T> reader_;
  alignas(64) T rewards_[kRun];
  alignas(64) T log_rhos_[kRun];
  alignas(64) T next_values_[kRun];
  alignas(64) T zeros_[kRun] = {};
  alignas(64) T rho_[kRun];
  alignas(64) T after_[kRun];
  alignas(64) T results_[kRun];
  alignas(64) std::uint8_t ends_[kRun];
};

}  // namespace ppo::inline PPO_ISA
