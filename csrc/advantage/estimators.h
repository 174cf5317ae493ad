// The estimators of [T, N] transitions: how they make delta and c of a span, and results of A.
//
// An estimator has two halves between which the recurrence runs. `front` writes delta and c of a
// span into its runs, at an offset; `back` turns the A of the same span, and the A one row later,
// into results. Neither knows how time is cut into spans, except that those of a lane come in order,
// the last one first, after a call of `start`.
#pragma once

#include <cstddef>
#include <cstdint>

#include "advantage/arguments.h"
#include "advantage/formula.h"
#include "advantage/runs.h"
#include "support/math.h"

namespace ppo::inline PPO_ISA {

constexpr std::uint8_t kTerminated = 1;
constexpr std::uint8_t kTruncated = 2;
constexpr std::uint8_t kMasked = 4;

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

// What all estimators of transitions share: reading them.
template <typename T>
class TransitionReader {
 public:
  explicit TransitionReader(const Transitions<T>& a) : a_(a), gamma_(static_cast<T>(a.gamma)) {
    std::memset(zeros_, 0, sizeof zeros_);
    std::memset(no_flags_, 0, sizeof no_flags_);
    if (!a.lambda_per_column) {
      const T decay = static_cast<T>(a.gamma * a.gae_lambda[0]);
      for (T& x : decay_) x = decay;
    }
  }
  TransitionReader(const TransitionReader&) = delete;

  // Whether codes are needed, or the terminated flags say it all.
  bool has_codes() const { return a_.truncated || a_.masked; }

  // Calls body(inputs, size, offset) for the span, the last step of all apart: what follows it
  // comes from another array.
  template <typename Body>
  PPO_HD void read(const Span& s, Body body) {
    set_decay(s);
    const bool has_last = s.t + s.steps == a_.num_steps;
    const Span upper = {s.t, has_last ? s.steps - 1 : s.steps, s.n, s.columns};
    if (upper.steps > 0) {
      body(inputs(upper, a_.after, a_.terminated), upper.size(), std::ptrdiff_t(0));
    }
    if (has_last) {
      const Span last = {a_.num_steps - 1, 1, s.n, s.columns};
      body(inputs(last, a_.last_after, a_.last_terminated), last.size(), upper.size());
    }
  }

  T gamma() const { return gamma_; }

  const T* values(const Span& s) { return fetch(a_.values, s, values_, zeros_); }

 private:
  Inputs<T> inputs(const Span& s, const View2<const T>& after, const FlagView& terminated) {
    Inputs<T> in;
    in.rewards = fetch(a_.rewards, s, rewards_, zeros_);
    in.values = values(s);
    in.after = fetch(after, s, after_, zeros_);
    in.final_values = in.after;
    in.flags = fetch_flags(terminated, s, terminated_, no_flags_);
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

  // Fills codes_ and returns which codes there are.
  std::uint8_t code_flags(const Span& s, const std::uint8_t* terminated) {
    const std::uint8_t* truncated = fetch_flags(a_.truncated, s, truncated_, no_flags_);
    const std::uint8_t* masked = fetch_flags(a_.masked, s, masked_, no_flags_);
    const std::uint8_t code = a_.on_truncation == OnTruncation::kTerminate ? kTerminated
                              : a_.on_truncation == OnTruncation::kDrop    ? kMasked
                                                                           : kTruncated;
    std::uint8_t found = 0;
    const std::ptrdiff_t size = s.size();
    for (std::ptrdiff_t i = 0; i < size; ++i) {
      const std::uint8_t end =
          terminated[i] != 0 ? kTerminated : (truncated[i] != 0 ? code : std::uint8_t(0));
      const std::uint8_t mask = masked[i] != 0 ? kMasked : std::uint8_t(0);
      codes_[i] = static_cast<std::uint8_t>(end | mask);
      found = static_cast<std::uint8_t>(found | codes_[i]);
    }
    return found;
  }

  void set_decay(const Span& s) {
    if (!a_.lambda_per_column) return;
    T* to = decay_;
    for (std::ptrdiff_t t = 0; t < s.steps; ++t) {
      for (std::ptrdiff_t n = s.n; n < s.n + s.columns; ++n) {
        *to++ = static_cast<T>(a_.gamma * a_.gae_lambda[n]);
      }
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

// The arithmetic of one element of the front: V'_t, delta_t without its weight, c_t without its.
template <bool kCodes, typename T>
struct Front {
  T after;
  T error;
  T decay;
  bool masked;

  PPO_HD Front(const Inputs<T>& in, std::ptrdiff_t i, T gamma) {
    const std::uint8_t flags = in.flags[i];
    const bool terminated = kCodes ? (flags & kTerminated) != 0 : flags != 0;
    const bool truncated = kCodes && (flags & kTruncated) != 0;
    masked = kCodes && (flags & kMasked) != 0;
    after = value_after(terminated, truncated, kCodes ? in.final_values[i] : T(0), in.after[i]);
    error = td_error(in.rewards[i], gamma, after, in.values[i]);
    decay = flags != 0 ? kCut<T> : in.decay[i];
  }
};

template <typename Arguments>
class GaeEstimator {
 public:
  using T = typename Arguments::Value;

  explicit GaeEstimator(const Arguments& a) : a_(a), reader_(a) {}

  void front(const Span& s, std::ptrdiff_t offset, std::ptrdiff_t) {
    reader_.read(s, [&](const Inputs<T>& in, std::ptrdiff_t size, std::ptrdiff_t first) {
      T* d = delta + offset + first;
      T* c = coefficient + offset + first;
      Inputs<T> shifted = in;
      shifted.decay += first;
      reader_.has_codes() ? fill<true>(shifted, size, d, c) : fill<false>(shifted, size, d, c);
    });
  }

  void back(const Span& s, std::ptrdiff_t, const T* advantage, const T*) {
    if (a_.advantages) put(a_.advantages, s, advantage, a_.streaming);
    if (!a_.returns) return;
    T* direct = flat_output(a_.returns, s, a_.streaming);
    T* __restrict returns = direct ? direct : results_;
    const T* values = reader_.values(s);
    const std::ptrdiff_t size = s.size();
    for (std::ptrdiff_t i = 0; i < size; ++i) returns[i] = advantage[i] + values[i];
    if (!direct) put(a_.returns, s, results_, a_.streaming);
  }

  void start(std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t) {}
  std::ptrdiff_t num_steps(std::ptrdiff_t) const { return a_.num_steps; }

  alignas(64) T delta[kRun];
  alignas(64) T coefficient[kRun];

 private:
  template <bool kCodes>
  void fill(const Inputs<T>& in, std::ptrdiff_t size, T* __restrict d, T* __restrict c) {
    const T gamma = reader_.gamma();
    for (std::ptrdiff_t i = 0; i < size; ++i) {
      const Front<kCodes, T> x(in, i, gamma);
      d[i] = x.masked ? T(0) : x.error;
      c[i] = x.decay;
    }
  }

  const Arguments& a_;
  TransitionReader<T> reader_;
  alignas(64) T results_[kRun];
};

template <typename Arguments>
class VtraceEstimator {
 public:
  using T = typename Arguments::Value;

  explicit VtraceEstimator(const Arguments& a) : a_(a), reader_(a) {}

  void front(const Span& s, std::ptrdiff_t offset, std::ptrdiff_t) {
    const T* log_rhos = fetch(a_.log_rhos, s, log_rhos_, static_cast<const T*>(nullptr));
    const auto limit = static_cast<T>(a_.rho_clip);
    const auto c_limit = static_cast<T>(a_.c_clip);
    reader_.read(s, [&](const Inputs<T>& in, std::ptrdiff_t size, std::ptrdiff_t first) {
      Inputs<T> shifted = in;
      shifted.decay += first;
      reader_.has_codes()
          ? fill<true>(shifted, log_rhos + first, size, offset + first, limit, c_limit)
          : fill<false>(shifted, log_rhos + first, size, offset + first, limit, c_limit);
    });
    // Behind the last step of all stands V', not the vs of a next row.
    if (s.t + s.steps == a_.num_steps) {
      for (std::ptrdiff_t i = s.size() - s.columns; i < s.size(); ++i) ends_[offset + i] |= kLast;
    }
  }

  void back(const Span& s, std::ptrdiff_t offset, const T* correction, const T* later) {
    const std::ptrdiff_t size = s.size();
    const T* values = reader_.values(s);
    for (std::ptrdiff_t i = 0; i < size; ++i) results_[i] = values[i] + correction[i];
    put(a_.vs, s, results_, a_.streaming);

    const T* rewards = fetch(a_.rewards, s, rewards_, static_cast<const T*>(nullptr));
    const T* next_values = next(s);
    const auto limit = static_cast<T>(a_.pg_rho_clip);
    const T gamma = reader_.gamma();
    for (std::ptrdiff_t i = 0; i < size; ++i) {
      const std::uint8_t ends = ends_[offset + i];
      const T follows = next_values[i] + later[i];
      const T next_vs = ends != 0 ? after_[offset + i] : follows;
      const T weight = clipped_weight(rho_[offset + i], limit);
      const T advantage = weight * td_error(rewards[i], gamma, next_vs, values[i]);
      results_[i] = (ends & kMasked) != 0 ? T(0) : advantage;
    }
    put(a_.pg_advantages, s, results_, a_.streaming);
  }

  void start(std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t) {}
  std::ptrdiff_t num_steps(std::ptrdiff_t) const { return a_.num_steps; }

  alignas(64) T delta[kRun];
  alignas(64) T coefficient[kRun];

 private:
  static constexpr std::uint8_t kLast = 8;

  template <bool kCodes>
  void fill(const Inputs<T>& in, const T* log_rhos, std::ptrdiff_t size, std::ptrdiff_t offset,
            T limit, T c_limit) {
    const T gamma = reader_.gamma();
    for (std::ptrdiff_t i = 0; i < size; ++i) rho_[offset + i] = math::exp(log_rhos[i]);
    for (std::ptrdiff_t i = 0; i < size; ++i) {
      const Front<kCodes, T> x(in, i, gamma);
      const T rho = rho_[offset + i];
      const T weighted = clipped_weight(rho, limit) * x.error;
      const T coefficient_here = x.decay * clipped_weight(rho, c_limit);
      const bool cut = x.decay < T(0);
      delta[offset + i] = x.masked ? T(0) : weighted;
      coefficient[offset + i] = cut ? kCut<T> : coefficient_here;
      after_[offset + i] = x.after;
      ends_[offset + i] = static_cast<std::uint8_t>((cut ? kTerminated : 0) |
                                                    (x.masked ? kMasked : std::uint8_t(0)));
    }
  }

  // Values one row later; what stands for the row behind the last one is not used.
  const T* next(const Span& s) {
    const bool has_last = s.t + s.steps == a_.num_steps;
    if (!has_last) return fetch(a_.next_values, s, next_values_, static_cast<const T*>(nullptr));
    const Span upper = {s.t, s.steps - 1, s.n, s.columns};
    const T* run = upper.steps > 0
                       ? fetch(a_.next_values, upper, next_values_, static_cast<const T*>(nullptr))
                       : next_values_;
    if (run != next_values_) {
      std::memcpy(next_values_, run, static_cast<std::size_t>(upper.size()) * sizeof(T));
    }
    for (std::ptrdiff_t i = upper.size(); i < s.size(); ++i) next_values_[i] = T(0);
    return next_values_;
  }

  const Arguments& a_;
  TransitionReader<T> reader_;
  alignas(64) T rewards_[kRun];
  alignas(64) T log_rhos_[kRun];
  alignas(64) T next_values_[kRun];
  alignas(64) T rho_[kRun];
  alignas(64) T after_[kRun];
  alignas(64) T results_[kRun];
  alignas(64) std::uint8_t ends_[kRun];
};

}  // namespace ppo::inline PPO_ISA
