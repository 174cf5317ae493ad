// gae over [T, N]: one pass backward in time, vectorised across environments.
//
// Floor: 17 bytes an element in float32 (read reward, value and flag, write advantage and return).
// V_{t+1} and A_{t+1} are the rows just handled; a block of columns keeps them in the first-level
// cache.
#include "advantage/cpu.h"

#include <type_traits>

#include "advantage/formula.h"

namespace ppo::inline PPO_ISA {
namespace {

constexpr std::ptrdiff_t kBlock = 1024;  // columns: two rows of float32 take 8 KiB of cache

// One time step of a block. kUnit: all strides along N are 1, which is what vectorises.
template <bool kUnit, typename T>
struct Row {
  T* data;
  std::ptrdiff_t stride;
  PPO_HD T& operator[](std::ptrdiff_t n) const { return data[kUnit ? n : n * stride]; }
};

template <bool kUnit, typename T>
PPO_HD Row<kUnit, T> row_of(const View2<T>& view, std::ptrdiff_t t, std::ptrdiff_t n) {
  return {view ? view.data + t * view.stride_t + n * view.stride_n : nullptr, view.stride_n};
}

// The carried advantage of the first step from the end is 0; V_{t+1} comes in a block of its own,
// so that values and outputs may have any strides.
template <bool kUnit, bool kTerminated, bool kTruncated, typename T>
void gae_row(const GaeArguments<T>& a, std::ptrdiff_t t, std::ptrdiff_t first, std::ptrdiff_t size,
             T gamma, T gamma_lambda, T* __restrict next_value, T* __restrict advantage) {
  const auto rewards = row_of<kUnit>(a.rewards, t, first);
  const auto values = row_of<kUnit>(a.values, t, first);
  const auto terminated = row_of<kUnit>(a.terminated, t, first);
  const auto truncated = row_of<kUnit>(a.truncated, t, first);
  const auto final_values = row_of<kUnit>(a.final_values, t, first);
  const auto advantages = row_of<kUnit>(a.advantages, t, first);
  const auto returns = row_of<kUnit>(a.returns, t, first);
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC ivdep
#endif
  for (std::ptrdiff_t n = 0; n < size; ++n) {
    const bool is_terminated = kTerminated ? terminated[n] != 0 : false;
    const bool is_truncated = kTruncated ? truncated[n] != 0 : false;
    const T value = values[n];
    const T after = value_after(is_terminated, is_truncated, kTruncated ? final_values[n] : T(0),
                                next_value[n]);
    const T delta = td_error(rewards[n], gamma, after, value);
    advantage[n] = gae_advantage(delta, gamma_lambda, is_terminated | is_truncated, advantage[n]);
    next_value[n] = value;
    advantages[n] = advantage[n];
    returns[n] = advantage[n] + value;
  }
}

// Most rows of a rollout have no truncated transition: these need not read final_values.
bool any(const View2<const std::uint8_t>& flags, std::ptrdiff_t t, std::ptrdiff_t first,
         std::ptrdiff_t size) {
  std::uint8_t found = 0;
  for (std::ptrdiff_t n = 0; n < size; ++n) found |= flags(t, first + n);
  return found != 0;
}

template <bool kUnit, bool kTerminated, typename T>
void gae_block(const GaeArguments<T>& a, std::ptrdiff_t first, std::ptrdiff_t size) {
  const T gamma = static_cast<T>(a.gamma);
  const T gamma_lambda = static_cast<T>(a.gamma * a.gae_lambda);
  alignas(64) T next_value[kBlock];
  alignas(64) T advantage[kBlock];
  for (std::ptrdiff_t n = 0; n < size; ++n) {
    next_value[n] = a.last_values.data ? a.last_values[first + n] : T(0);
    advantage[n] = T(0);
  }
  for (std::ptrdiff_t t = a.num_steps - 1; t >= 0; --t) {
    if (a.truncated && any(a.truncated, t, first, size)) {
      gae_row<kUnit, kTerminated, true>(a, t, first, size, gamma, gamma_lambda, next_value,
                                        advantage);
    } else {
      gae_row<kUnit, kTerminated, false>(a, t, first, size, gamma, gamma_lambda, next_value,
                                         advantage);
    }
  }
}

template <typename T>
void gae(const GaeArguments<T>& a, std::ptrdiff_t begin, std::ptrdiff_t end) {
  const auto unit = [](const auto& view) { return !view || view.stride_n == 1; };
  const bool all_unit = unit(a.rewards) && unit(a.values) && unit(a.terminated) &&
                        unit(a.truncated) && unit(a.final_values) && unit(a.advantages) &&
                        unit(a.returns);
  for (std::ptrdiff_t first = begin; first < end; first += kBlock) {
    const std::ptrdiff_t size = end - first < kBlock ? end - first : kBlock;
    if (all_unit) {
      a.terminated ? gae_block<true, true>(a, first, size) : gae_block<true, false>(a, first, size);
    } else {
      a.terminated ? gae_block<false, true>(a, first, size)
                   : gae_block<false, false>(a, first, size);
    }
  }
}

constexpr AdvantageKernels kKernels = {&gae<float>, &gae<double>};

}  // namespace
}  // namespace ppo::inline PPO_ISA

const ppo::AdvantageKernels& ppo::PPO_ISA_TABLE(advantage_kernels) { return kKernels; }
