// The activations of hidden layers, each with its derivative from what forward keeps.
#pragma once

#include "ppo_fast/host_device.h"
#include "support/math.h"
#include "support/vector.h"

namespace ppo::inline PPO_ISA {

// y = tanh x; dy/dx = 1 - y^2
struct Tanh {
  // Within 4e-7 of its value: x P(x^2) / Q(x^2), fitted for the least relative error on [-7.905, 7.905]; beyond
  // that it is 1 in float. The compiler would make branches or masks of the limits.
  static PPO_HD Vector<float> value(const Vector<float>& x) {
    const Vector<float> inside = limited(x, -7.905f, 7.905f);
    const Vector<float> z = inside * inside;
    Vector<float> p = splat(2.1888733880981448e-11f);
    p = multiply_add(p, z, splat(-1.4195307151965153e-08f));
    p = multiply_add(p, z, splat(9.739555025589652e-06f));
    p = multiply_add(p, z, splat(0.0029726363718509674f));
    p = multiply_add(p, z, splat(0.12967583537101746f));
    p = multiply_add(p, z, splat(0.9999999403953552f));
    Vector<float> q = splat(0.0002352600422454998f);
    q = multiply_add(q, z, splat(0.023975811898708344f));
    q = multiply_add(q, z, splat(0.4630091190338135f));
    q = multiply_add(q, z, splat(1.0f));
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
