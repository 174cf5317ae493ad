// What the kernels of this room are called with. Views are checked by the bindings; a null view
// stands for an absent argument.
#pragma once

#include <cstddef>
#include <cstdint>

#include "support/view.h"

namespace ppo {

// Elements handled as one loop: a few such runs fit the L1 cache.
constexpr std::ptrdiff_t kRun = 1024;
// Rows, or segments of one row, that are handled side by side, and the steps of each.
constexpr std::ptrdiff_t kLanes = 16;
constexpr std::ptrdiff_t kLaneSteps = kRun / kLanes;
constexpr std::ptrdiff_t kPart = 65536;  // steps of a long row that one thread handles

// What a stretch of time does to what is carried into it: A_first = b + c A_after.
struct Summary {
  using Carried = double;
  double b = 0;
  double c = 1;
};

// The same of tokens, past which goes A and beside it the value of the next token that counts:
// A_first = advantage.b + advantage.c A_after + d V_after, V_first = value.b + value.c V_after.
struct TokenSummary {
  struct Carried {
    double advantage = 0;
    double value = 0;
  };
  Summary advantage;
  Summary value;
  double d = 0;
};

// Flags as people store them: bytes, or numbers; anything but 0 counts as set.
enum class FlagType { kByte, kInt32, kInt64, kFloat, kDouble };

constexpr std::ptrdiff_t flag_size(FlagType type) {
  switch (type) {
    case FlagType::kByte:
      return 1;
    case FlagType::kInt32:
    case FlagType::kFloat:
      return 4;
    case FlagType::kInt64:
    case FlagType::kDouble:
      return 8;
  }
  return 0;
}

// [T, N] flags; strides in elements.
struct FlagView {
  const void* data = nullptr;
  std::ptrdiff_t stride_t = 0;
  std::ptrdiff_t stride_n = 1;
  FlagType type = FlagType::kByte;

  explicit operator bool() const { return data != nullptr; }
};

// What a truncated transition comes to, where it is not terminated as well.
enum class OnTruncation { kBootstrap, kTerminate, kDrop };

// Transitions of [T, N], as gae, lambda_returns, discounted_returns and vtrace take them. The forms
// in which a caller may give bootstrap values and flags are reduced to one here: what follows a
// transition t < T - 1 is one view, what follows the last one is another.
template <typename T>
struct Transitions {
  std::ptrdiff_t num_steps = 0;
  std::ptrdiff_t num_columns = 0;
  View2<const T> rewards;
  View2<const T> values;        // null: zeros
  View2<const T> after;         // V after transition t < T - 1; null: zeros
  View2<const T> last_after;    // the same of t = T - 1: one row, whatever t
  View2<const T> final_values;  // in place of both where truncated; null: none
  FlagView terminated;          // of t < T - 1
  FlagView last_terminated;     // of t = T - 1: one row, whatever t
  FlagView truncated;
  FlagView masked;  // rows that do not count: advantage 0, trace cut
  OnTruncation on_truncation = OnTruncation::kBootstrap;
  double gamma = 0;
  double gae_lambda = 0;
  const double* lambdas = nullptr;  // [N], instead of gae_lambda; or null
};

template <typename T>
struct GaeArguments : Transitions<T> {
  using Value = T;
  using HandedOn = Summary;
  View2<T> advantages;  // out; may be null
  View2<T> returns;     // out; may be null
};

template <typename T>
struct VtraceArguments : Transitions<T> {
  using Value = T;
  using HandedOn = Summary;
  View2<const T> log_rhos;
  View2<const T> next_values;  // values one row later, of t < T - 1
  View2<const T> no_values;    // and of t = T - 1: null
  double rho_clip = 1;
  double c_clip = 1;
  double pg_rho_clip = 1;
  View2<T> vs;             // out
  View2<T> pg_advantages;  // out
};

// Tokens of `num_columns` sequences: [B, L] arrays, or packed ones where sequence b takes the
// elements starts[b] to starts[b + 1].
template <typename T>
struct TokenArguments {
  using Value = T;
  using HandedOn = TokenSummary;
  std::ptrdiff_t num_steps = 0;    // L, or the longest sequence
  std::ptrdiff_t num_columns = 0;  // B
  View2<const T> rewards;
  View2<const T> values;
  FlagView mask;
  const std::int64_t* starts = nullptr;
  std::ptrdiff_t num_sequences = 0;      // B; on a GPU packed ones are one column
  std::ptrdiff_t first_sequence = 0;     // column 0 is this sequence
  std::ptrdiff_t longest = PTRDIFF_MAX;  // longer sequences are left to another call
  View1<const T> bootstrap;              // [B], instead of one_bootstrap; or null
  T one_bootstrap = T(0);
  bool skip = true;  // masked tokens are skipped; else they decay
  double gamma = 0;
  double gae_lambda = 0;
  const double* lambdas = nullptr;  // [B], instead of gae_lambda; or null
  View2<T> advantages;              // out
  View2<T> returns;                 // out

  // V behind the last token of a sequence.
  PPO_HD T bootstrap_of(std::ptrdiff_t sequence) const {
    return bootstrap.data != nullptr ? bootstrap[sequence] : one_bootstrap;
  }
};

}  // namespace ppo
