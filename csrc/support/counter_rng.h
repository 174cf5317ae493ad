// Random numbers as a pure function of (seed, stream, id, step): no state, so no engine, thread count
// or order of calls can change them. Actions are drawn at (seed, kActions, global env id, step), one
// index for each component; minibatch orders at (seed, kPermutation, position, epoch); the matrices
// of state-dependent noise at (seed, kNoise, global env id, step / sample_freq).
//
// Philox4x32-10: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel Random Numbers: As Easy as 1, 2,
// 3", SC 2011.
#pragma once

#include <cstdint>

#include "ppo_fast/host_device.h"

namespace ppo {

// Values are part of every seed's meaning: never renumber.
enum class Stream : std::uint32_t { kActions = 0, kPermutation = 1, kNoise = 2 };

struct Philox4x32 {
  std::uint32_t word[4];
};

PPO_HD Philox4x32 philox(std::uint64_t key, const Philox4x32& counter) {
  std::uint32_t k0 = static_cast<std::uint32_t>(key);
  std::uint32_t k1 = static_cast<std::uint32_t>(key >> 32);
  Philox4x32 x = counter;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = static_cast<std::uint64_t>(0xd2511f53u) * x.word[0];
    const std::uint64_t p1 = static_cast<std::uint64_t>(0xcd9e8d57u) * x.word[2];
    x = {{static_cast<std::uint32_t>(p1 >> 32) ^ x.word[1] ^ k0, static_cast<std::uint32_t>(p1),
          static_cast<std::uint32_t>(p0 >> 32) ^ x.word[3] ^ k1, static_cast<std::uint32_t>(p0)}};
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  return x;
}

// 128 random bits: two draws, `block` counting pairs of them.
PPO_HD Philox4x32 counter_bits(std::uint64_t seed, Stream stream, std::uint32_t id,
                               std::uint64_t step, std::uint32_t block = 0) {
  return philox(seed, {{static_cast<std::uint32_t>(step), static_cast<std::uint32_t>(step >> 32),
                        id, static_cast<std::uint32_t>(stream) | block << 8}});
}

// 64 random bits of draw `index` < 2^25 of a place.
PPO_HD std::uint64_t counter_word(std::uint64_t seed, Stream stream, std::uint32_t id,
                                  std::uint64_t step, std::uint32_t index) {
  const Philox4x32 bits = counter_bits(seed, stream, id, step, index / 2);
  const bool odd = index % 2 != 0;
  const std::uint32_t low = odd ? bits.word[2] : bits.word[0];
  const std::uint32_t high = odd ? bits.word[3] : bits.word[1];
  return (static_cast<std::uint64_t>(high) << 32) | low;
}

// A double in [0, 1) with 53 random bits.
PPO_HD double counter_uniform(std::uint64_t seed, Stream stream, std::uint32_t id,
                              std::uint64_t step, std::uint32_t index = 0) {
  return static_cast<double>(counter_word(seed, stream, id, step, index) >> 11) *
         (1.0 / 9007199254740992.0);
}

// A double in (0, 1) with 52 random bits, symmetric about 1/2.
PPO_HD double counter_open_uniform(std::uint64_t seed, Stream stream, std::uint32_t id,
                                   std::uint64_t step, std::uint32_t index) {
  return (static_cast<double>(counter_word(seed, stream, id, step, index) >> 12) + 0.5) *
         (1.0 / 4503599627370496.0);
}

}  // namespace ppo
