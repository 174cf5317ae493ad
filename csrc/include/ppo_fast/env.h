// What an environment is: a plain struct with a few types and three static functions. No base
// class, no virtual call, no Python. The engine owns everything else: the time limit, autoreset,
// episode statistics, seeding, buffers and threads.
//
//   #include <ppo_fast/env.h>
//
//   struct Drive {
//     using Action = ppo::Discrete<3>;           // an index in [0, 3); or ppo::Continuous<n>
//     using Observation = ppo::Box<float, 2>;    // two floats; ppo::Box<std::uint8_t, 8, 8> is a grid
//     struct Params { double power = 0.1; };     // the same keywords for every environment of a batch
//     struct State { double x, v; };             // plain data, so that it can be saved
//     static constexpr ppo::Field<Params> kParams[] = {{"power", &Params::power}};  // -> keywords
//
//     static void reset(State& s, const Params&, ppo::Rng& rng) { s = {rng.uniform(-1, 1), 0}; }
//     static ppo::StepResult step(State& s, const Params& p, Action::Value action, ppo::Rng&) {
//       s.v += p.power * (action - 1);
//       s.x += s.v;
//       const bool arrived = s.x > 10;
//       return {arrived ? 1.0 : -0.01, arrived};
//     }
//     static void observe(const State& s, float* out) { out[0] = float(s.x), out[1] = float(s.v); }
//   };
//   PPO_FAST_ENV(Drive, "Drive-v0", 200)         // its id, and the length that truncates episodes
//
// Optional members, found by name:
//   struct Options; kOptions[]         reset(options={...}); reset then takes a const Options& last
//   kState[]                           fields of State: what get_attr("state") gives, and in which order
//   kActionLow, kActionHigh            bounds of Continuous actions (-1, 1)
//   kObservationLow, kObservationHigh  bounds of the observation (the range of its type)
//   kRewardThreshold                   mean return at which it counts as solved
//   kStepNanoseconds                   rough cost of a step (50): decides when threads pay
//   struct Tile; step_tile             a layout and a step for vector instructions
//
// An exception thrown by reset or step reaches the caller as a RuntimeError.
//
// For a GPU, put PPO_HD before reset, step and observe and what they call, and instead of throwing say
// ppo::require(condition, text).
#pragma once

#include <concepts>
#include <cstdint>
#include <stdexcept>
#include <type_traits>

#include "ppo_fast/env_table.h"
#include "ppo_fast/host_device.h"
#include "ppo_fast/random.h"

namespace ppo::inline PPO_ISA {

// Environments are stored, stepped and shared out to threads in tiles of this many.
inline constexpr int kTile = 64;

using Rng = Pcg64;

template <int kActions>
struct Discrete {
  static_assert(kActions > 0, "ppo::Discrete needs at least one action");
  using Value = std::int32_t;
  static constexpr int kCount = kActions;
  static constexpr int kSize = 1;
};

template <int kElements>
struct Continuous {
  static_assert(kElements > 0, "ppo::Continuous needs at least one number");
  struct Value {
    float element[kElements];
    PPO_HD float operator[](int i) const { return element[i]; }
  };
  static constexpr int kCount = 0;
  static constexpr int kSize = kElements;
};

template <typename T, int... kShape>
struct Box {
  using Scalar = T;
  static constexpr int kDimensions = sizeof...(kShape);
  static constexpr std::int64_t kSizes[] = {kShape...};
  static constexpr int kSize = (1 * ... * kShape);
  static_assert(((kShape > 0) && ...), "the sizes of a ppo::Box must be positive");
};

struct StepResult {
  double reward;
  bool terminated;
  bool truncated = false;  // the time limit adds to it
};

// A type of its own, because nvcc writes M (T::*name) where gcc warns of parentheses.
template <typename T, typename M>
using Member = M T::*;

// A member of T with the name that Python knows it by.
template <typename T>
struct Field {
  const char* name;
  FieldType type;
  const char* choices = nullptr;
  Member<T, bool> flag = nullptr;
  Member<T, std::int32_t> integer = nullptr;
  Member<T, double> number = nullptr;

  constexpr Field(const char* field, bool T::* member)
      : name(field), type(FieldType::kBool), flag(member) {}
  constexpr Field(const char* field, double T::* member)
      : name(field), type(FieldType::kDouble), number(member) {}
  // texts: the names of the values 0, 1, ..., joined by |.
  constexpr Field(const char* field, std::int32_t T::* member, const char* texts = nullptr)
      : name(field),
        type(texts ? FieldType::kChoice : FieldType::kInt),
        choices(texts),
        integer(member) {}
};

// Throws std::invalid_argument(text) unless the condition holds. A GPU cannot: there it does nothing,
// which is enough for parameters: the CPU tries a reset with them first.
PPO_HD void require([[maybe_unused]] bool condition, [[maybe_unused]] const char* text) {
#if !defined(__CUDA_ARCH__)
  if (!condition) throw std::invalid_argument(text);
#endif
}

template <typename E>
concept HasOptions = requires { typename E::Options; };

template <typename E>
concept HasPlainData = std::is_trivially_copyable_v<typename E::State> &&
                       std::is_trivially_copyable_v<typename E::Params>;

template <typename E>
concept HasSpaces = requires {
  typename E::Action::Value;
  typename E::Observation::Scalar;
};

template <typename E>
concept HasReset =
    requires(typename E::State& state, const typename E::Params& params, Rng& rng) {
      { E::reset(state, params, rng) } -> std::same_as<void>;
    } || requires(typename E::State& state, const typename E::Params& params, Rng& rng,
                  const typename E::Options& options) {
      { E::reset(state, params, rng, options) } -> std::same_as<void>;
    };

template <typename E>
concept HasStep = requires(typename E::State& state, const typename E::Params& params,
                           typename E::Action::Value action, Rng& rng) {
  { E::step(state, params, action, rng) } -> std::same_as<StepResult>;
};

template <typename E>
concept HasObserve =
    requires(const typename E::State& state, typename E::Observation::Scalar* out) {
      { E::observe(state, out) } -> std::same_as<void>;
    };

template <typename E>
concept Environment = HasPlainData<E> && HasSpaces<E> && HasReset<E> && HasStep<E> && HasObserve<E>;

// `Tile` holds kTile states, of which `lanes` are in use; step_tile moves these, also the ones
// whose episode is over (the engine resets them afterwards), with the bits of `step`.
template <typename E>
concept TiledEnvironment =
    Environment<E> && requires(typename E::Tile tile, const typename E::Params& params,
                               const typename E::Action::Value* actions, int lanes, double* rewards,
                               bool* terminated) {
      { tile.load(0) } -> std::same_as<typename E::State>;
      { tile.store(0, typename E::State{}) } -> std::same_as<void>;
      { E::step_tile(tile, params, actions, lanes, rewards, terminated) } -> std::same_as<void>;
    };

}  // namespace ppo::inline PPO_ISA

#include "ppo_fast/env_loop.h"
#if defined(__CUDACC__)
#include "ppo_fast/env_cuda.h"
#endif

#if defined(_WIN32)
#define PPO_FAST_EXPORT extern "C" __declspec(dllexport)
#else
#define PPO_FAST_EXPORT extern "C" __attribute__((visibility("default")))
#endif

// Makes the shared library of an environment: exports its table. limit: steps after which an
// episode is truncated, 0 for none.
#define PPO_FAST_ENV(Type, id, limit)                                                            \
  static_assert(::ppo::HasPlainData<Type>,                                                       \
                #Type " needs structs State and Params of plain data (no std::vector or such)"); \
  static_assert(::ppo::HasSpaces<Type>, #Type                                                    \
                " needs Action (ppo::Discrete<n> or ppo::Continuous<n>) and "                    \
                "Observation (ppo::Box<T, sizes...>)");                                          \
  static_assert(::ppo::HasReset<Type>,                                                           \
                #Type " needs static void reset(State&, const Params&, ppo::Rng&)");             \
  static_assert(::ppo::HasStep<Type>, #Type                                                      \
                " needs static ppo::StepResult step(State&, const Params&, "                     \
                "Action::Value, ppo::Rng&)");                                                    \
  static_assert(::ppo::HasObserve<Type>,                                                         \
                #Type " needs static void observe(const State&, Observation::Scalar*)");         \
  static_assert((limit) >= 0, "the limit of PPO_FAST_ENV is a number of steps, or 0 for none");  \
  PPO_FAST_EXPORT const ::ppo::EnvTable* ppo_fast_env() {                                        \
    static constexpr ::ppo::EnvTable kTable = ::ppo::make_table<Type>(id, limit);                \
    return &kTable;                                                                              \
  }                                                                                              \
  PPO_FAST_CUDA_ENV(Type)

#if defined(__CUDACC__)
#define PPO_FAST_CUDA_ENV(Type)                                                               \
  PPO_FAST_EXPORT const ::ppo::CudaEnvTable* ppo_fast_cuda_env() {                            \
    static const ::ppo::CudaEnvTable kTable = {ppo_fast_env(), &::ppo::step_on_device<Type>}; \
    return &kTable;                                                                           \
  }
#else
#define PPO_FAST_CUDA_ENV(Type)
#endif
