// CRC-32C, the checksum of TensorBoard's records: reflected polynomial 0x1edc6f41 (Castagnoli), as in RFC 3720,
// appendix B.4.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace ppo {

namespace detail {

// The remainder of each byte.
constexpr std::array<std::uint32_t, 256> crc32c_table() {
  std::array<std::uint32_t, 256> table = {};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t rest = byte;
    for (int bit = 0; bit < 8; ++bit) rest = (rest >> 1) ^ ((rest & 1u) != 0 ? 0x82f63b78u : 0u);
    table[byte] = rest;
  }
  return table;
}

inline constexpr std::array<std::uint32_t, 256> kCrc32cTable = crc32c_table();

}  // namespace detail

inline std::uint32_t crc32c(const char* data, std::size_t size) {
  std::uint32_t rest = 0xffffffffu;
  for (std::size_t i = 0; i < size; ++i) {
    const auto byte = static_cast<unsigned char>(data[i]);
    rest = (rest >> 8) ^ detail::kCrc32cTable[(rest ^ byte) & 0xffu];
  }
  return ~rest;
}

}  // namespace ppo
