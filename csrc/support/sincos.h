// sin and cos of a tile of angles at vector speed, with the very bits of the C library.
//
// For |x| <= 1/4 a short series gives s and a remainder `low` with sin(x) = s + low to well below one
// unit in the last place (ulp). glibc documents an error of at most 0.548 ulp for sine and 0.51 for cosine
// in this range (0.5154 and 0.5009 were the largest of 4 million). So wherever the exact value lies further
// than that from the midpoint of two doubles, glibc must return s as well: there is no other double within
// its bound. The rest, about one angle in eight, and all angles beyond 1/4, are handed to the C library
// itself, and so are all angles on systems other than x86-64 with glibc, whose bounds are not known here.
// Nothing here depends on FMA or on the vector width.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "ppo_fast/host_device.h"

namespace ppo::inline PPO_ISA {

struct Rounded {
  double value;
  double doubt;  // 0 if a libm within its documented error must return `value`
};

// Distance of neighbouring doubles from |x| upwards, for normal x.
PPO_HD double ulp(double x) {
  constexpr std::uint64_t kExponent = 0x7ff0000000000000u;
  return std::bit_cast<double>(std::bit_cast<std::uint64_t>(x) & kExponent) * 0x1p-52;
}

PPO_HD double doubt_unless(bool condition) { return condition ? 0.0 : 1.0; }

// The exact result is value + low, with an own error below `own`, and libm may be off by `libm` more than
// half an ulp: could it round elsewhere?
// Conditions are added up as doubles because compilers do not vectorise booleans of doubles.
PPO_HD Rounded round_with_margin(double value, double low, double libm, double own) {
  const double margin = libm + own;
  return {value, doubt_unless(value + (low + margin) == value) +
                     doubt_unless(value + (low - margin) == value)};
}

// Taylor series of sin; the terms left out are below 2^-70 for |x| <= 1/4. sin(-0.0) is left to
// libm.
PPO_HD Rounded sin_small(double x) {
  const double z = x * x;
  double p = 1.0 / 6227020800.0;
  p = p * z - 1.0 / 39916800.0;
  p = p * z + 1.0 / 362880.0;
  p = p * z - 1.0 / 5040.0;
  p = p * z + 1.0 / 120.0;
  p = p * z - 1.0 / 6.0;
  const double correction = x * (z * p);
  const double value = x + correction;
  const double low = correction - (value - x);
  Rounded result =
      round_with_margin(value, low, 0.05 * ulp(value), std::fabs(correction) * 0x1.8p-51);
  result.doubt += doubt_unless(std::fabs(x) <= 0.25) + doubt_unless(x != 0.0);
  return result;
}

// Taylor series of cos, likewise; all results lie in [0.96, 1].
PPO_HD Rounded cos_small(double x) {
  const double z = x * x;
  double p = 1.0 / 479001600.0;
  p = p * z - 1.0 / 3628800.0;
  p = p * z + 1.0 / 40320.0;
  p = p * z - 1.0 / 720.0;
  p = p * z + 1.0 / 24.0;
  p = p * z - 0.5;
  const double correction = z * p;
  const double value = 1.0 + correction;
  const double low = correction - (value - 1.0);
  Rounded result =
      round_with_margin(value, low, 0.02 * ulp(0.75), std::fabs(correction) * 0x1.8p-51);
  result.doubt += doubt_unless(std::fabs(x) <= 0.25);
  return result;
}

// s[i], c[i] = sin(x[i]), cos(x[i]) for i < lanes; the arrays have room for kLanes.
template <int kLanes>
inline void sincos_tile(const double* x, int lanes, double* s, double* c) {
#if defined(__x86_64__) && defined(__GLIBC__)
  alignas(64) double ask_sin[kLanes];
  alignas(64) double ask_cos[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    const Rounded sine = sin_small(x[i]);
    const Rounded cosine = cos_small(x[i]);
    s[i] = sine.value;
    c[i] = cosine.value;
    ask_sin[i] = sine.doubt;
    ask_cos[i] = cosine.doubt;
  }
  // Collect first, call later: a branch per lane would be mispredicted one time in ten.
  int sin_lanes[kLanes];
  int cos_lanes[kLanes];
  int sins = 0;
  int coss = 0;
  for (int i = 0; i < lanes; ++i) {
    sin_lanes[sins] = i;
    sins += ask_sin[i] != 0.0;
    cos_lanes[coss] = i;
    coss += ask_cos[i] != 0.0;
  }
  for (int k = 0; k < sins; ++k) s[sin_lanes[k]] = std::sin(x[sin_lanes[k]]);
  for (int k = 0; k < coss; ++k) c[cos_lanes[k]] = std::cos(x[cos_lanes[k]]);
#else
  for (int i = 0; i < lanes; ++i) {
    s[i] = std::sin(x[i]);
    c[i] = std::cos(x[i]);
  }
#endif
}

}  // namespace ppo::inline PPO_ISA
