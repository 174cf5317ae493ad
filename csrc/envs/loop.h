// The loop over a range of tiles: step, time limit, autoreset and output in one pass, for any type
// that meets the concept of ppo_fast/env.h. Turned into an EnvTable at the end of the file.
//
// Autoreset is Gymnasium's (AutoresetMode): NEXT_STEP spends the step after the end of an episode
// on the reset and ignores its action; SAME_STEP resets at once and keeps the last observation in
// final_obs; DISABLED leaves it to the caller. The time limit counts steps since the reset, and an
// episode can be terminated and truncated at once.
#pragma once

#include <cstring>

#include "envs/table.h"
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
  std::int32_t elapsed[kTile];
  bool over[kTile];
};

template <typename E>
class Loop {
  using Params = typename E::Params;
  using State = typename E::State;
  using Scalar = typename E::Observation::Scalar;
  using BlockType = Block<E>;
  static constexpr int kObsSize = E::Observation::kSize;

 public:
  static void init_params(void* params) {
    const Params defaults;
    std::memcpy(params, &defaults, sizeof(Params));
  }

  static void init_tile(void* tile) { std::memset(tile, 0, sizeof(BlockType)); }

  static void reset(const EnvBatch& batch, const ResetRequest& request, const StepOutputs& out,
                    std::ptrdiff_t begin, std::ptrdiff_t end) {
    for (std::ptrdiff_t t = begin; t < end; ++t) {
      BlockType& block = block_of(batch, t);
      const std::ptrdiff_t first = t * kTile;
      const int lanes = lanes_of(batch, t);
      for (int i = 0; i < lanes; ++i) {
        if (!request.selected[first + i]) continue;
        if (request.reseed[first + i]) block.rng[i].seed(request.seeds + 4 * (first + i));
        restart(block, i, params_of(batch), {request.low, request.high});
        block.over[i] = false;
      }
      observe_all(block, lanes, first, out);
    }
  }

  static std::ptrdiff_t step(const EnvBatch& batch, const std::int32_t* actions,
                             const StepOutputs& out, std::ptrdiff_t begin, std::ptrdiff_t end) {
    std::ptrdiff_t ended = 0;
    for (std::ptrdiff_t t = begin; t < end; ++t) {
      ended += step_block(batch, block_of(batch, t), actions + t * kTile, lanes_of(batch, t),
                          t * kTile, out);
    }
    return ended;
  }

  static bool is_over(const EnvBatch& batch, std::ptrdiff_t env) {
    return block_of(batch, env / kTile).over[env % kTile];
  }

 private:
  PPO_HD static BlockType& block_of(const EnvBatch& batch, std::ptrdiff_t t) {
    return static_cast<BlockType*>(batch.tiles)[t];
  }
  PPO_HD static int lanes_of(const EnvBatch& batch, std::ptrdiff_t t) {
    const std::ptrdiff_t left = batch.num_envs - t * kTile;
    return left < kTile ? static_cast<int>(left) : kTile;
  }
  PPO_HD static const Params& params_of(const EnvBatch& batch) {
    return *static_cast<const Params*>(batch.params);
  }

  static void restart(BlockType& block, int i, const Params& params, Bounds bounds) {
    State state = block.tile.load(i);
    E::reset(state, params, block.rng[i], bounds);
    block.tile.store(i, state);
    block.elapsed[i] = 0;
  }

  // `actions` has room for a whole tile; lanes beyond the batch hold action 0.
  static std::ptrdiff_t step_block(const EnvBatch& batch, BlockType& block,
                                   const std::int32_t* actions, int lanes, std::ptrdiff_t first,
                                   const StepOutputs& out) {
    const Params& params = params_of(batch);
    alignas(64) double rewards[kTile];
    alignas(64) bool terminated[kTile] = {};
    alignas(64) bool truncated[kTile] = {};

    move(block, params, actions, lanes, rewards, terminated);
    for (int i = 0; i < lanes; ++i) {
      block.elapsed[i] += 1;
      truncated[i] = block.elapsed[i] >= batch.max_episode_steps;
    }
    // Only NEXT_STEP gets here with episodes that are over: this step is their reset.
    if (any(block.over, lanes)) {
      for (int i = 0; i < lanes; ++i) {
        if (!block.over[i]) continue;
        restart(block, i, params, E::kResetBounds);
        rewards[i] = 0.0;
        terminated[i] = truncated[i] = false;
      }
    }
    std::ptrdiff_t ended = 0;
    for (int i = 0; i < kTile; ++i) block.over[i] = terminated[i] | truncated[i];
    if (any(block.over, lanes)) {
      for (int i = 0; i < lanes; ++i) {
        if (!block.over[i]) continue;
        ++ended;
        if (out.final_obs) {
          Scalar row[kObsSize];
          E::observe(block.tile.load(i), row);
          std::memcpy(static_cast<Scalar*>(out.final_obs) + (first + i) * out.final_obs_stride, row,
                      sizeof(row));
        }
        if (batch.autoreset == Autoreset::kSameStep) {
          restart(block, i, params, E::kResetBounds);
          block.over[i] = false;
        }
      }
    }
    observe_all(block, lanes, first, out);
    if (out.rewards_are_float32) {
      write(rewards, lanes, static_cast<float*>(out.rewards), out.rewards_stride, first);
    } else {
      write(rewards, lanes, static_cast<double*>(out.rewards), out.rewards_stride, first);
    }
    write(terminated, lanes, out.terminated, out.terminated_stride, first);
    write(truncated, lanes, out.truncated, out.truncated_stride, first);
    return ended;
  }

  static void move(BlockType& block, const Params& params, const std::int32_t* actions, int lanes,
                   double* rewards, bool* terminated) {
    if constexpr (TiledEnvironment<E>) {
      // A tile costs the same however many lanes it has, so a few environments go one by one.
      if (lanes > kTile / 4) {
        E::step_tile(block.tile, params, actions, lanes, rewards, terminated);
        return;
      }
    }
    for (int i = 0; i < lanes; ++i) {
      if (block.over[i]) continue;
      State state = block.tile.load(i);
      const StepResult result = E::step(state, params, actions[i], block.rng[i]);
      block.tile.store(i, state);
      rewards[i] = result.reward;
      terminated[i] = result.terminated;
    }
  }

  static bool any(const bool* flags, int lanes) {
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

  static void observe_all(const BlockType& block, int lanes, std::ptrdiff_t first,
                          const StepOutputs& out) {
    Scalar* obs = static_cast<Scalar*>(out.obs) + first * out.obs_stride;
    for (int i = 0; i < lanes; ++i) E::observe(block.tile.load(i), obs + i * out.obs_stride);
  }

  template <typename From, typename To>
  static void write(const From* from, int lanes, To* to, std::ptrdiff_t stride,
                    std::ptrdiff_t first) {
    if (stride == 1) {
      for (int i = 0; i < lanes; ++i) to[first + i] = static_cast<To>(from[i]);
    } else {
      for (int i = 0; i < lanes; ++i) to[(first + i) * stride] = static_cast<To>(from[i]);
    }
  }
};

template <Environment E>
constexpr EnvTable make_table(const EnvField* fields, int num_fields) {
  using Scalar = typename E::Observation::Scalar;
  static_assert(std::is_same_v<Scalar, float> || std::is_same_v<Scalar, double>);
  return {E::kName,
          sizeof(Block<E>),
          sizeof(typename E::Params),
          fields,
          num_fields,
          E::Observation::kSize,
          std::is_same_v<Scalar, float>,
          E::Action::kCount,
          E::kResetBounds.low,
          E::kResetBounds.high,
          E::kStepNanoseconds,
          &Loop<E>::init_params,
          &Loop<E>::init_tile,
          &Loop<E>::reset,
          &Loop<E>::step,
          &Loop<E>::is_over};
}

}  // namespace ppo::inline PPO_ISA
