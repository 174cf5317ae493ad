// NumPy's SeedSequence and PCG64, bit for bit, so that a native environment draws the numbers that
// its Gymnasium original draws from np.random.default_rng(seed).
//
// Sources: M. O'Neill, "PCG: A Family of Simple Fast Space-Efficient Statistically Good Algorithms
// for Random Number Generation" (2014), variant XSL-RR 128/64; NumPy's
// numpy/random/bit_generator.pyx for the seeding scheme, after M. O'Neill's seed_seq_fe.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ppo_fast/host_device.h"

namespace ppo::inline PPO_ISA {

// 128-bit unsigned arithmetic modulo 2^128, as far as PCG64 needs it.
struct Uint128 {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
};

PPO_HD Uint128 add(Uint128 a, Uint128 b) {
  const std::uint64_t low = a.low + b.low;
  return {a.high + b.high + (low < a.low ? 1u : 0u), low};
}

PPO_HD Uint128 multiply(Uint128 a, Uint128 b) {
#if defined(__SIZEOF_INT128__)
  __extension__ typedef unsigned __int128 Wide;
  const Wide low = static_cast<Wide>(a.low) * b.low;
  return {static_cast<std::uint64_t>(low >> 64) + a.high * b.low + a.low * b.high,
          static_cast<std::uint64_t>(low)};
#else
  const std::uint64_t mask = 0xffffffffu;
  const std::uint64_t p00 = (a.low & mask) * (b.low & mask);
  const std::uint64_t p01 = (a.low & mask) * (b.low >> 32);
  const std::uint64_t p10 = (a.low >> 32) * (b.low & mask);
  const std::uint64_t p11 = (a.low >> 32) * (b.low >> 32);
  const std::uint64_t middle = (p00 >> 32) + (p01 & mask) + (p10 & mask);
  return {p11 + (p01 >> 32) + (p10 >> 32) + (middle >> 32) + a.high * b.low + a.low * b.high,
          a.low * b.low};
#endif
}

// np.random.PCG64: 256 bits of state, plain data, so that an environment's state can be saved.
class Pcg64 {
 public:
  // `words`: SeedSequence(entropy).generate_state(4, np.uint64), see seed_words below.
  PPO_HD void seed(const std::uint64_t words[4]) {
    state_ = {0, 0};
    has_half_ = false;
    increment_ = {(words[2] << 1) | (words[3] >> 63), (words[3] << 1) | 1u};
    advance();
    state_ = add(state_, {words[0], words[1]});
    advance();
  }

  // The next 64 bits.
  PPO_HD std::uint64_t next() {
    advance();
    const std::uint64_t folded = state_.high ^ state_.low;
    const unsigned rotation = static_cast<unsigned>(state_.high >> 58);
    return (folded >> rotation) | (folded << ((64u - rotation) & 63u));
  }

  // Generator.random(): a double in [0, 1).
  PPO_HD double random() { return static_cast<double>(next() >> 11) * (1.0 / 9007199254740992.0); }

  // Generator.uniform(low, high).
  PPO_HD double uniform(double low, double high) { return low + (high - low) * random(); }

  // Generator.integers(low, high), for ranges below 2^32.
  PPO_HD std::int64_t integers(std::int64_t low, std::int64_t high) {
    const std::uint64_t range = static_cast<std::uint64_t>(high - low);
    if (range <= 1) return low;  // NumPy draws nothing here either
    // D. Lemire, "Fast Random Integer Generation in an Interval" (2019).
    std::uint64_t product = next_uint32() * range;
    if ((product & 0xffffffffu) < range) {
      const std::uint64_t threshold = (0x100000000u - range) % range;
      while ((product & 0xffffffffu) < threshold) product = next_uint32() * range;
    }
    return low + static_cast<std::int64_t>(product >> 32);
  }

  // What NumPy's bit_generator.state holds: state and increment, high words first, has_uint32 and
  // uinteger.
  PPO_HD void save(std::uint64_t words[6]) const {
    words[0] = state_.high;
    words[1] = state_.low;
    words[2] = increment_.high;
    words[3] = increment_.low;
    words[4] = has_half_ ? 1 : 0;
    words[5] = half_;
  }
  PPO_HD void restore(const std::uint64_t words[6]) {
    state_ = {words[0], words[1]};
    increment_ = {words[2], words[3]};
    has_half_ = words[4] != 0;
    half_ = static_cast<std::uint32_t>(words[5]);
  }

 private:
  // 32 bits at a time: the low half of a draw first, then the high one, as NumPy does.
  PPO_HD std::uint64_t next_uint32() {
    if (has_half_) {
      has_half_ = false;
      return half_;
    }
    const std::uint64_t both = next();
    has_half_ = true;
    half_ = static_cast<std::uint32_t>(both >> 32);
    return both & 0xffffffffu;
  }

  PPO_HD void advance() {
    state_ = add(multiply(state_, {0x2360ed051fc65da4u, 0x4385df649fccf645u}), increment_);
  }

  Uint128 state_;
  Uint128 increment_;
  std::uint32_t half_ = 0;
  bool has_half_ = false;
};

// SeedSequence(entropy).generate_state(4, np.uint64), where entropy is a non-negative integer given
// as `count` 32-bit words, least significant first (NumPy uses one zero word for 0).
inline void seed_words(const std::uint32_t* entropy, std::size_t count, std::uint64_t words[4]) {
  constexpr std::size_t kPool = 4;
  constexpr std::uint32_t kMultA = 0x931e8875u;
  constexpr std::uint32_t kMultB = 0x58f38dedu;
  std::uint32_t hash = 0x43b0d7e5u;

  const auto hashmix = [&hash](std::uint32_t value) {
    value ^= hash;
    hash *= kMultA;
    value *= hash;
    return value ^ (value >> 16);
  };
  const auto mix = [](std::uint32_t x, std::uint32_t y) {
    const std::uint32_t result = x * 0xca01f9ddu - y * 0x4973f715u;
    return result ^ (result >> 16);
  };

  std::uint32_t pool[kPool];
  for (std::size_t i = 0; i < kPool; ++i) pool[i] = hashmix(i < count ? entropy[i] : 0);
  for (std::size_t from = 0; from < kPool; ++from) {
    for (std::size_t to = 0; to < kPool; ++to) {
      if (from != to) pool[to] = mix(pool[to], hashmix(pool[from]));
    }
  }
  for (std::size_t from = kPool; from < count; ++from) {
    for (std::size_t to = 0; to < kPool; ++to) pool[to] = mix(pool[to], hashmix(entropy[from]));
  }

  hash = 0x8b51f9ddu;
  std::uint32_t out[8];
  for (std::size_t i = 0; i < 8; ++i) {
    std::uint32_t value = pool[i % kPool] ^ hash;
    hash *= kMultB;
    value *= hash;
    out[i] = value ^ (value >> 16);
  }
  for (std::size_t i = 0; i < 4; ++i) {
    words[i] = out[2 * i] | (static_cast<std::uint64_t>(out[2 * i + 1]) << 32);
  }
}

}  // namespace ppo::inline PPO_ISA
