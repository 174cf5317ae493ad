// Perceptrons of an actor-critic as the kernels see them: sizes, and where their parameters lie. All functions
// are PPO_HD because kernels of every instruction set use them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "ppo_fast/host_device.h"

namespace ppo {

// Samples are worked on in blocks of this many, side by side in vector lanes: a feature is a row.
constexpr std::ptrdiff_t kBlock = 64;

// A sum along samples is kept as this many until all samples are in it (dots.h).
constexpr std::ptrdiff_t kChains = 4;

// A layer is narrow that has no more inputs, or outputs, than this.
constexpr std::ptrdiff_t kNarrow = 8;

// Rows along which vectors run are padded to whole vectors of every instruction set.
PPO_HD constexpr std::ptrdiff_t padded(std::ptrdiff_t size) { return (size + 15) / 16 * 16; }

// Python's _core.Activation.
enum class Activation : int { kTanh = 0, kRelu = 1, kElu = 2, kSilu = 3 };

// y = W x + b. W [outputs, inputs] and b [outputs] start at these places of the flat parameters.
struct Layer {
  std::ptrdiff_t inputs = 0;
  std::ptrdiff_t outputs = 0;
  std::ptrdiff_t weight = 0;
  std::ptrdiff_t bias = 0;

  // Whether its gradient is formed by sums along samples (dots.h) instead of by a matrix product.
  PPO_HD bool is_narrow() const { return inputs <= kNarrow || outputs <= kNarrow; }

  // Floats of the gradient as `backward` leaves it: padded rows of W, or the chains of each weight; then the
  // chains of each bias.
  PPO_HD std::ptrdiff_t partial_weights() const {
    return is_narrow() ? padded(outputs * inputs * kChains) : outputs * padded(inputs);
  }
  PPO_HD std::ptrdiff_t partial_floats() const {
    return partial_weights() + padded(outputs * kChains);
  }
};

enum Output : int { kPolicyOutput = 0, kValueOutput = 1, kOutputs = 2 };

struct Head {
  Layer layer;
  Output output = kPolicyOutput;
};

// Hidden layers, each followed by the activation, and heads on the last of them. An actor-critic is two
// parts, or one with two heads where both share the trunk.
struct Part {
  std::ptrdiff_t inputs = 0;
  std::vector<Layer> hidden;
  std::vector<Head> heads;

  PPO_HD const Layer& layer(std::size_t k) const {
    return k < hidden.size() ? hidden[k] : heads[k - hidden.size()].layer;
  }
  PPO_HD std::size_t layers() const { return hidden.size() + heads.size(); }

  PPO_HD std::ptrdiff_t widest() const {
    std::ptrdiff_t most = inputs;
    for (const Layer& l : hidden) most = std::max(most, l.outputs);
    for (const Head& h : heads) most = std::max(most, h.layer.outputs);
    return most;
  }

  // What `forward` keeps of a block: its observations as rows of samples and as rows of features,
  // then of each hidden layer the results and, for silu, the derivatives.
  PPO_HD std::ptrdiff_t block_floats(Activation activation) const {
    std::ptrdiff_t sum = kBlock * padded(inputs) + inputs * kBlock;
    for (const Layer& l : hidden) sum += l.outputs * kBlock * kept_rows(activation);
    return sum;
  }
  PPO_HD static std::ptrdiff_t kept_rows(Activation activation) {
    return activation == Activation::kSilu ? 2 : 1;
  }

  PPO_HD std::ptrdiff_t partial_floats() const {
    std::ptrdiff_t sum = 0;
    for (std::size_t k = 0; k < layers(); ++k) sum += layer(k).partial_floats();
    return sum;
  }

  // Of `backward`: two gradients and the features of a layer by samples.
  PPO_HD std::ptrdiff_t scratch_floats() const {
    return kBlock * (2 * widest() + padded(widest()));
  }
};

}  // namespace ppo
