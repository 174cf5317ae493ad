// What every kernel of a distribution is given: the parameters of B of them, and actions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "support/view.h"

namespace ppo {

// Python's _core.Family.
enum class Family : int {
  kCategorical = 0,  // one component, or several side by side: multi-categorical
  kBernoulli = 1,
  kGaussian = 2,
  kSquashedGaussian = 3,
};

// Samples are handled in groups of this many, one per vector lane.
inline constexpr int kLossLanes = 32;

template <typename T>
struct Distribution {
  Family family = Family::kCategorical;
  std::ptrdiff_t batch = 0;
  std::ptrdiff_t dims = 0;        // columns of the parameters
  View2<const T> first;           // [B, dims]: logits or means
  View2<const T> second;          // [B, dims]: log_std, or null
  bool shares_second = false;     // one row of it serves all samples, with a row stride of 0
  View2<const bool> mask;         // [B, dims]: whether an action is allowed, or null
  std::ptrdiff_t components = 0;  // columns of the actions
  // Categorical: how many of the columns each component has; null for one component with all.
  const std::int64_t* sizes = nullptr;
};

// [B, components], of the type that the family has.
template <typename T>
struct Actions {
  View2<const std::int64_t> discrete;
  View2<const T> continuous;
};

template <typename T>
struct MutableActions {
  View2<std::int64_t> discrete;
  View2<T> continuous;
};

// Where the noise of state-dependent exploration comes from (noise.h).
template <typename T>
struct StateNoise {
  std::ptrdiff_t size = 0;  // L
  View2<const T> latent;    // [B, L]; null: independent noise
  View2<const T> log_std;   // [L, dims]
  std::uint64_t sample_freq = 1;
};

// What a kernel refuses, and the sample where it found it.
struct Problem {
  enum Kind {
    kNone,
    kParameters,     // no distribution
    kOldParameters,  // likewise, of the old policy
    kAction,         // not in the range of its component
    kWeight,         // negative, infinite or NaN
    kNoWeight,       // all of them are 0
  };
  Kind kind = kNone;
  std::ptrdiff_t row = 0;
};

// Bytes of scratch that a kernel needs for one distribution.
template <typename T>
std::ptrdiff_t scratch_bytes(const Distribution<T>& d) {
  // Rows of lanes, each as wide as a cache line or more: see the heads.
  return kLossLanes * 8 * (10 * d.dims + 4 * d.components);
}

}  // namespace ppo
