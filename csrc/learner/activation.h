// The activations of hidden layers, each with its derivative from what forward keeps.
#pragma once

#include "ppo_fast/host_device.h"
#include "support/math.h"

namespace ppo::inline PPO_ISA {

// y = tanh x; dy/dx = 1 - y^2
struct Tanh {
  static PPO_HD float value(float x) { return math::tanh(x); }
  static PPO_HD float derivative(float y) { return 1.0f - y * y; }
};

// y = max(0, x)
struct Relu {
  static PPO_HD float value(float x) { return x <= 0.0f ? 0.0f : x; }  // a NaN stays one
  static PPO_HD float derivative(float y) { return y > 0.0f ? 1.0f : 0.0f; }
};

// y = x, or exp(x) - 1 below 0; dy/dx = 1, or y + 1
struct Elu {
  static PPO_HD float value(float x) {
    const float below = math::exp(x < 0.0f ? x : 0.0f) - 1.0f;
    return x < 0.0f ? below : x;
  }
  static PPO_HD float derivative(float y) { return y < 0.0f ? y + 1.0f : 1.0f; }
};

// y = x s with s = 1 / (1 + exp(-x)); dy/dx = s + y (1 - s), which y does not tell: it is kept.
struct Silu {
  static PPO_HD float sigmoid(float x) { return 1.0f / (1.0f + math::exp(-x)); }
};

}  // namespace ppo::inline PPO_ISA
