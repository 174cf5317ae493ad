// The loop over a range of tiles: step, time limit, autoreset and output in one pass, for any type
// that meets the concept of env.h, which includes this file. Turned into an EnvTable at its end.
//
// Autoreset is Gymnasium's (AutoresetMode): NEXT_STEP spends the step after the end of an episode
// on the reset and ignores its action; SAME_STEP resets at once and keeps the last observation in
// final_obs; DISABLED leaves it to the caller. The time limit counts steps since the reset, and an
// episode can be terminated and truncated at once.
#pragma once

#include <cstdio>
#include <cstring>
#include <exception>
#include <limits>
#include <type_traits>

#include "ppo_fast/env.h"

namespace ppo::inline PPO_ISA {

template <typename E>
struct PlainTile {
  typename E::State state[kTile];
  PPO_HD typename E::State load(int i) const { return state[i]; }
  PPO_HD void store(int i, const typename E::State& s) { state[i] = s; }
};

template <typename E>
struct TileOf {
  using Type = PlainTile<E>;
};
template <TiledEnvironment E>
struct TileOf<E> {
  using Type = typename E::Tile;
};

// Everything that is kept of kTile environments; plain data, so a copy of the bytes is a snapshot.
template <typename E>
struct Block {
  typename TileOf<E>::Type tile;
  Rng rng[kTile];
  double episode_return[kTile];
  std::int32_t elapsed[kTile];
  bool over[kTile];
};

struct NoOptions {};

template <typename E>
struct OptionsOf {
  using Type = NoOptions;
};
template <HasOptions E>
struct OptionsOf<E> {
  using Type = typename E::Options;
};

template <typename E>
class Loop {
  using Params = typename E::Params;
  using Options = typename OptionsOf<E>::Type;
  using State = typename E::State;
  using Action = typename E::Action::Value;
  using Scalar = typename E::Observation::Scalar;
  using BlockType = Block<E>;
  static constexpr int kObsSize = E::Observation::kSize;

 public:
  static void init_tile(void* tile) { std::memset(tile, 0, sizeof(BlockType)); }

  static std::ptrdiff_t reset(const EnvBatch& batch, const ResetRequest& request,
                              const StepOutputs& out, std::ptrdiff_t begin, std::ptrdiff_t end,
                              EnvError* error) {
    const auto& options = *static_cast<const Options*>(request.options);
    return guarded(error, [&]() -> std::ptrdiff_t {
      for (std::ptrdiff_t t = begin; t < end; ++t) {
        BlockType& block = block_of(batch, t);
        const std::ptrdiff_t first = t * kTile;
        const int lanes = lanes_of(batch, t);
        for (int i = 0; i < lanes; ++i) {
          if (!request.selected[first + i]) continue;
          if (request.reseed[first + i]) block.rng[i].seed(request.seeds + 4 * (first + i));
          restart(block, i, params_of(batch, first + i), options);
          block.over[i] = false;
        }
        observe_lanes(block, 0, lanes, first, out);
      }
      return 0;
    });
  }

  static std::ptrdiff_t step(const EnvBatch& batch, const void* actions, const StepOutputs& out,
                             std::ptrdiff_t begin, std::ptrdiff_t end, EnvError* error) {
    return guarded(error, [&] {
      std::ptrdiff_t ended = 0;
      for (std::ptrdiff_t t = begin; t < end; ++t) {
        ended +=
            step_block(batch, block_of(batch, t), static_cast<const Action*>(actions) + t * kTile,
                       lanes_of(batch, t), t * kTile, out);
      }
      return ended;
    });
  }

  // A step of one environment, as a lane of a GPU takes it.
  PPO_HD static void step_env(const EnvBatch& batch, const Action& action, std::ptrdiff_t env,
                              const StepOutputs& out) {
    BlockType& block = block_of(batch, env / kTile);
    const int i = static_cast<int>(env % kTile);
    Moved<1> moved;
    move_lane(block, i, params_of(batch, env), action, moved, 0);
    finish(batch, block, i, 1, env, moved, out);
  }

  static bool is_over(const EnvBatch& batch, std::ptrdiff_t env) {
    return block_of(batch, env / kTile).over[env % kTile];
  }

  static void load_state(const EnvBatch& batch, std::ptrdiff_t env, void* state) {
    const State s = block_of(batch, env / kTile).tile.load(static_cast<int>(env % kTile));
    std::memcpy(state, &s, sizeof(State));
  }

  static void load_rng(const EnvBatch& batch, std::ptrdiff_t env, std::uint64_t words[6]) {
    block_of(batch, env / kTile).rng[env % kTile].save(words);
  }
  static void store_rng(const EnvBatch& batch, std::ptrdiff_t env, const std::uint64_t words[6]) {
    block_of(batch, env / kTile).rng[env % kTile].restore(words);
  }

 private:
  PPO_HD static BlockType& block_of(const EnvBatch& batch, std::ptrdiff_t t) {
    return static_cast<BlockType*>(batch.tiles)[t];
  }
  PPO_HD static int lanes_of(const EnvBatch& batch, std::ptrdiff_t t) {
    const std::ptrdiff_t left = batch.num_envs - t * kTile;
    return left < kTile ? static_cast<int>(left) : kTile;
  }
  PPO_HD static const Params& params_of(const EnvBatch& batch, std::ptrdiff_t env) {
    return *reinterpret_cast<const Params*>(static_cast<const char*>(batch.params) +
                                            static_cast<std::size_t>(env) * batch.params_stride);
  }

  // Exceptions do not cross the border of a shared library.
  template <typename Body>
  static std::ptrdiff_t guarded(EnvError* error, const Body& body) {
    try {
      return body();
    } catch (const std::exception& e) {
      std::snprintf(error->text, sizeof(error->text), "%s", e.what());
    } catch (...) {
      std::snprintf(error->text, sizeof(error->text), "not an std::exception");
    }
    return kEnvThrew;
  }

  PPO_HD static void restart(BlockType& block, int i, const Params& params,
                             const Options& options) {
    State state = block.tile.load(i);
    if constexpr (HasOptions<E>) {
      E::reset(state, params, block.rng[i], options);
    } else {
      E::reset(state, params, block.rng[i]);
    }
    block.tile.store(i, state);
    block.elapsed[i] = 0;
    block.episode_return[i] = 0.0;
  }

  // What environments said of a move. Those whose episode was over may say anything: `finish` resets them.
  template <int kLanes>
  struct Moved {
    alignas(64) double rewards[kLanes];
    alignas(64) bool terminated[kLanes] = {};
    alignas(64) bool truncated[kLanes] = {};
  };

  // Lane i of a block, whose results are the k-th.
  template <int kLanes>
  PPO_HD static void move_lane(BlockType& block, int i, const Params& params, const Action& action,
                               Moved<kLanes>& moved, int k) {
    if (block.over[i]) {  // under NEXT_STEP: this step is the reset
      moved.rewards[k] = 0.0;
      return;
    }
    State state = block.tile.load(i);
    const StepResult result = E::step(state, params, action, block.rng[i]);
    block.tile.store(i, state);
    moved.rewards[k] = result.reward;
    moved.terminated[k] = result.terminated;
    moved.truncated[k] = result.truncated;
  }

  // `actions` has room for a whole tile; lanes beyond the batch hold zeros.
  static std::ptrdiff_t step_block(const EnvBatch& batch, BlockType& block, const Action* actions,
                                   int lanes, std::ptrdiff_t first, const StepOutputs& out) {
    Moved<kTile> moved;
    move(batch, block, actions, lanes, first, moved);
    return finish(batch, block, 0, lanes, first, moved, out);
  }

  static void move(const EnvBatch& batch, BlockType& block, const Action* actions, int lanes,
                   std::ptrdiff_t first, Moved<kTile>& moved) {
    if constexpr (TiledEnvironment<E>) {
      // A tile costs the same however many lanes it has, so a few environments go one by one.
      if (lanes > kTile / 4 && batch.params_stride == 0) {
        E::step_tile(block.tile, params_of(batch, first), actions, lanes, moved.rewards,
                     moved.terminated);
        return;
      }
    }
    for (int i = 0; i < lanes; ++i) {
      move_lane(block, i, params_of(batch, first + i), actions[i], moved, i);
    }
  }

  // What follows a move: time limit, statistics, resets and results of `lanes` lanes from `begin` on, a whole tile
  // of the CPU or one lane of a GPU. The first is environment `first`. Returns how many episodes ended. Loops
  // are short of work, so that each is one of vectors.
  template <int kLanes>
  PPO_HD static std::ptrdiff_t finish(const EnvBatch& batch, BlockType& block, int begin, int lanes,
                                      std::ptrdiff_t first, Moved<kLanes>& moved,
                                      const StepOutputs& out) {
    const Options defaults{};
    std::int32_t* elapsed = block.elapsed + begin;
    double* episode_return = block.episode_return + begin;
    bool* over = block.over + begin;
    alignas(64) bool late[kLanes] = {};
    for (int i = 0; i < lanes; ++i) {
      elapsed[i] += 1;
      late[i] = elapsed[i] >= batch.max_episode_steps;
    }
    for (int i = 0; i < kLanes; ++i) moved.truncated[i] |= late[i];
    for (int i = 0; i < lanes; ++i) episode_return[i] += moved.rewards[i];
    // Only NEXT_STEP gets here with episodes that are over: this step is their reset.
    if (any(over, lanes)) {
      for (int i = 0; i < lanes; ++i) {
        if (!over[i]) continue;
        restart(block, begin + i, params_of(batch, first + i), defaults);
        moved.rewards[i] = 0.0;
        moved.terminated[i] = moved.truncated[i] = false;
      }
    }
    std::ptrdiff_t ended = 0;
    for (int i = 0; i < kLanes; ++i) over[i] = moved.terminated[i] | moved.truncated[i];
    if (any(over, lanes)) {
      for (int i = 0; i < lanes; ++i) {
        if (!over[i]) continue;
        ++ended;
        end_episode(batch, block, begin + i, first + i, defaults, out);
      }
    }
    observe_lanes(block, begin, lanes, first, out);
    if (out.rewards_are_float32) {
      write(moved.rewards, lanes, static_cast<float*>(out.rewards), out.rewards_stride, first);
    } else {
      write(moved.rewards, lanes, static_cast<double*>(out.rewards), out.rewards_stride, first);
    }
    write(moved.terminated, lanes, out.terminated, out.terminated_stride, first);
    write(moved.truncated, lanes, out.truncated, out.truncated_stride, first);
    return ended;
  }

  // What is kept of an episode that has ended, and under SAME_STEP its reset.
  PPO_HD static void end_episode(const EnvBatch& batch, BlockType& block, int i, std::ptrdiff_t env,
                                 const Options& defaults, const StepOutputs& out) {
    if (out.final_obs) {
      Scalar row[kObsSize];
      E::observe(block.tile.load(i), row);
      Scalar* to = static_cast<Scalar*>(out.final_obs) + env * out.final_obs_stride;
      for (int k = 0; k < kObsSize; ++k) to[k] = row[k];
    }
    if (out.episode_returns) {
      out.episode_returns[env] = block.episode_return[i];
      out.episode_lengths[env] = block.elapsed[i];
    }
    if (batch.autoreset == Autoreset::kSameStep) {
      restart(block, i, params_of(batch, env), defaults);
      block.over[i] = false;
    }
  }

  PPO_HD static bool any(const bool* flags, int lanes) {
    // Eight flags at a time.
    std::uint64_t found = 0;
    int i = 0;
    for (; i + 8 <= lanes; i += 8) {
      std::uint64_t eight;
      std::memcpy(&eight, flags + i, 8);
      found |= eight;
    }
    for (; i < lanes; ++i) found |= flags[i];
    return found != 0;
  }

  PPO_HD static void observe_lanes(const BlockType& block, int begin, int lanes,
                                   std::ptrdiff_t first, const StepOutputs& out) {
    Scalar* obs = static_cast<Scalar*>(out.obs) + first * out.obs_stride;
    for (int i = 0; i < lanes; ++i) {
      E::observe(block.tile.load(begin + i), obs + i * out.obs_stride);
    }
  }

  template <typename From, typename To>
  PPO_HD static void write(const From* from, int lanes, To* to, std::ptrdiff_t stride,
                           std::ptrdiff_t first) {
    if (stride == 1) {
      for (int i = 0; i < lanes; ++i) to[first + i] = static_cast<To>(from[i]);
    } else {
      for (int i = 0; i < lanes; ++i) to[(first + i) * stride] = static_cast<To>(from[i]);
    }
  }
};

// The fields of one of the structs of an environment, for EnvFields.
template <typename T>
struct FieldList {
  const Field<T>* begin = nullptr;
  int count = 0;
};

template <typename T, int kCount>
constexpr FieldList<T> list_of(const Field<T> (&fields)[kCount]) {
  return {fields, kCount};
}

template <typename E>
struct ParamsFields {
  using Type = typename E::Params;
  PPO_HD static constexpr FieldList<Type> list() {
    if constexpr (requires { E::kParams; }) return list_of(E::kParams);
    return {};
  }
};
template <typename E>
struct OptionsFields {
  using Type = typename OptionsOf<E>::Type;
  PPO_HD static constexpr FieldList<Type> list() {
    if constexpr (requires { E::kOptions; }) return list_of(E::kOptions);
    return {};
  }
};
template <typename E>
struct StateFields {
  using Type = typename E::State;
  PPO_HD static constexpr FieldList<Type> list() {
    if constexpr (requires { E::kState; }) return list_of(E::kState);
    return {};
  }
};

template <typename Fields>
struct FieldAccess {
  using T = typename Fields::Type;

  static EnvField describe(int field) {
    const Field<T>& f = Fields::list().begin[field];
    return {f.name, f.type, f.choices};
  }
  static void init(void* object) {
    const T defaults{};
    std::memcpy(object, &defaults, sizeof(T));
  }
  static double get(const void* object, int field) {
    const Field<T>& f = Fields::list().begin[field];
    const T& t = *static_cast<const T*>(object);
    return f.flag ? t.*f.flag : f.integer ? t.*f.integer : t.*f.number;
  }
  static void set(void* object, int field, double value) {
    const Field<T>& f = Fields::list().begin[field];
    T& t = *static_cast<T*>(object);
    if (f.flag) {
      t.*f.flag = value != 0.0;
    } else if (f.integer) {
      t.*f.integer = static_cast<std::int32_t>(value);
    } else {
      t.*f.number = value;
    }
  }
  static constexpr EnvFields table() {
    return {sizeof(T), Fields::list().count, &describe, &init, &get, &set};
  }
};

template <typename T>
constexpr ScalarType scalar_type() {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double> ||
                    std::is_same_v<T, std::uint8_t> || std::is_same_v<T, std::int32_t>,
                "observations are float, double, std::uint8_t or std::int32_t");
  return std::is_same_v<T, float>          ? ScalarType::kFloat32
         : std::is_same_v<T, double>       ? ScalarType::kFloat64
         : std::is_same_v<T, std::uint8_t> ? ScalarType::kUint8
                                           : ScalarType::kInt32;
}

template <Environment E>
constexpr EnvTable make_table(const char* name, std::int32_t max_episode_steps) {
  using Observation = typename E::Observation;
  using Scalar = typename Observation::Scalar;
  using Limits = std::numeric_limits<Scalar>;
  static_assert(alignof(Block<E>) <= 64, "State must not be aligned to more than 64 bytes");

  EnvTable table = {};
  table.abi = kEnvAbi;
  table.name = name;
  table.max_episode_steps = max_episode_steps;
  table.reward_threshold = std::numeric_limits<double>::quiet_NaN();
  if constexpr (requires { E::kRewardThreshold; }) table.reward_threshold = E::kRewardThreshold;
  table.step_nanoseconds = 50;
  if constexpr (requires { E::kStepNanoseconds; }) table.step_nanoseconds = E::kStepNanoseconds;
  table.tile_bytes = sizeof(Block<E>);

  table.obs_type = scalar_type<Scalar>();
  table.obs_ndim = Observation::kDimensions;
  table.obs_shape = Observation::kSizes;
  table.obs_size = Observation::kSize;
  table.obs_low = Limits::has_infinity ? -std::numeric_limits<double>::infinity()
                                       : static_cast<double>(Limits::lowest());
  table.obs_high = Limits::has_infinity ? std::numeric_limits<double>::infinity()
                                        : static_cast<double>(Limits::max());
  if constexpr (requires { E::kObservationLow; }) table.obs_low = E::kObservationLow;
  if constexpr (requires { E::kObservationHigh; }) table.obs_high = E::kObservationHigh;

  table.num_actions = E::Action::kCount;
  table.action_size = E::Action::kSize;
  table.action_low = -1;
  table.action_high = 1;
  if constexpr (requires { E::kActionLow; }) table.action_low = E::kActionLow;
  if constexpr (requires { E::kActionHigh; }) table.action_high = E::kActionHigh;

  table.params = FieldAccess<ParamsFields<E>>::table();
  table.options = FieldAccess<OptionsFields<E>>::table();
  table.state = FieldAccess<StateFields<E>>::table();

  table.init_tile = &Loop<E>::init_tile;
  table.reset = &Loop<E>::reset;
  table.step = &Loop<E>::step;
  table.is_over = &Loop<E>::is_over;
  table.load_state = &Loop<E>::load_state;
  table.load_rng = &Loop<E>::load_rng;
  table.store_rng = &Loop<E>::store_rng;
  return table;
}

}  // namespace ppo::inline PPO_ISA
