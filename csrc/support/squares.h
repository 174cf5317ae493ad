// x ** 2 as NumPy scalars and Python compute it: pow(x, 2) of the C library, whose result differs
// from x * x about one time in a thousand. It cannot where x * x was rounded by less than 0.45 ulp:
// glibc documents an error below 0.52 ulp for pow, and 0.55 for powf. So one time in ten it is asked.
#pragma once

#include <math.h>

#include <cmath>

#include "ppo_fast/host_device.h"
#include "support/sincos.h"

namespace ppo::inline PPO_ISA {

// Through pointers, because compilers turn pow(x, 2) into x * x.
inline double (*const volatile kPow)(double, double) = &::pow;
inline float (*const volatile kPowFloat)(float, float) = &::powf;

PPO_HD double square(double x) {
  const double product = x * x;
  const double rounded_by = std::fma(x, x, -product);
  if (std::fabs(rounded_by) <= 0.45 * ulp(product)) return product;
  return kPow(x, 2.0);
}

PPO_HD float square(float x) {
  const double exact = static_cast<double>(x) * x;
  const float product = static_cast<float>(exact);
  if (std::fabs(exact - product) <= 0.45 * 0x1p29 * ulp(exact)) return product;
  return kPowFloat(x, 2.0f);
}

}  // namespace ppo::inline PPO_ISA
