// The activations of hidden layers, each with its derivative from what forward keeps.
#pragma once

#include "ppo_fast/host_device.h"
#include "support/math.h"

namespace ppo::inline PPO_ISA {

// a * b + c, rounded once where the instruction set can, as in the products around it.
PPO_HD float multiply_add(float a, float b, float c) {
#if defined(__FMA__)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

// y = tanh x; dy/dx = 1 - y^2
struct Tanh {
  // Within 4e-7 of its value: x P(x^2) / Q(x^2), fitted for the least relative error on [-7.905, 7.905]; beyond
  // that it is 1 in float.
  static PPO_HD float value(float x) {
    constexpr float kMost = 7.905f;
    const float below = x < -kMost ? -kMost : x;
    const float inside = below > kMost ? kMost : below;
    const float z = inside * inside;
    float p = 2.1888733880981448e-11f;
    p = multiply_add(p, z, -1.4195307151965153e-08f);
    p = multiply_add(p, z, 9.739555025589652e-06f);
    p = multiply_add(p, z, 0.0029726363718509674f);
    p = multiply_add(p, z, 0.12967583537101746f);
    p = multiply_add(p, z, 0.9999999403953552f);
    float q = 0.0002352600422454998f;
    q = multiply_add(q, z, 0.023975811898708344f);
    q = multiply_add(q, z, 0.4630091190338135f);
    q = multiply_add(q, z, 1.0f);
    return inside * p / q;
  }
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
